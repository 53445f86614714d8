"""Metrics of tensors on any device: FuxiCTR's AUC and logloss, and the errors of a regression, which it lacks."""

import re
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import polars as pl
import torch
from torch import Tensor

from fuxictr_me.compat import fuxictr_metrics

RANK_IN_GROUPS = re.compile(r"NDCG\((?:k=)?(\d+)\)")


def auc(y_true: Tensor, y_pred: Tensor) -> float:
    """Area under the ROC curve, from exact counts (Mann and Whitney, 1947).

    It is the share of the P · N pairs of a positive and a negative row in which the positive one is predicted higher; a
    tie counts half. Twice the number of such pairs is an int64, which does not overflow for P · N < 2⁶². One float
    division comes last.

    Args:
        y_true: (n,), 0 or 1, any dtype.
        y_pred: (n,), finite floats, on the device of ``y_true``.

    Returns:
        ``sklearn.metrics.roc_auc_score`` without its rounding errors; nan if a class is missing.
    """
    positive = y_true.bool()
    keys = _sortable(y_pred)
    positives, negatives = keys[positive].sort().values, keys[~positive].sort().values
    pairs = len(positives) * len(negatives)
    below = torch.searchsorted(negatives, positives).sum()
    not_above = torch.searchsorted(negatives, positives, right=True).sum()
    return (below + not_above).item() / (2 * pairs) if pairs else float("nan")


def logloss(y_true: Tensor, y_pred: Tensor) -> float:
    """Mean negative log-likelihood of the labels, in nats.

    As in ``sklearn.metrics.log_loss``, the probability of each label is clipped to [ε, 1 - ε], with the machine epsilon
    of the dtype of ``y_pred``; everything else is float64. FuxiCTR computes it from ``y_pred.double()``.

    Args:
        y_true: (n,), 0 or 1, any dtype.
        y_pred: (n,), floats in [0, 1], on the device of ``y_true``.
    """
    eps = torch.finfo(y_pred.dtype).eps
    p = y_pred.double()
    return -torch.where(y_true.bool(), p, 1 - p).clamp_(eps, 1 - eps).log_().mean().item()


def mean_squared_error(y_true: Tensor, y_pred: Tensor) -> float:
    """Return the mean of (y_true - y_pred)² over the rows, in float64."""
    return (y_true.double() - y_pred.double()).square().mean().item()


def root_mean_squared_error(y_true: Tensor, y_pred: Tensor) -> float:
    """Return the square root of the mean squared error, in the unit of the labels."""
    return mean_squared_error(y_true, y_pred) ** 0.5


def mean_absolute_error(y_true: Tensor, y_pred: Tensor) -> float:
    """Return the mean of |y_true - y_pred| over the rows, in float64."""
    return (y_true.double() - y_pred.double()).abs().mean().item()


REGRESSION = {"MSE": mean_squared_error, "MAE": mean_absolute_error, "RMSE": root_mean_squared_error}


def evaluate_metrics(
    y_true: Tensor | np.ndarray,
    y_pred: Tensor | np.ndarray,
    metrics: list[str],
    group_id: Tensor | np.ndarray | None = None,
) -> OrderedDict[str, float]:
    """Compute what ``fuxictr.metrics.evaluate_metrics`` computes, and MSE, MAE and RMSE.

    AUC and logloss are computed by the functions above. Labels and predictions count as float64, as in ``evaluate`` of
    FuxiCTR's models. Group metrics are FuxiCTR's own functions, called in this process, because its pool of half the
    cores cannot start on one core. If a label is neither 0 nor 1, a class is missing or a prediction is not a
    probability, FuxiCTR computes AUC and logloss, with its errors, warnings and conventions.

    Args:
        y_true: (n,), labels.
        y_pred: (n,), predictions.
        metrics: AUC, logloss, binary_crossentropy, gAUC, avgAUC, MRR, NDCG(k=...), MSE, MAE, RMSE.
        group_id: (n,), the groups of the group metrics.

    Returns:
        metric -> value, in the order of ``metrics``.

    Raises:
        What FuxiCTR's function raises: ValueError for a metric that it does not know.
    """
    y_pred = _as_tensor(y_pred)
    y_true = _as_tensor(y_true).to(y_pred.device)
    functions: dict[str, Callable[[Tensor, Tensor], float]] = dict(REGRESSION)
    if any(metric not in functions for metric in metrics) and _are_clicks(y_true, y_pred):
        functions |= {"AUC": auc, "logloss": _double_logloss, "binary_crossentropy": _double_logloss}
    values = {metric: functions[metric](y_true, y_pred) for metric in metrics if metric in functions}
    if of_fuxictr := [metric for metric in metrics if metric not in functions]:
        arrays = y_true.double().cpu().numpy(), y_pred.double().cpu().numpy()
        group_id = group_id.cpu().numpy() if isinstance(group_id, Tensor) else group_id
        in_groups = {} if group_id is None else _group_measures(of_fuxictr)
        values |= _evaluate_groups(*arrays, in_groups, group_id)
        if rest := [metric for metric in of_fuxictr if metric not in in_groups]:
            values |= fuxictr_metrics.evaluate_metrics(*arrays, rest, group_id)
    return OrderedDict((metric, values[metric]) for metric in metrics)


def _group_measures(metrics: list[str]) -> dict[str, Callable]:
    """Return FuxiCTR's function of one group for each group metric among ``metrics``."""
    measures = {name: getattr(fuxictr_metrics, name) for name in ("gAUC", "avgAUC", "MRR") if name in metrics}
    ranked = {name: match for name in metrics if (match := RANK_IN_GROUPS.fullmatch(name))}
    return measures | {name: fuxictr_metrics.NDCG(k=int(match[1])) for name, match in ranked.items()}


def _evaluate_groups(
    y_true: np.ndarray, y_pred: np.ndarray, measures: dict[str, Callable], group_id: np.ndarray | None
) -> dict[str, float]:
    """Average each measure over the groups, with the weights of FuxiCTR's ``evaluate_metrics``.

    FuxiCTR's ``evaluate_block`` is not called: its wheel wants polars frames there, its main branch pandas frames.
    """
    if not measures:
        return {}
    rows = pl.DataFrame({"group_index": group_id, "y_true": y_true, "y_pred": y_pred})
    groups = rows.partition_by("group_index", maintain_order=True)
    arrays = [(group["y_true"].to_numpy(), group["y_pred"].to_numpy()) for group in groups]
    averages = {}
    for name, measure in measures.items():
        values = [measure(*group) for group in arrays]
        weighted = np.array([value if isinstance(value, tuple) else (value, 1) for value in values])
        averages[name] = weighted[:, 0].sum() / weighted[:, 1].sum()
    return averages


def _double_logloss(y_true: Tensor, y_pred: Tensor) -> float:
    return logloss(y_true, y_pred.double())


def _sortable(values: Tensor) -> Tensor:
    """Return integers in the order of the floats, ties kept. On the CPU torch sorts them by radix, which is faster."""
    values = values if values.dtype == torch.float64 else values.float()
    bits = (values + 0.0).view(torch.int64 if values.dtype == torch.float64 else torch.int32)  # -0.0 + 0.0 is 0.0
    return torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits)


def _as_tensor(values: Tensor | np.ndarray) -> Tensor:
    """Convert without a copy if torch can share the array's memory."""
    return values.detach() if isinstance(values, Tensor) else torch.from_numpy(np.require(values, None, ["C", "W"]))


def _are_clicks(y_true: Tensor, y_pred: Tensor) -> bool:
    """Whether the labels are 0 and 1, both occur, and the predictions are probabilities."""
    if y_true.ndim != 1 or y_true.shape != y_pred.shape or len(y_true) == 0:
        return False
    positive, negative = y_true == 1, y_true == 0
    low, high = y_pred.aminmax()
    return bool((positive | negative).all() & positive.any() & negative.any() & (low >= 0) & (high <= 1))
