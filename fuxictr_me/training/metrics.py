"""AUC and logloss of FuxiCTR (scikit-learn's), on tensors where they lie."""

from collections import OrderedDict

import numpy as np
import torch
from fuxictr import metrics as fuxictr_metrics


def auc(y_true, y_pred):
    """Area under the ROC curve, from exact counts (Mann and Whitney, 1947).

    Of the P · N pairs of a positive and a negative row, the share in which the positive one is predicted
    higher; a tie counts half. Twice the number of such pairs is an int64, which P · N < 2⁶² cannot overflow;
    one float division comes last.

    Args:
        y_true (Tensor): (n,), 0 or 1, any dtype.
        y_pred (Tensor): (n,), finite floats, on the device of ``y_true``.

    Returns:
        float: ``sklearn.metrics.roc_auc_score`` without its rounding errors; nan where a class is missing.
    """
    positive = y_true.bool()
    keys = _sortable(y_pred)
    positives, negatives = keys[positive].sort().values, keys[~positive].sort().values
    pairs = len(positives) * len(negatives)
    below = torch.searchsorted(negatives, positives).sum()
    not_above = torch.searchsorted(negatives, positives, right=True).sum()
    return (below + not_above).item() / (2 * pairs) if pairs else float("nan")


def logloss(y_true, y_pred):
    """Mean negative log-likelihood of the labels, in nats.

    As ``sklearn.metrics.log_loss``, the probability of each label is clipped to [ε, 1 - ε], with the machine
    epsilon of the dtype of ``y_pred``; all else is float64. FuxiCTR's own is that of ``y_pred.double()``.

    Args:
        y_true (Tensor): (n,), 0 or 1, any dtype.
        y_pred (Tensor): (n,), floats in [0, 1], on the device of ``y_true``.

    Returns:
        float: the mean over the rows.
    """
    eps = torch.finfo(y_pred.dtype).eps
    p = y_pred.double()
    return -torch.where(y_true.bool(), p, 1 - p).clamp_(eps, 1 - eps).log_().mean().item()


def evaluate_metrics(y_true, y_pred, metrics, group_id=None):
    """``fuxictr.metrics.evaluate_metrics``, with AUC and logloss by the functions above.

    As ``evaluate`` of FuxiCTR's models hands them over, labels and predictions count as float64. Group
    metrics are computed by FuxiCTR, and so is everything where a label is neither 0 nor 1, a class is missing
    or a prediction is no probability: its errors, warnings and conventions hold there.

    Args:
        y_true (Tensor or array): (n,), labels.
        y_pred (Tensor or array): (n,), predictions.
        metrics (list of str): AUC, logloss, binary_crossentropy, gAUC, avgAUC, MRR, NDCG(k=...).
        group_id (Tensor or array, optional): (n,), what the group metrics group by.

    Returns:
        OrderedDict: metric to float, in the order of ``metrics``.

    Raises:
        What FuxiCTR's function raises: ValueError for a metric that it does not know.
    """
    y_pred = _as_tensor(y_pred)
    y_true = _as_tensor(y_true).to(y_pred.device)
    ours = {"AUC": auc, "logloss": _double_logloss, "binary_crossentropy": _double_logloss}
    if not _are_clicks(y_true, y_pred):
        ours = {}
    values = {metric: ours[metric](y_true, y_pred) for metric in metrics if metric in ours}
    if theirs := [metric for metric in metrics if metric not in ours]:
        arrays = y_true.double().cpu().numpy(), y_pred.double().cpu().numpy()
        group_id = group_id.cpu().numpy() if isinstance(group_id, torch.Tensor) else group_id
        values |= fuxictr_metrics.evaluate_metrics(*arrays, theirs, group_id)
    return OrderedDict((metric, values[metric]) for metric in metrics)


def _double_logloss(y_true, y_pred):
    return logloss(y_true, y_pred.double())


def _sortable(values):
    """Integers in the order of the floats, ties kept: on the CPU torch sorts integers by radix, which is faster."""
    values = values if values.dtype == torch.float64 else values.float()
    bits = (values + 0.0).view(torch.int64 if values.dtype == torch.float64 else torch.int32)  # -0.0 + 0.0 is 0.0
    return torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits)


def _as_tensor(values):
    """Without a copy where torch can share the array's memory."""
    return values.detach() if isinstance(values, torch.Tensor) else torch.from_numpy(np.require(values, None, "CW"))


def _are_clicks(y_true, y_pred):
    """Whether the labels are 0 and 1, both of them, and the predictions probabilities."""
    if y_true.ndim != 1 or y_true.shape != y_pred.shape or len(y_true) == 0:
        return False
    positive, negative = y_true == 1, y_true == 0
    low, high = y_pred.aminmax()
    return bool((positive | negative).all() & positive.any() & negative.any() & (low >= 0) & (high <= 1))
