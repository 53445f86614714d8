"""AUC and logloss against scikit-learn and plain counts; evaluate_metrics against FuxiCTR's."""

import math

import numpy as np
import pytest
import torch
from fuxictr.metrics import evaluate_metrics as fuxictr_evaluate
from scipy.stats import rankdata
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error, roc_auc_score

from fuxictr_me.training.metrics import auc, evaluate_metrics, logloss

GROUP_METRICS = ["gAUC", "avgAUC", "MRR", "NDCG(k=2)"]


def clicks(rows, seed=0):
    """Labels, and the float64 probabilities from which they were sampled."""
    random = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-random.normal(-1, 1, rows)))
    return (random.random(rows) < p).astype(np.float64), p


def tensors(*arrays):
    return [torch.from_numpy(array) for array in arrays]


def one_positive():
    y = np.zeros(1000)
    y[400] = 1
    return y, clicks(1000)[1]


def with_extremes():
    """0.0 and 1.0 for either label."""
    y, p = clicks(1000)
    p[:50], p[50:100] = 0.0, 1.0
    return y, p


CASES = {
    "random": clicks(20_000),
    "tied": (clicks(20_000)[0], clicks(20_000)[1].round(1)),
    "all equal": (clicks(1000)[0], np.full(1000, 0.25)),
    "float32": (clicks(20_000)[0], clicks(20_000)[1].astype(np.float32)),
    "extremes": with_extremes(),
    "one positive": one_positive(),
    "one negative": (1 - one_positive()[0], one_positive()[1]),
    "two rows": (np.array([0.0, 1.0]), np.array([0.6, 0.4])),
}
EVERY_CASE = pytest.mark.parametrize(("y", "p"), CASES.values(), ids=CASES)


# --- AUC ---------------------------------------------------------------------------------------------


@EVERY_CASE
def test_auc_equals_scikit_learns(y, p):
    assert auc(*tensors(y, p)) == pytest.approx(roc_auc_score(y, p), rel=0, abs=1e-12)


def test_auc_by_hand():
    # positives 0.4, 0.4, 0.9 against negatives 0.1, 0.4, 0.7: 1 + ½ + 0, the same, 3, of 9 pairs
    y = torch.tensor([1, 0, 1, 0, 0, 1])
    p = torch.tensor([0.4, 0.1, 0.4, 0.4, 0.7, 0.9])
    assert auc(y, p) == 6 / 9
    assert auc(y, torch.full((6,), 0.3)) == 0.5
    assert auc(y, y.float()) == 1 and auc(y, 1 - y.float()) == 0


def test_auc_equals_the_share_of_ordered_pairs_to_the_last_bit():
    y, p = clicks(100_000)
    for scores in (p, p.round(3), p.astype(np.float32)):
        twice_ranks = (2 * rankdata(scores)).astype(np.int64)  # mean ranks are halves
        P = int(y.sum())
        N = len(y) - P
        assert auc(*tensors(y, scores)) == (int(twice_ranks[y == 1].sum()) - P * (P + 1)) / (2 * P * N)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_auc_of_scores_of_any_sign_and_width(dtype):
    values = torch.tensor([-math.inf, -3.0, -1e-3, -0.0, 0.0, 1e-3, 2.5, math.inf]).to(dtype)
    random = torch.Generator().manual_seed(3)
    scores = values[torch.randint(0, len(values), (200,), generator=random)]
    y = torch.randint(0, 2, (200,), generator=random)
    higher = [(p > n).item() + (p == n).item() / 2 for p in scores[y == 1] for n in scores[y == 0]]
    assert auc(y, scores) == sum(higher) / len(higher)


def test_auc_distinguishes_neighbours_that_float32_would_merge():
    p = torch.tensor([np.nextafter(0.5, 0), np.nextafter(0.5, 1), 0.5], dtype=torch.float64)
    assert auc(torch.tensor([0, 1, 0]), p) == 1
    assert auc(torch.tensor([1, 0, 0]), p) == 0
    assert auc(torch.tensor([0, 0, 1]), p) == 0.5


def test_auc_does_not_depend_on_strides_and_does_not_change_its_arguments():
    y, p = tensors(*clicks(1000))
    both = torch.stack([y, p.float()], dim=1)
    before = both.clone()
    assert auc(both[:, 0], both[:, 1]) == auc(y.bool(), p.float())
    logloss(both[:, 0], both[:, 1])
    assert torch.equal(both, before)


def test_auc_without_pairs_is_not_a_number():
    assert math.isnan(auc(torch.ones(3), torch.rand(3))) and math.isnan(auc(torch.zeros(3), torch.rand(3)))


def test_a_million_rows():
    y, p = clicks(1_000_000)
    for scores in (p, p.astype(np.float32)):
        assert auc(*tensors(y, scores)) == pytest.approx(roc_auc_score(y, scores), rel=0, abs=1e-12)
    assert logloss(*tensors(y, p)) == pytest.approx(log_loss(y, p), rel=0, abs=1e-12)


@pytest.mark.slow
def test_ten_million_rows():
    y, p = clicks(10_000_000)
    assert auc(*tensors(y, p)) == pytest.approx(roc_auc_score(y, p), rel=0, abs=1e-12)
    assert logloss(*tensors(y, p)) == pytest.approx(log_loss(y, p), rel=0, abs=1e-12)


# --- logloss -----------------------------------------------------------------------------------------


@EVERY_CASE
def test_logloss_equals_scikit_learns(y, p):
    p = p.astype(np.float64)
    assert logloss(*tensors(y, p)) == pytest.approx(log_loss(y, p), rel=0, abs=1e-12)


def test_logloss_by_hand():
    y = torch.tensor([1, 0, 1])
    p = torch.tensor([0.5, 0.75, 0.125], dtype=torch.float64)
    assert logloss(y, p) == pytest.approx((1 + 2 + 3) * math.log(2) / 3, rel=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logloss_is_clipped_by_the_epsilon_of_its_dtype(dtype):
    wrong = torch.tensor([1.0, 0.0], dtype=dtype)
    y = torch.tensor([0.0, 1.0])
    assert logloss(y, wrong) == pytest.approx(log_loss(y.numpy(), wrong.numpy()), rel=1e-6)
    assert logloss(y, wrong) == pytest.approx(-math.log(np.finfo(wrong.numpy().dtype).eps), rel=1e-12)


# --- evaluate_metrics --------------------------------------------------------------------------------


def test_regression_errors_equal_scikit_learns():
    random = np.random.default_rng(0)
    y, p = random.normal(3, 5, 1000), random.normal(3, 5, 1000).astype(np.float32)
    squared = mean_squared_error(y, p.astype(float))
    expected = {"RMSE": squared**0.5, "MAE": mean_absolute_error(y, p.astype(float)), "MSE": squared}
    for arguments in ((y, p), tensors(y, p)):
        got = evaluate_metrics(*arguments, ["RMSE", "MAE", "MSE"])
        assert list(got) == ["RMSE", "MAE", "MSE"] and got == pytest.approx(expected, rel=1e-12)
    assert evaluate_metrics(*tensors(np.zeros(3), np.array([1.0, 2, 2])), ["MSE"]) == {"MSE": 3.0}


def test_group_metrics_need_no_second_core(monkeypatch):
    y, p = clicks(300)
    group_id = np.random.default_rng(1).integers(0, 20, 300)
    monkeypatch.setattr("multiprocessing.cpu_count", lambda: 1)
    with pytest.raises(ValueError, match="at least 1"):
        fuxictr_evaluate(y, p, ["gAUC"], group_id)  # FuxiCTR alone cannot
    rows = [(y[group_id == g], p[group_id == g]) for g in range(20)]
    assert all(0 < labels.sum() < len(labels) for labels, _ in rows)
    expected = sum(roc_auc_score(*group) * len(group[0]) for group in rows) / 300
    assert evaluate_metrics(y, p, ["gAUC"], group_id)["gAUC"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12+, of FuxiCTR's process pool
def test_evaluate_metrics_equals_fuxictrs_and_keeps_the_order():
    y, p = clicks(300)
    p = p.round(2)
    group_id = np.random.default_rng(1).integers(0, 20, 300)
    metrics = ["gAUC", "AUC", "MRR", "logloss", "NDCG(k=2)", "binary_crossentropy", "avgAUC", "AUC"]
    expected = fuxictr_evaluate(y, p, metrics, group_id)
    for arguments in ((y, p, metrics, group_id), (*tensors(y, p), metrics, torch.from_numpy(group_id))):
        got = evaluate_metrics(*arguments)
        assert type(got) is type(expected) and list(got) == list(expected)
        assert got == pytest.approx(expected, rel=0, abs=1e-12)
        assert all(got[metric] == expected[metric] for metric in GROUP_METRICS)


def test_metrics_of_clicks_do_not_call_fuxictr(monkeypatch):
    monkeypatch.setattr("fuxictr.metrics.evaluate_metrics", None)
    y, p = clicks(1000)
    assert evaluate_metrics(y, p, ["AUC"]) == {"AUC": auc(*tensors(y, p))}


def test_float32_predictions_are_evaluated_as_fuxictr_does():
    y, p = with_extremes()
    p = p.astype(np.float32)
    expected = fuxictr_evaluate(y, p.astype(np.float64), ["AUC", "logloss"])
    for labels in (y, y.astype(np.float32), y.astype(np.int64), y.astype(bool)):
        assert evaluate_metrics(labels, p, ["AUC", "logloss"]) == pytest.approx(expected, rel=0, abs=1e-12)
        of_tensors = evaluate_metrics(*tensors(labels, p), ["AUC", "logloss"])
        assert of_tensors == pytest.approx(expected, rel=0, abs=1e-12)


def test_arrays_whose_memory_torch_cannot_share_are_copied():
    y, p = clicks(100)
    expected = fuxictr_evaluate(y, p, ["AUC"])
    p.flags.writeable = False
    assert evaluate_metrics(y[::-1], p[::-1], ["AUC"]) == pytest.approx(expected, rel=0, abs=1e-12)
    assert evaluate_metrics(list(y), p, ["AUC"]) == pytest.approx(expected, rel=0, abs=1e-12)


@pytest.mark.parametrize(
    ("y", "p", "metrics"),
    [
        ([2.0, 1.0, 2.0], [0.3, 0.2, 0.1], ["AUC", "logloss"]),  # two labels that are not 0 and 1
        ([0.0, 1.0, 1.0], [-3.0, 0.2, 7.0], ["AUC"]),  # scores rather than probabilities
    ],
)
def test_labels_and_predictions_that_are_not_clicks_are_evaluated_by_fuxictr(y, p, metrics):
    expected = fuxictr_evaluate(np.array(y), np.array(p), metrics)
    assert evaluate_metrics(np.array(y), np.array(p), metrics) == expected


@pytest.mark.parametrize(
    ("y", "p", "metrics"),
    [
        ([1.0, 1.0], [0.3, 0.2], ["logloss"]),  # one class
        ([1.0, 1.0], [0.3, 0.2], ["AUC"]),  # the same: a warning, which the tests make an error
        ([0.0, 0.5], [0.3, 0.2], ["AUC"]),  # a label in between
        ([0.0, 1.0], [0.3, 1.2], ["logloss"]),
        ([0.0, 1.0], [0.3, np.nan], ["AUC"]),
        ([0.0, 1.0], [0.3, np.nan], ["logloss"]),
        ([0.0, 1.0], [0.3], ["AUC"]),
        ([], [], ["AUC"]),
        ([0.0, 1.0], [0.3, 0.2], ["AUC", "accuracy"]),
        ([0.0, 1.0], [0.3, 0.2], ["AUC", "gAUC"]),  # no group_id
        ([0.0, 1.0], [0.3, 0.2], ["AUC", "NDCG(k=2"]),
    ],
)
def test_errors_equal_fuxictrs(y, p, metrics):
    with pytest.raises(Exception) as expected:
        fuxictr_evaluate(np.array(y), np.array(p), metrics)
    with pytest.raises(expected.type) as got:
        evaluate_metrics(np.array(y), np.array(p), metrics)
    assert str(got.value) == str(expected.value)
