"""The interaction-collapse law, against correlations of scipy and all relabellings."""

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from fuxictr_me import UsageError
from fuxictr_me.collapse import interaction_collapse


def pairs_of(y, a):
    i, j = np.array([(i, j) for i in range(len(a)) for j in range(len(a)) if i != j]).T
    return y[i, j], a[i], a[j], i, j


def plain_partial(value, of_field, group):
    """Correlation of the residuals of two regressions on dummies of ``group``."""
    dummies = (group[:, None] == np.unique(group)).astype(float)
    residuals = [x - dummies @ np.linalg.lstsq(dummies, x, rcond=None)[0] for x in (value, of_field)]
    return np.corrcoef(residuals)[0, 1]


def ranks_within(x, group):
    ranks = np.empty(len(x))
    for g in np.unique(group):
        ranks[group == g] = stats.rankdata(x[group == g])
    return ranks


def test_correlations_of_the_law():
    random = np.random.default_rng(1)
    a = random.uniform(1, 10, 8).round(0)  # with ties
    y = a[:, None] * 0.8 + np.sqrt(a) + random.normal(0, 1, (8, 8))
    law = interaction_collapse(torch.tensor(y), torch.tensor(a), permutations=9)
    value, own, partner, i, j = pairs_of(y, a)
    for got, x, group in ((law.partner, partner, i), (law.own, own, j)):
        assert got.pearson == pytest.approx(stats.pearsonr(value, x).statistic, rel=1e-7)
        assert got.spearman == pytest.approx(stats.spearmanr(value, x).statistic, rel=1e-7)
        assert got.partial_pearson == pytest.approx(plain_partial(value, x, group), rel=1e-7)
        expected = plain_partial(ranks_within(value, group), ranks_within(x, group), group)
        assert got.partial_spearman == pytest.approx(expected, rel=1e-7)
    assert law.num_fields == 8


@pytest.mark.parametrize("slope", [0.0, 0.4])
def test_p_value_is_the_share_among_all_relabellings(slope):
    random = np.random.default_rng(2)
    a = np.array([1.0, 2.0, 2.5, 4.0, 6.0])
    y = random.normal(0, 1, (5, 5)) + slope * a + 3 * random.normal(0, 1, (5, 1))
    value, own, partner, i, j = pairs_of(y, a)
    for got, x, group, field in (("partner", partner, i, j), ("own", own, j, i)):
        observed = plain_partial(value, x, group)
        relabelled = [plain_partial(value, np.array(p)[field], group) for p in itertools.permutations(a)]
        exact = np.mean([r >= observed - 1e-9 for r in relabelled])
        p_value = getattr(interaction_collapse(y, a, permutations=20_000), got).p_value
        assert p_value == pytest.approx(exact, abs=0.02)


def test_p_values_count_the_original_labelling_and_ties():
    a = np.array([1.0, 2.0, 4.0])
    additive = a[:, None] + a
    assert interaction_collapse(additive, a, permutations=20_000).partner.p_value == pytest.approx(1 / 6, abs=0.02)
    assert {interaction_collapse(additive, a, permutations=1, seed=s).own.p_value for s in range(20)} == {0.5, 1.0}


def test_p_values_are_small_if_the_law_holds_and_uniform_if_not():
    random = np.random.default_rng(3)
    a = random.uniform(1, 10, 12)
    holds = 0.5 * a[:, None] + 0.2 * a + random.normal(0, 0.5, (12, 12))
    law = interaction_collapse(holds, a, permutations=999)
    assert law.partner.p_value < 0.01 and law.own.p_value < 0.01 and law.partner.partial_pearson > 0.5
    against = interaction_collapse(0.5 * a[:, None] - 0.2 * a + random.normal(0, 0.5, (12, 12)), a, permutations=999)
    assert against.partner.p_value > 0.99
    columns = random.normal(0, 1, (300, 1, 12))  # columns that differ, but not by IA(E_j): pairs are not independent
    y = 0.5 * a[:, None] + columns + random.normal(0, 1, (300, 12, 12))
    p = [interaction_collapse(one, a, permutations=99).partner.p_value for one in y]
    assert stats.kstest(p, "uniform").statistic < 0.1


def test_results_depend_on_the_seed_and_not_on_the_diagonal():
    random = np.random.default_rng(4)
    a, y = random.uniform(1, 10, 6), random.uniform(1, 10, (6, 6))
    law = interaction_collapse(y, a, permutations=99)
    np.fill_diagonal(y, np.nan)
    assert interaction_collapse(y, a, permutations=99) == law
    assert len({interaction_collapse(y, a, permutations=99, seed=s).own.p_value for s in range(5)}) > 1


def test_constant_values_have_no_correlation():
    a = np.array([1.0, 2.0, 4.0, 7.0])
    of_fwfm = np.tile(a[:, None], 4) * (1 + 1e-15 * np.random.default_rng(0).normal(size=(4, 4)))
    law = interaction_collapse(of_fwfm, a)
    assert law.own.pearson == pytest.approx(1) and law.own.partial_spearman == pytest.approx(1)
    assert np.isnan(law.partner.partial_pearson) and np.isnan(law.partner.partial_spearman)
    assert np.isnan(law.partner.p_value) and np.isfinite(law.own.p_value)
    for fields in (0, 1, 2):
        law = interaction_collapse(np.ones((fields, fields)), np.arange(fields) + 1.0)
        assert np.isnan(law.partner.partial_pearson) and law.num_fields == fields


def test_fields_without_tables_are_left_out_and_missing_pairs_are_refused():
    random = np.random.default_rng(5)
    a, y = random.uniform(1, 10, 6), random.uniform(1, 10, (6, 6))
    a_more, y_more = np.insert(a, 2, np.nan), np.insert(np.insert(y, 2, np.nan, axis=0), 2, 3.0, axis=1)
    assert interaction_collapse(y_more, a_more, permutations=99) == interaction_collapse(y, a, permutations=99)
    y[1, 3] = np.nan
    with pytest.raises(ValueError, match="that both have tables is missing"):
        interaction_collapse(y, a)
    with pytest.raises(ValueError, match=r"got \(6, 6\) and \(5,\)"):
        interaction_collapse(y, a[:5])
    with pytest.raises(UsageError, match="permutations must be an integer of 1 or more, got 0"):
        interaction_collapse(np.ones((6, 6)), a, permutations=0)
