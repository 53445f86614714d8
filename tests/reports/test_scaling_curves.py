"""Scaling curves on values whose truth is known: saturation, peaks, noise, and the coverage of the intervals."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats

from fuxictr_me.reports.study.curve_findings import FLOPS, PARAMETERS, curve_rows, describe_curves, measure_curves
from fuxictr_me.reports.study.scaling_curves import fit_power_law, measure_curve, saturation_size
from fuxictr_me.reports.study.scaling_figure import draw_scaling_curves
from fuxictr_me.study.results import CellResult, RunResult, StudyResults

SIZES = np.array([1.0, 2, 4, 10])
FEW = 200  # resamples, in tests that repeat a measurement


def noisy(truth, seeds=5, sd=1e-3, seed=0):
    return truth + np.random.default_rng(seed).normal(0, sd, (seeds, len(truth)))


def verdicts(truth, repeats, **options):
    return Counter(measure_curve(SIZES, noisy(truth, seed=i, **options), resamples=FEW).verdict for i in range(repeats))


@pytest.mark.parametrize(("a", "b", "c"), [(0.8, 0.02, 1.5), (0.7, 0.1, 0.4), (0.75, -0.01, 0.9)])
def test_the_power_law_is_that_of_scipy(a, b, c):
    values = a - b * SIZES**-c + np.array([1, -2, 1.5, -0.5]) * 1e-4
    law = lambda s, a, b, c: a - b * s**-c  # noqa: E731
    expected, _ = optimize.curve_fit(law, SIZES, values, p0=(a, b, c))
    found = [float(value) for value in fit_power_law(SIZES, values)]
    error, least = (np.sum((law(SIZES, *p) - values) ** 2) for p in (found, expected))
    assert error < 1.05 * least + 1e-12 and found[2] == pytest.approx(expected[2], rel=0.03)
    many = fit_power_law(SIZES, np.stack([values, values + 1]))
    assert many[0][0] == pytest.approx(found[0]) and many[0][1] == pytest.approx(found[0] + 1)


def test_a_planted_saturation_is_found_within_its_interval():
    c = 1.5
    curve = measure_curve(SIZES, noisy(0.8 - 0.02 * SIZES**-c, sd=3e-4))
    truth = 10 ** (1 / c)  # at this size 90 % of the gain is reached, as s^(-c) = 1 / 10
    assert saturation_size(c) == pytest.approx(truth)
    assert curve.verdict == "stops" and curve.saturation.low < truth < curve.saturation.high < 10
    assert verdicts(0.8 - 0.02 * SIZES**-c, 20, sd=3e-4) == {"stops": 20}


def test_interactions_of_planted_rank_saturate_at_that_rank():
    """The best approximation of rank s of an interaction of rank 3, whose AUC is measured on drawn clicks.

    The interaction has singular values that fall by halves, as a power law cannot follow a straight line to a knee.
    """
    rank, ranks, values = 3, np.arange(1, 9), []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        u, v = (np.linalg.qr(rng.normal(size=(60, rank)))[0] for _ in range(2))
        logits = (u * [240, 120, 60]) @ v.T
        clicks = rng.random((20, 60, 60)) < 1 / (1 + np.exp(-logits))
        left, sigma, right = np.linalg.svd(logits)
        row = []
        for size in ranks:
            ranked = stats.rankdata((left[:, :size] * sigma[:size]) @ right[:size]).reshape(60, 60)
            positive = clicks.sum(axis=0)  # Mann and Whitney's statistic over pairs of a click and another impression
            order = np.argsort(ranked, axis=None)
            p, n = positive.ravel()[order], (20 - positive).ravel()[order]
            row.append(np.sum(p * (np.cumsum(n) - n / 2)) / (p.sum() * n.sum()))
        values.append(row)
    curve = measure_curve(ranks, np.array(values))
    assert curve.verdict == "stops" and 2 < curve.saturation.value < 4.5
    means = np.mean(values, axis=0)
    assert means[1] - means[0] > 0.02 and means[2] - means[1] > 0.01 and np.ptp(means[2:]) < 0.005


def test_a_planted_peak_is_found():
    truth = np.array([0.8, 0.805, 0.808, 0.8])
    curve = measure_curve(SIZES, noisy(truth))
    assert curve.verdict == "peaks" and curve.best == 4 and curve.drop.high < 0 < curve.rise.low
    assert verdicts(truth, 20)["peaks"] >= 18
    assert verdicts(np.array([0.81, 0.808, 0.805, 0.8]), 20)["loses"] >= 18


def test_growth_without_end_still_gains():
    assert verdicts(0.8 + 0.005 * np.log(SIZES), 20)["still gains"] >= 18


def test_noise_is_called_noise():
    """The 95 % intervals may be wrong in one of twenty studies."""
    found = verdicts(np.full(4, 0.8), 200)
    assert found["cannot tell"] >= 190


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_cover_the_truth_as_often_as_they_say(seeds):
    """95 % for the saturation; at least 95 % for the gain, which is corrected for three differences of sizes."""
    c, repeats, covered = 1.2, 200, {"saturation": 0, "gain": 0}
    truth = 0.8 - 0.02 * SIZES**-c
    for i in range(repeats):
        curve = measure_curve(SIZES, noisy(truth, seeds, 5e-4, seed=i), resamples=FEW)
        covered["saturation"] += curve.saturation.low <= 10 ** (1 / c) <= curve.saturation.high
        covered["gain"] += curve.gain.low <= truth[-1] - truth[0] <= curve.gain.high
    assert 0.9 <= covered["saturation"] / repeats <= 0.99
    assert covered["gain"] / repeats >= 0.95


def test_the_interval_of_a_gain_is_that_of_student():
    """With many resamples it is the paired t interval, at the level that Bonferroni's correction gives."""
    values = noisy(0.8 + 0.002 * np.log(SIZES))
    curve = measure_curve(SIZES, values, resamples=20_000)
    d = values[:, -1] - values[:, 0]
    low, high = stats.t.interval(1 - 0.05 / 3, len(d) - 1, d.mean(), stats.sem(d))
    assert (curve.gain.low, curve.gain.high) == pytest.approx((low, high), abs=0.03 * (high - low))


@pytest.mark.parametrize(("sizes", "seeds"), [(3, 5), (4, 2), (4, 0)])
def test_too_few_sizes_or_seeds_conclude_nothing(sizes, seeds):
    curve = measure_curve(SIZES[:sizes], np.full((seeds, sizes), 0.8))
    assert curve.verdict == "too few" and curve.gain is None and np.isnan(curve.c)


# --- of a study


def a_study(seeds=(1, 2, 3, 4, 5), scales=(2, 4, 10), models=("DNN_ME",)):
    """SE peaks at 4x and ME grows, in AUC; logloss is 1 − AUC. The network has 1,000 weights per set."""
    laws = {"SE": {1: 0.7, 2: 0.705, 4: 0.708, 10: 0.7}, "ME": {k: 0.7 + 0.005 * np.log(k) for k in (1, 2, 4, 10)}}
    cells = []
    for model, (kind, scale) in itertools.product(
        models, [("base", 1), *((kind, k) for kind in ("SE", "ME") for k in scales)]
    ):
        runs = []
        for seed in seeds:
            noise = np.random.default_rng([seed, scale, len(kind)]).normal(0, 3e-4)
            auc = laws["SE" if kind == "base" else kind][scale] + noise
            sets = scale if kind == "ME" else 1
            test = {"AUC": auc, "logloss": 1 - auc}
            runs.append(RunResult("x", seed, test, test, 5000 * scale + 1000 * sets, 5000 * scale, 1.0, 10, None, []))
        cells.append(CellResult(model, kind, scale, 1, 10, {}, tuple(runs)))
    return StudyResults("s", "made", tuple(seeds), "AUC", "max", {}, {}, {}, tuple(cells))


def test_curves_of_a_study_in_sentences():
    (sentence,) = describe_curves(a_study(), "AUC")
    assert sentence.startswith("Scaling curve of DNN_ME, test AUC: SE peaks at about 4x and is worse at 10x (−0.00")
    assert "; ME still gains at 10x (+0.00" in sentence and " from 4x)." in sentence
    (of_loss,) = describe_curves(a_study(), "logloss")
    assert of_loss == sentence.replace("AUC", "logloss")  # gains of a loss are positive, too
    (few,) = describe_curves(a_study(scales=(2, 4)), "AUC")
    assert few == "Scaling curves need 4 sizes and 3 seeds; this study has 3 sizes and 5 seeds."
    assert describe_curves(a_study(seeds=(1, 2)), "AUC")[0].endswith("this study has 4 sizes and 2 seeds.")


def test_sizes_are_parameters_or_flops_of_the_network():
    results = a_study()
    for axis, kind, sizes in ((PARAMETERS, "SE", [1, 2, 4, 10]), (FLOPS, "ME", [1, 2, 4, 10])):
        (curve,) = (c for c in measure_curves(results, "AUC", axis) if c.kind == kind)
        assert curve.curve.sizes.tolist() == sizes
    assert {c.base_cost for c in measure_curves(results, "AUC", FLOPS)} == {6 * 1000}
    assert [c.kind for c in measure_curves(results, "AUC", FLOPS)] == ["ME"]  # the network of SE does not grow here


def test_a_missing_seed_is_left_out_at_all_sizes():
    results = a_study()
    cell = results.cell("DNN_ME", "SE", 4)
    short = replace(cell, runs=cell.runs[1:])
    results = replace(results, cells=tuple(short if c is cell else c for c in results.cells))
    assert [c.curve.num_seeds for c in measure_curves(results, "AUC", PARAMETERS)] == [4, 5]


def test_rows_have_the_numbers_and_the_figure_the_points():
    results = a_study(models=("DNN_ME", "DCNv2_ME"))
    rows = curve_rows(results)
    assert len(rows) == 2 * 2 * 3  # metrics, models; SE and ME by parameters, ME by FLOPs
    first = rows[0]
    curve = measure_curves(results, "AUC", PARAMETERS)[0].curve
    columns = ("model", "kind", "verdict", "best_below_largest")
    assert [first[column] for column in columns] == ["DNN_ME", "SE", "peaks", 4]
    assert (first["gain"], first["drop_high"], first["base"]) == (curve.gain.value, curve.drop.high, 5000)
    few = curve_rows(a_study(scales=(2,)))[0]
    assert few["verdict"] == "too few" and few["a"] is None and few["saturation"] is None
    figure = draw_scaling_curves(results, "AUC")
    assert len(figure.axes) == 4
    lines = {line.get_label(): line for line in figure.axes[0].lines}
    aucs = [run.test["AUC"] for run in results.cell("DNN_ME", "SE", 4).runs]
    assert lines["SE 4x"].get_ydata().tolist() == aucs and lines["SE 4x"].get_xdata() == pytest.approx(20_000, rel=0.03)
    ticks = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert ticks == ["1x\n5k", "2x\n10k", "4x\n20k", "10x\n50k"]
    assert lines["curve of SE"].get_ydata() == pytest.approx(curve.a - curve.b * curve.grid**-curve.c)
