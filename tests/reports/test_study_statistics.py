"""The statistics of a study against scipy, textbooks, brute force and simulation."""

import itertools

import numpy as np
import pytest
from scipy import optimize, stats

from fuxictr_me.reports.study.comparisons import compare_kinds, list_questions
from fuxictr_me.reports.study.metric_values import IA, IA_RANDOM, IA_RATIO, list_test_metrics, values_by_seed
from fuxictr_me.reports.study.published import published_auc, published_aucs
from fuxictr_me.reports.study.statistics import (
    FEWEST_SEEDS,
    NO_DIFFERENCE,
    PairedTest,
    adjust_by_holm,
    compare_pairs,
    conclude,
    detectable_difference,
    mean_and_sd,
    signed_rank_p,
    smallest_signed_rank_p,
)
from fuxictr_me.study.results import CellResult, RunResult, StudyResults

SLEEP = (  # hours of sleep gained under two drugs, ten patients: Student (1908), Biometrika 6
    [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0],
    [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4],
)


# --- one comparison ----------------------------------------------------------------------------------


def test_mean_and_sd():
    assert mean_and_sd([2, 4, 4, 4, 5, 5, 7, 9]) == (5.0, pytest.approx(np.sqrt(32 / 7)))
    assert mean_and_sd([0.5]) == (0.5, None) and mean_and_sd([]) == (None, None)


def test_paired_t_test_of_students_example():
    pair = compare_pairs(*SLEEP)
    assert (pair.n, pair.mean, pair.sd) == (10, pytest.approx(-1.58), pytest.approx(1.229995, abs=1e-6))
    assert pair.p == pytest.approx(0.002833, abs=1e-6)
    assert (pair.low, pair.high) == (pytest.approx(-2.4598858, abs=1e-7), pytest.approx(-0.7001142, abs=1e-7))


@pytest.mark.parametrize("n", [2, 3, 5, 8, 12])
def test_pairs_are_compared_like_scipy_does(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.8, 1e-3, n), rng.normal(0.8, 1e-3, n)
    pair, expected = compare_pairs(a, b, level=0.9), stats.ttest_rel(a, b)
    assert pair.p == pytest.approx(expected.pvalue, rel=1e-6)
    assert (pair.low, pair.high) == pytest.approx(tuple(expected.confidence_interval(0.9)), rel=1e-6)
    assert pair.p_wilcoxon == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue)


@pytest.mark.parametrize("d", [[1, 1, 2, -3, 3, 4], [0, 2, -2, 5, 5], [-1, -1, -1, 1], [3, 0, 0], list(range(-3, 8))])
def test_signed_ranks_with_ties_and_zeros_equal_an_enumeration_of_all_signs(d):
    kept = np.array([x for x in d if x != 0])
    ranks = stats.rankdata(abs(kept))
    seen = ranks[kept > 0].sum()
    sums = np.array([np.dot(ranks, signs) for signs in itertools.product([0, 1], repeat=len(kept))])
    expected = min(1, 2 * min((sums >= seen - 1e-9).mean(), (sums <= seen + 1e-9).mean()))
    assert signed_rank_p(d) == pytest.approx(expected)


def test_no_pair_one_pair_and_pairs_without_variance():
    assert compare_pairs([], []) == PairedTest(0)
    assert compare_pairs([0.7], [0.6]) == PairedTest(1, pytest.approx(0.1), p_wilcoxon=1.0)
    assert compare_pairs([0.7, 0.8, 0.9], [0.7, 0.8, 0.9]) == PairedTest(3, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0)
    ahead = compare_pairs([1.1, 0.3, 0.71], [1.0, 0.2, 0.61])  # all the same but for the rounding of floats
    assert ahead == PairedTest(3, *[pytest.approx(m) for m in (0.1, 0, 0.1, 0.1)], None, 0.25)
    with pytest.raises(ValueError, match="got 2 and 1"):
        compare_pairs([1, 2], [1])


def test_interval_covers_the_true_mean_at_its_level():
    rng = np.random.default_rng(0)
    for n, level in ((5, 0.95), (3, 0.8)):
        pairs = [compare_pairs(d, np.zeros(n), level) for d in rng.normal(0.3, 1, (1500, n))]
        covered = np.mean([pair.low <= 0.3 <= pair.high for pair in pairs])
        assert covered == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 1500))


# --- many comparisons --------------------------------------------------------------------------------


def test_holm_of_known_examples():
    assert adjust_by_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_by_holm([0.4, 0.6]) == pytest.approx([0.8, 0.8]) and adjust_by_holm([0.9, 0.7]) == [1.0, 1.0]
    assert adjust_by_holm([None, 0.02, None, 0.01]) == [None, 0.02, None, 0.02]
    assert adjust_by_holm([]) == [] and adjust_by_holm([None]) == [None] and adjust_by_holm([0.03]) == [0.03]


def test_holm_rejects_what_its_steps_reject_and_keeps_the_order():
    rng = np.random.default_rng(1)
    for m in (2, 5, 12):
        p = list(rng.beta(0.3, 2, m))
        corrected = adjust_by_holm(p)
        order = np.argsort(p)
        assert all(np.diff(np.array(corrected)[order]) >= 0)
        assert all(raw <= c <= min(1, m * raw) + 1e-15 for raw, c in zip(p, corrected, strict=True))
        rejected = set()
        for step, i in enumerate(order):
            if p[i] > 0.05 / (m - step):
                break
            rejected.add(i)
        assert rejected == {i for i in range(m) if corrected[i] <= 0.05}


def test_the_smallest_p_of_signed_ranks():
    for n in range(1, 11):
        assert smallest_signed_rank_p(n) == signed_rank_p(range(1, n + 1))
    assert (
        smallest_signed_rank_p(5) == 0.0625 and smallest_signed_rank_p(6) == 0.03125 and smallest_signed_rank_p(0) == 1
    )


# --- what could have been shown ----------------------------------------------------------------------


@pytest.mark.parametrize(("n", "level"), [(5, 0.05), (5, 0.05 / 24), (10, 0.05), (20, 0.01)])
def test_detectable_difference_is_found_in_four_of_five_studies(n, level):
    bound = stats.t.isf(level / 2, n - 1)
    effect = optimize.brentq(lambda d: stats.nct.sf(bound, n - 1, d * np.sqrt(n)) - 0.8, 0.01, 8)
    found = detectable_difference(0.002, n, level)
    assert found == pytest.approx(0.002 * effect, rel=1e-6)
    samples = np.random.default_rng(n).normal(found, 0.002, (4000, n))
    assert np.mean(stats.ttest_1samp(samples, 0, axis=1).pvalue <= level) == pytest.approx(0.8, abs=0.025)


def test_detectable_difference_equals_published_tables():
    assert detectable_difference(1, 34) == pytest.approx(0.495, abs=5e-4)  # Cohen's d = 0.5 takes 34 pairs
    assert (
        detectable_difference(None, 5) is None
        and detectable_difference(0.0, 5) is None
        and detectable_difference(0.1, 1) is None
    )


# --- the rule ----------------------------------------------------------------------------------------


def test_conclusions():
    up, down = PairedTest(5, 0.001, p=0.001), PairedTest(5, -0.001, p=0.001)
    assert conclude(up, 0.05) == "ME ahead" and conclude(down, 0.05) == "SE ahead"
    assert conclude(up, 0.0501) == conclude(down, 0.9) == NO_DIFFERENCE
    assert conclude(up, 0.01, is_loss=True) == "SE ahead"
    assert conclude(down, 0.01, "ensemble", "ME", is_loss=True) == "ensemble ahead"
    assert conclude(PairedTest(4, 0.01, p=1e-9), 1e-9) == "nothing can be concluded (4 seeds)"
    assert conclude(PairedTest(1, 0.01), None) == "nothing can be concluded (1 seed)"
    assert conclude(PairedTest(7, 0.01, 0.0), None) == "nothing can be concluded (7 seeds)"
    assert FEWEST_SEEDS == 5


def a_cell(model, kind, scale, auc, logloss=None, ratios=None):
    """A cell of runs with given test values, seeds from 1; None is a seed without a run."""
    runs = []
    for i, value in enumerate(auc):
        if value is not None:
            of_fields = [(ratios[i] - 0.1, 0.5), (ratios[i] + 0.1, None)] if ratios is not None else []
            abundance = [
                {"field": f"f{k}", "num_ids": 50, "dim": 10, "ia": 10 * r, "ia_ratio": r, "ia_random": random}
                for k, (r, random) in enumerate(of_fields)
            ]
            test = {"AUC": value} if logloss is None else {"logloss": logloss[i], "AUC": value}
            runs.append(RunResult(f"{model}_{kind}_{i}", i + 1, test, test, 100, 80, 2.0, 50, None, abundance))
    return CellResult(model, kind, scale, 1, 10, {}, tuple(runs))


def a_study(*cells, num_seeds=6):
    return StudyResults("s", "made", tuple(range(1, num_seeds + 1)), "AUC", "max", {}, {}, {}, cells)


def test_values_are_of_finite_numbers_by_seed():
    cell = a_cell("A_ME", "ME", 2, [0.7, None, float("nan"), 0.9], ratios=[0.3, None, 0.4, 0.5])
    assert values_by_seed(cell, "AUC") == {1: 0.7, 4: 0.9} and values_by_seed(cell, "gAUC") == {}
    assert values_by_seed(cell, IA_RATIO) == pytest.approx({1: 0.3, 3: 0.4, 4: 0.5})
    assert values_by_seed(cell, IA) == pytest.approx({1: 3.0, 3: 4.0, 4: 5.0})
    assert values_by_seed(cell, IA_RANDOM) == {1: 0.5, 3: 0.5, 4: 0.5}  # over the fields that have it
    assert values_by_seed(a_cell("A_ME", "ME", 2, [0.7]), IA) == {}
    assert list_test_metrics(a_study(a_cell("A_ME", "ME", 2, [0.7], [0.4]))) == ["AUC", "logloss"]


def test_cells_are_compared_over_the_seeds_that_both_have():
    rng = np.random.default_rng(3)
    base, se2, se4, me2, me4 = rng.normal(0.8, 1e-3, (5, 6))
    short = [*me4[:2], None, *me4[3:]]
    cells = [a_cell("A_ME", "base", 1, base), a_cell("A_ME", "SE", 2, se2), a_cell("A_ME", "SE", 4, se4)]
    cells += [a_cell("A_ME", "ME", 2, me2), a_cell("A_ME", "ME", 4, short), a_cell("A_ME", "ME", 10, me2)]
    cells += [a_cell("A_ME", "ensemble", 4, se2), a_cell("B_ME", "ME", 2, me2)]
    results = a_study(*cells)
    asked = [("ME", "SE"), ("ensemble", "ME"), ("ME", "base"), ("SE", "base")]
    assert list_questions(results) == asked
    found = compare_kinds(results, "ME", "SE", "AUC")
    assert [(c.model, c.scale) for c in found] == [("A_ME", 2), ("A_ME", 4)]  # 10x and B_ME have no SE
    keep = [0, 1, 3, 4, 5]
    raw = [stats.ttest_rel(me2, se2).pvalue, stats.ttest_rel(me4[keep], se4[keep]).pvalue]
    expected = [2 * raw[0], max(raw[1], 2 * raw[0])] if raw[0] < raw[1] else [max(raw[0], 2 * raw[1]), 2 * raw[1]]
    assert [c.p for c in found] == pytest.approx([min(1, p) for p in expected])
    assert [c.test.n for c in found] == [6, 5] and found[1].test.mean == pytest.approx((me4 - se4)[keep].mean())
    assert found[0].detectable == pytest.approx(detectable_difference(np.std(me2 - se2, ddof=1), 6, 0.025))
    scaling = compare_kinds(results, "ME", "base", "AUC")
    assert [c.scale for c in scaling] == [2, 4, 10] and scaling[2].test.mean == pytest.approx((me2 - base).mean())
    assert [(c.scale, c.first, c.second) for c in compare_kinds(results, "ensemble", "ME", "AUC")] == [
        (4, "ensemble", "ME")
    ]


def test_a_lower_logloss_is_ahead_and_so_is_a_higher_abundance():
    noise = np.array([0, 1e-5, -1e-5, 2e-5, 0])
    se = a_cell("A_ME", "SE", 2, 0.8 + noise, 0.4 + noise, 0.3 + noise)
    me = a_cell("A_ME", "ME", 2, 0.8 - noise, 0.39 - noise, 0.35 - noise)
    results = a_study(se, me, num_seeds=5)
    found = {metric: compare_kinds(results, "ME", "SE", metric)[0] for metric in ("AUC", "logloss", IA_RATIO)}
    assert [(c.conclusion, c.ahead) for c in found.values()] == [(NO_DIFFERENCE, None), *[("ME ahead", "ME")] * 2]
    assert found["logloss"].test.high < 0 < found[IA_RATIO].test.low


def test_fewer_seeds_than_five_show_the_interval_and_conclude_nothing():
    se, me = a_cell("A_ME", "SE", 2, [0.7, 0.71, 0.7, 0.71]), a_cell("A_ME", "ME", 2, [0.8, 0.81, 0.8, 0.8])
    (found,) = compare_kinds(a_study(se, me), "ME", "SE", "AUC")
    assert found.p < 1e-4 and found.test.low > 0.08 and found.ahead is None and found.detectable is None
    assert found.conclusion == "nothing can be concluded (4 seeds)"
    (none,) = compare_kinds(a_study(a_cell("A_ME", "SE", 2, []), me), "ME", "SE", "AUC")
    assert (
        none.conclusion == "nothing can be concluded (0 seeds)"
        and none.test.mean is None is none.test.low is none.test.high
    )


def test_studies_of_equal_kinds_rarely_call_one_ahead():
    rng = np.random.default_rng(5)
    studies, wrong = 400, 0
    for _ in range(studies):
        aucs = rng.normal(0.8, 1e-3, (8, 5))
        cells = [a_cell("A_ME", kind, k, aucs[2 * k + (kind == "ME")]) for kind in ("SE", "ME") for k in range(4)]
        wrong += any(c.ahead for c in compare_kinds(a_study(*cells), "ME", "SE", "AUC"))
    assert wrong / studies < 0.05 + 3 * np.sqrt(0.05 * 0.95 / studies)


# --- the paper's numbers -----------------------------------------------------------------------------


def test_published_numbers():
    criteo = {
        ("DNN_ME", "base"): 0.81228,
        ("DNN_ME", "SE 10x"): 0.81142,
        ("PNN_ME", "ME 10x"): 0.81311,
        ("NFwFM_ME", "SE 4x"): 0.81112,
        ("xDeepFM_ME", "ME 3x"): 0.81239,
        ("DCNv2_ME", "SE 2x"): 0.81341,
        ("DCNv2_ME", "ME 10x"): 0.81385,
        ("FinalMLP_ME", "ME 2x"): 0.81290,
    }
    avazu = {
        ("DNN_ME", "ME 10x"): 0.78884,
        ("PNN_ME", "SE 3x"): 0.78738,
        ("NFwFM_ME", "base"): 0.78684,
        ("xDeepFM_ME", "SE 10x"): 0.78693,
        ("DCNv2_ME", "ME 4x"): 0.78907,
        ("FinalMLP_ME", "SE 4x"): 0.78742,
        ("FinalMLP_ME", "ME 10x"): 0.78830,
    }
    assert {cell: published_auc("criteo_paper", *cell) for cell in criteo} == criteo
    assert {cell: published_auc("avazu_paper", *cell) for cell in avazu} == avazu
    absent = [("criteo_x4", "DNN_ME", "base"), ("criteo_paper", "Mixed_ME", "base"), ("avazu_paper", "DNN_ME", "ME 5x")]
    assert [published_auc(*cell) for cell in absent] == [None, None, None]


def test_published_numbers_of_the_cells_of_a_study():
    cells = [a_cell("DNN_ME", "base", 1, []), a_cell("DNN_ME", "ME", 4, []), a_cell("DNN_ME", "ensemble", 4, [])]
    unknown = StudyResults("s", "avazu_paper", (1,), "AUC", "max", {}, {}, {}, tuple(cells))
    assert published_aucs(unknown) == {}  # it only has the name
    results = StudyResults("s", "avazu_paper", (1,), "AUC", "max", {}, {}, {}, tuple(cells), paper_data="avazu_paper")
    assert published_aucs(results) == {("DNN_ME", "base", 1): 0.78744, ("DNN_ME", "ME", 4): 0.78862}
