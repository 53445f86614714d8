"""Fusion of the predictions of sets that have their own heads: logits (B, S, 1) -> logit (B, 1)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

Fusion = Callable[[Tensor], Tensor]


def average_logits(logits: Tensor) -> Tensor:
    """Return the mean logit: (B, S, 1) -> (B, 1)."""
    return logits.mean(dim=1)


def fuse_by_confidence(logits: Tensor) -> Tensor:
    """Return the logit of p = Σ w_m p_m with w = softmax(-H(p_1), …, -H(p_M)): surer predictions count more.

    H(p) = -p log p - (1 - p) log(1 - p) is the entropy of a prediction p_m = sigmoid(z_m) of one row. It is at most
    log 2, so no weight is more than twice another.

    After CETNet, "A Collaborative Ensemble Framework for CTR Prediction" (arXiv 2411.13700), whose abstract names
    negative entropy as the confidence and a general softmax of it as the weights. We could not see its formulas. A
    summary of it also fuses probabilities. Temperature 1, and gradients that pass through the weights, are our choice.

    Args:
        logits: z, (B, M, 1).

    Returns:
        (B, 1), finite for logits of any finite size.
    """
    z = logits.to(torch.promote_types(logits.dtype, torch.float32))  # of bfloat16 under autocast
    log_weights = (-binary_entropy(z)).log_softmax(dim=1)
    log_p, log_not_p = (torch.logsumexp(log_weights + logsigmoid(side), dim=1) for side in (z, -z))
    return log_p - log_not_p


def binary_entropy(logits: Tensor) -> Tensor:
    """Return H(p) = -p log p - (1 - p) log(1 - p) of p = sigmoid(z) in nats, without cancellation, of any shape."""
    size = logits.abs()
    return softplus(-size) + size * torch.sigmoid(-size)


FUSIONS: dict[str, Fusion] = {"ensemble": average_logits, "confidence": fuse_by_confidence}  # by aggregation
