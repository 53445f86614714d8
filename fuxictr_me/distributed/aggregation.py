"""The aggregation of sets that lie on several ranks: one all-reduce sums h."""

from typing import Any

import torch
from torch import Tensor, nn

from fuxictr_me.distributed.ranks import Ranks

AGGREGATIONS = ("mean", "sum")


class AggregationOverRanks(nn.Module):
    """h = (1/M) Σ h⁽ᵐ⁾, or Σ h⁽ᵐ⁾, over the sets of all ranks.

    Args:
        ranks: those that hold the sets.
        divisor: M for the mean, 1 for the sum.
    """

    def __init__(self, ranks: Ranks, divisor: int):
        super().__init__()
        self.ranks, self.divisor = ranks, divisor

    def forward(self, h: Tensor, e: list[Tensor]) -> Tensor:
        """Map h (B, M of this rank, H) to (B, 1, H), equal on all ranks."""
        return SumOverRanks.apply(h.sum(dim=1, keepdim=True), self.ranks) / self.divisor


class SumOverRanks(torch.autograd.Function):
    """x -> Σ x over the ranks. The gradient passes unchanged, because every rank computes the whole loss."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        return ranks.sum(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None
