"""The measures of collapse, weighted spectra, spaces of sets and the law, against numpy and scipy."""

import doctest
import importlib
import itertools
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import subspace_angles
from torch.linalg import svdvals

from fuxictr_me import UsageError
from fuxictr_me.collapse import (
    alpha_req,
    block_norms,
    effective_rank,
    id_counts,
    information_abundance,
    interaction_collapse,
    participation_ratio,
    principal_angles,
    singular_values,
    stable_rank,
    table_space_similarity,
    triangular_factor,
    variance_of_norms,
    weighted_abundance,
    weighted_triangular_factor,
)
from fuxictr_me.collapse.spectrum import CHUNK_ROWS
from fuxictr_me.nn.penalties import norm_alignment, space_similarity

OF_SPECTRA = (effective_rank, stable_rank, participation_ratio, alpha_req)


@pytest.mark.parametrize("name", ["measures", "weighted", "sub_embeddings", "between_sets", "collapse_law", "spectrum"])
def test_worked_cases_of_the_docstrings(name):
    module = importlib.import_module(f"fuxictr_me.collapse.{name}")
    result = doctest.testmod(module, extraglobs={"np": np, "torch": torch})
    assert result.attempted and not result.failed


# --- measures of singular values ---------------------------------------------------------------------


def test_measures_of_singular_values_equal_their_formulas():
    table = torch.randn(500, 12) * torch.logspace(0, -2, 12)
    sigma = np.linalg.svd(table.double().numpy(), compute_uv=False)
    eigenvalues = np.linalg.eigvalsh(table.double().numpy().T @ table.double().numpy())
    got = singular_values(table)
    assert effective_rank(got) == pytest.approx(np.exp(stats.entropy(sigma)), rel=1e-12)
    squares = np.linalg.norm(table.double()) ** 2, np.linalg.norm(table.double(), 2) ** 2
    assert stable_rank(got) == pytest.approx(squares[0] / squares[1], rel=1e-12)
    assert participation_ratio(got) == pytest.approx(eigenvalues.sum() ** 2 / (eigenvalues**2).sum(), rel=1e-12)
    slope = stats.linregress(np.log(range(1, 13)), np.log(sigma**2)).slope
    assert alpha_req(got) == pytest.approx(-slope, rel=1e-11)


@pytest.mark.parametrize("measure", OF_SPECTRA)
@pytest.mark.parametrize("scale", [1e-200, 1e-4, 1e200])
def test_neither_order_nor_scale_matters(measure, scale):
    sigma = torch.tensor([5.0, 3.0, 2.0, 0.5], dtype=torch.float64)
    assert measure(sigma[[2, 0, 3, 1]] * scale) == pytest.approx(measure(sigma), rel=1e-12)


def test_known_spectra():
    flat, single, zero = torch.full((7,), 3.0), torch.tensor([3.0, 0.0, 0.0]), torch.zeros(4)
    for measure in OF_SPECTRA[:3]:
        assert measure(flat) == pytest.approx(7, rel=1e-12)
        assert measure(single) == 1.0
        assert measure(zero) == measure(zero[:0]) == 0.0
    assert alpha_req(flat) == pytest.approx(0, abs=1e-12)
    assert all(np.isnan(alpha_req(sigma)) for sigma in (single, zero, zero[:0]))
    power_law = torch.arange(1, 40).double() ** -0.75
    assert alpha_req(power_law) == pytest.approx(1.5, rel=1e-12)
    assert alpha_req(torch.cat([power_law, torch.tensor([1e-9, 0.0])])) == pytest.approx(1.5, rel=1e-12)


@pytest.mark.parametrize("measure", OF_SPECTRA)
@pytest.mark.parametrize("bad", [[1.0, float("nan")], [float("inf"), 1.0], [1.0, -1.0], [[1.0]]])
def test_not_a_spectrum(measure, bad):
    with pytest.raises(ValueError, match="finite numbers of 0 or more"):
        measure(torch.tensor(bad))


# --- weighted by the data ----------------------------------------------------------------------------


def test_weighted_spectrum_is_that_of_the_rows_the_data_looks_up():
    table = torch.randn(40, 6)
    ids = torch.randint(0, 30, (900,)) ** 2 // 30  # frequent small ids, and none above 28
    counts = id_counts([{"item": ids}], {"item": 40})["item"]
    looked_up = np.linalg.svd(table[ids].double().numpy(), compute_uv=False)
    np.testing.assert_allclose(svdvals(weighted_triangular_factor(table, counts)), looked_up, rtol=1e-12)
    expected = looked_up.sum() / looked_up.max()
    assert weighted_abundance(table, counts) == pytest.approx(expected, rel=1e-12)
    assert weighted_abundance(table, 1e6 * counts) == pytest.approx(expected, rel=1e-12)
    assert weighted_abundance(table, counts) != pytest.approx(information_abundance(table), rel=1e-3)
    without = np.linalg.svd(table[ids[ids != 1]].double().numpy(), compute_uv=False)
    np.testing.assert_allclose(svdvals(weighted_triangular_factor(table, counts, exclude=[1])), without, rtol=1e-12)


def test_weighted_factor_of_tall_tables_side_by_side():
    sets = [torch.randn(2 * CHUNK_ROWS + 5, 3), torch.randn(2 * CHUNK_ROWS + 5, 2, dtype=torch.float64)]
    counts = torch.randint(0, 50, (len(sets[0]),))
    whole = torch.cat([table.double() for table in sets], dim=1).numpy()
    R = weighted_triangular_factor(sets, counts)
    assert R.shape == (5, 5) and R.dtype == torch.float64
    np.testing.assert_allclose(R.T @ R, whole.T @ (counts.numpy()[:, None] * whole), rtol=1e-10)
    unweighted = weighted_triangular_factor(sets, torch.ones(len(whole)))
    np.testing.assert_allclose(svdvals(unweighted), np.linalg.svd(whole, compute_uv=False), rtol=1e-12)


def test_weights_of_nothing_and_wrong_weights():
    assert weighted_abundance(torch.ones(3, 2), torch.zeros(3)) == weighted_abundance(torch.ones(0, 2), []) == 0.0
    for wrong in ([1, 2], [1, -1, 2], [1, float("nan"), 2], [[1, 2, 3]]):
        with pytest.raises(ValueError, match="counts must be 3 numbers"):
            weighted_abundance(torch.ones(3, 2), torch.tensor(wrong))


def test_ids_are_counted_over_batches():
    random = np.random.default_rng(0)
    batches = [
        {"user": torch.tensor(random.integers(0, 9, 20)), "seen": random.integers(0, 6, (20, 3)), "label": None}
        for _ in range(4)
    ]
    counts = id_counts(batches, {"user": 11, "seen": 6})
    for field, rows in (("user", 11), ("seen", 6)):
        expected = Counter(int(i) for batch in batches for i in np.asarray(batch[field]).ravel())
        assert counts[field].tolist() == [expected[i] for i in range(rows)]
    assert id_counts([], {"user": 2})["user"].tolist() == [0, 0]
    with pytest.raises(UsageError, match=r"no field 'place' \(their columns: user, seen, label\)"):
        id_counts(batches, {"place": 3})
    with pytest.raises(UsageError, match="field 'user' has ids from 0 to 8, but its table holds 0 to 4"):
        id_counts(batches, {"user": 5})


# --- between sets ------------------------------------------------------------------------------------


def random_tables(rows, *widths):
    return [torch.randn(rows, width, dtype=torch.float64) for width in widths]


@pytest.mark.parametrize("shape", [(50, 4, 4), (50, 3, 6), (50, 6, 3), (7, 5, 4), (5, 8, 3), (2 * CHUNK_ROWS, 3, 2)])
def test_principal_angles_equal_scipys(shape):
    A, B = random_tables(*shape)
    got = principal_angles(A, B)
    np.testing.assert_allclose(got, subspace_angles(A, B), atol=1e-7 if shape[0] < 9 else 1e-10)
    factor = triangular_factor([A, B])
    np.testing.assert_allclose(principal_angles(*factor.split(list(shape[1:]), dim=1)), got, atol=1e-7)


def test_principal_angles_of_known_spaces():
    basis = torch.linalg.qr(torch.randn(100, 6, dtype=torch.float64)).Q
    wanted = torch.tensor([1.5, 0.4, 1e-8], dtype=torch.float64)
    turned = basis[:, :3] * wanted.cos() + basis[:, 3:] * wanted.sin()
    mixed = turned @ torch.randn(3, 3, dtype=torch.float64)
    np.testing.assert_allclose(principal_angles(basis[:, :3], mixed), wanted, rtol=1e-6)
    torch.testing.assert_close(principal_angles(basis[:, :3], basis[:, 3:]), torch.full((3,), torch.pi / 2).double())
    assert principal_angles(basis, basis @ torch.randn(6, 6).double()).abs().max() < 1e-10


def test_rank_deficient_and_empty_spaces():
    A, B, left, right = random_tables(60, 4, 3, 2, 5)
    deficient = (left @ right[:2]).float()  # rank 2 of 5, to the rounding of float32
    got = principal_angles(deficient, A)
    np.testing.assert_allclose(got, subspace_angles(left, A), atol=1e-5)
    assert len(got) == 2
    assert principal_angles(torch.zeros(60, 3), B).shape == (0,)
    assert principal_angles(B[:0], B[:0]).shape == (0,)


def test_space_similarity_of_tables_is_the_authors_of_a_batch_that_holds_all_rows():
    e = torch.randn(200, 3, 2, 4, dtype=torch.float64)  # (D, M, F, K)
    fields = [list(e[:, :, f].unbind(1)) for f in range(2)]
    of_pairs = [
        np.mean([np.linalg.svd((sets[m].T @ sets[n]).numpy(), compute_uv=False) for sets in fields], axis=0)
        for m, n in ((0, 1), (0, 2), (1, 2))
    ]
    expected = np.mean(np.square(of_pairs))
    assert table_space_similarity(fields) == pytest.approx(expected, rel=1e-10)
    assert space_similarity(e).item() == pytest.approx(expected, rel=1e-10)
    factors = [triangular_factor(sets).split(4, dim=1) for sets in fields]
    assert table_space_similarity(factors) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    "fields", [[], [random_tables(9, 4)], [random_tables(9, 4, 5)], [random_tables(9, 4, 4), random_tables(9, 2, 2)]]
)
def test_space_similarity_needs_sets_of_one_dimension(fields):
    with pytest.raises(ValueError, match="same number of tables, 2 or more, of one dimension"):
        table_space_similarity(fields)


def test_variance_of_norms_is_what_the_penalty_averages():
    blocks = torch.randn(3, 5, 5, 4, 4, dtype=torch.float64)  # (M, F, F, K, K)
    norms = torch.stack([block_norms(of_set) for of_set in blocks])
    got = variance_of_norms(norms)
    expected = np.var([[[(W**2).sum() for W in row] for row in of_set] for of_set in blocks.numpy()], axis=0)
    np.testing.assert_allclose(got, expected, rtol=1e-10)
    assert got.mean().item() == pytest.approx(norm_alignment(norms[:, None].square()).item(), rel=1e-12)


# --- the law -----------------------------------------------------------------------------------------


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
def test_p_value_is_the_share_of_all_relabellings(slope):
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


def test_p_values_count_the_fields_themselves_and_ties():
    a = np.array([1.0, 2.0, 4.0])
    additive = a[:, None] + a
    assert interaction_collapse(additive, a, permutations=20_000).partner.p_value == pytest.approx(1 / 6, abs=0.02)
    assert {interaction_collapse(additive, a, permutations=1, seed=s).own.p_value for s in range(20)} == {0.5, 1.0}


def test_the_law_is_found_where_it_holds_and_p_values_are_even_where_it_does_not():
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


def test_seeded_and_the_diagonal_is_not_read():
    random = np.random.default_rng(4)
    a, y = random.uniform(1, 10, 6), random.uniform(1, 10, (6, 6))
    law = interaction_collapse(y, a, permutations=99)
    np.fill_diagonal(y, np.nan)
    assert interaction_collapse(y, a, permutations=99) == law
    assert len({interaction_collapse(y, a, permutations=99, seed=s).own.p_value for s in range(5)}) > 1


def test_what_does_not_vary_has_no_correlation():
    a = np.array([1.0, 2.0, 4.0, 7.0])
    of_fwfm = np.tile(a[:, None], 4) * (1 + 1e-15 * np.random.default_rng(0).normal(size=(4, 4)))
    law = interaction_collapse(of_fwfm, a)
    assert law.own.pearson == pytest.approx(1) and law.own.partial_spearman == pytest.approx(1)
    assert np.isnan(law.partner.partial_pearson) and np.isnan(law.partner.partial_spearman)
    assert np.isnan(law.partner.p_value) and np.isfinite(law.own.p_value)
    for fields in (0, 1, 2):
        law = interaction_collapse(np.ones((fields, fields)), np.arange(fields) + 1.0)
        assert np.isnan(law.partner.partial_pearson) and law.num_fields == fields


def test_fields_without_tables_are_left_out_and_gaps_are_not():
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
