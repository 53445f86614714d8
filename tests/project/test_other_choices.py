"""The benchmark that compares cells of a study at values that were not chosen."""

import numpy as np
import pytest
from helpers.benchmark_files import load_benchmark
from helpers.paths import ROOT
from scipy import stats


@pytest.fixture(scope="module")
def benchmark():
    return load_benchmark("other_choices")


def test_pairs_are_of_the_same_seed_and_of_the_given_values(benchmark, tmp_path):
    path, aucs = tmp_path / "runs.csv", {1: (0.71, 0.70), 2: (0.73, 0.705), 3: (0.72, 0.71)}
    rows = ["model,title,embedding_regularizer,seed,valid_AUC,test_AUC", "A_ME,ME 4x,0.1,1,0.9,0.9"]
    rows += [f"A_ME,ME 4x,1e-05,{seed},0.8,{me}" for seed, (me, _) in aucs.items()]
    rows += [f"A_ME,base,0.01,{seed},0.6,{base}" for seed, (_, base) in reversed(aucs.items())]
    path.write_text("\n".join([*rows, "A_ME,base,0.01,4,0.6,0.1"]))
    choices = "A_ME ME 4x 0.00001", "A_ME base 0.01"
    lines = benchmark.describe(*choices, {choice: benchmark.read_runs(path, choice) for choice in choices})
    d = [me - base for me, base in aucs.values()]
    half = stats.t.ppf(0.975, 2) * np.std(d, ddof=1) / 3**0.5
    p = stats.ttest_1samp(d, 0).pvalue
    assert lines[0] == f"{choices[0]}: 3 seeds, validation AUC 0.80000, test AUC 0.72000 ± 0.01000"
    assert lines[1].startswith(f"{choices[1]}: 4 seeds, validation AUC 0.60000, test AUC 0.55375")
    expected = f"{np.mean(d):+.5f} ({np.mean(d) - half:+.5f} to {np.mean(d) + half:+.5f}), p {p:.2g}"
    assert lines[2] == f"difference of 3 seeds: {expected}"


def test_an_unknown_choice_names_the_nearest(benchmark):
    path = ROOT / "benchmarks" / "goodbooks_study" / "tuning_runs.csv"
    with pytest.raises(SystemExit, match=r"no run of .DNN_ME bas 0\.01. .*DNN_ME base 0\.01"):
        benchmark.read_runs(path, "DNN_ME bas 0.01")
