"""The benchmark that averages the predictions of models that were trained apart."""

import numpy as np
import pytest
from helpers.benchmark_files import load_benchmark
from scipy import stats


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("independent_ensembles")


def test_groups_share_no_model_and_average_logits(benchmark):
    rng = np.random.default_rng(0)
    labels, logits = rng.integers(0, 2, 60), rng.normal(size=(5, 60))
    aucs, losses = benchmark.measure_groups(labels, logits, 2)
    for auc, loss, (a, b) in zip(aucs, losses, ((0, 1), (2, 3)), strict=True):  # the fifth model is left over
        mean = (logits[a] + logits[b]) / 2
        wins = [(x > y) + 0.5 * (x == y) for x in mean[labels == 1] for y in mean[labels == 0]]
        assert auc == pytest.approx(np.mean(wins))
        p = 1 / (1 + np.exp(-mean))
        assert loss == pytest.approx(-np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p)))
    assert benchmark.measure_groups(labels, logits, 6) == ([], [])


def test_kinds_are_compared_with_groups_of_their_size(benchmark, tmp_path):
    rows = ["model,kind,scale,test_AUC", "A,base,1,0.7", "B,ME,4,0.1"]
    rows += [f"A,{kind},4,{auc}" for kind, aucs in {"SE": (0.7, 0.72), "ME": (0.8, 0.83)}.items() for auc in aucs]
    (tmp_path / "runs.csv").write_text("\n".join([*rows, "A,ME,10,0.9"]))
    kinds = benchmark.read_kinds(tmp_path / "runs.csv", "A", [1, 4])
    assert kinds == {("SE", 4): [0.7, 0.72], ("ME", 4): [0.8, 0.83]}
    groups = {4: [0.75, 0.752, 0.749]}
    _, _, of_se, of_me = benchmark.compare(kinds, groups)
    p_se, p_me = (stats.ttest_ind(kinds[kind, 4], groups[4], equal_var=False).pvalue for kind in ("SE", "ME"))
    assert of_se.startswith("| SE 4x | 2 | 3 | -0.04033 |") and of_se.endswith(
        f"| {p_se:.2g} | {max(p_se, 2 * p_me):.2g} |"
    )
    assert of_me.startswith("| ME 4x | 2 | 3 | +0.06467 |") and of_me.endswith(f"| {p_me:.2g} | {2 * p_me:.2g} |")
