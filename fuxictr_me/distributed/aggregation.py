"""The aggregation of sets that lie on several ranks: one all-reduce joins h."""

import torch
from torch import nn

AGGREGATIONS = ("mean", "sum")


class OverRanks(nn.Module):
    """h = (1/M) Σ h⁽ᵐ⁾, or Σ h⁽ᵐ⁾, over the sets of all ranks.

    Args:
        ranks (Ranks)
        divisor (int): M for the mean, 1 for the sum.
    """

    def __init__(self, ranks, divisor):
        super().__init__()
        self.ranks, self.divisor = ranks, divisor

    def forward(self, h, e):
        """h (B, M of this rank, H) -> (B, 1, H), the same on all ranks."""
        return SumOverRanks.apply(h.sum(dim=1, keepdim=True), self.ranks) / self.divisor


class SumOverRanks(torch.autograd.Function):
    """x -> Σ x over the ranks; the gradient passes as it is, since every rank has the whole loss."""

    @staticmethod
    def forward(ctx, x, ranks):
        return ranks.sum(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None
