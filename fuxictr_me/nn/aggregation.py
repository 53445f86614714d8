"""Aggregation of the representations of all sets into one: (B, M, H) -> (B, 1, H').

Each module is called with h (B, M, H) and e, the embeddings: a list of (B, M_g, ΣK), one for each group of sets.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fuxictr_me.errors import unknown

AGGREGATIONS = ("mean", "sum", "weighted", "gated", "concat", "ensemble")


class Mean(nn.Module):
    """h = (1/M) Σ h⁽ᵐ⁾ (paper, section 4)."""

    def forward(self, h: Tensor, e: Sequence[Tensor]) -> Tensor:
        """(B, M, H) -> (B, 1, H)."""
        return h.mean(dim=1, keepdim=True)


class Sum(nn.Module):
    """h = Σ h⁽ᵐ⁾."""

    def forward(self, h: Tensor, e: Sequence[Tensor]) -> Tensor:
        """(B, M, H) -> (B, 1, H)."""
        return h.sum(dim=1, keepdim=True)


class Weighted(nn.Module):
    """h = Σ a_m h⁽ᵐ⁾ with learned weights a, the same for every row. It starts as the mean."""

    def __init__(self, num_sets: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_sets))
        self.init_weights()

    def init_weights(self) -> None:
        """Set a = 1/M."""
        nn.init.constant_(self.weight, 1 / len(self.weight))

    def forward(self, h: Tensor, e: Sequence[Tensor]) -> Tensor:
        """(B, M, H) -> (B, 1, H)."""
        return torch.einsum("m,bmh->bh", self.weight, h).unsqueeze(1)


class Gated(nn.Module):
    """h = Σ g_m h⁽ᵐ⁾ with g = softmax(W [e⁽¹⁾ … e⁽ᴹ⁾] + b) of each row. It starts as the mean.

    A gate instead of the mean, as in Tencent's ads models (KDD 2024, arXiv 2403.00793).

    Args:
        input_dim: width of all embeddings of all sets side by side.
    """

    def __init__(self, num_sets: int, input_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_sets, input_dim))
        self.bias = nn.Parameter(torch.empty(num_sets))
        self.init_weights()

    def init_weights(self) -> None:
        """Set W = 0 and b = 0, so that all sets have equal weight."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, h: Tensor, e: Sequence[Tensor]) -> Tensor:
        """(B, M, H) -> (B, 1, H)."""
        all_embeddings = torch.cat([z.flatten(1) for z in e], dim=1)
        gates = nn.functional.linear(all_embeddings, self.weight, self.bias).softmax(dim=-1)  # (B, M)
        return torch.einsum("bm,bmh->bh", gates, h).unsqueeze(1)


class Concat(nn.Module):
    """h = [h⁽¹⁾ … h⁽ᴹ⁾], branch by branch.

    Args:
        widths: H_b of each branch in h.
    """

    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        self.widths = widths

    def forward(self, h: Tensor, e: Sequence[Tensor]) -> Tensor:
        """(B, M, ΣH_b) -> (B, 1, M·ΣH_b)."""
        return torch.cat([branch.flatten(1) for branch in h.split(self.widths, dim=-1)], dim=-1).unsqueeze(1)


class Ensemble(nn.Module):
    """No aggregation: every set has its own head, and the logits of the heads are averaged.

    This is a control: M single-embedding models that share only their loss.
    """

    def forward(self, h: Tensor, e: Sequence[Tensor]) -> Tensor:
        """(B, M, H) -> (B, M, H)."""
        return h


def build_aggregation(name: str, num_sets: int, widths: list[int], gate_dim: int) -> nn.Module:
    """Build the aggregation with this name.

    Args:
        name: one of ``AGGREGATIONS``.
        widths: H_b of each branch in h.
        gate_dim: width of all embeddings of all sets side by side.
    """
    if name == "mean":
        return Mean()
    if name == "sum":
        return Sum()
    if name == "weighted":
        return Weighted(num_sets)
    if name == "gated":
        return Gated(num_sets, gate_dim)
    if name == "concat":
        return Concat(widths)
    if name == "ensemble":
        return Ensemble()
    raise unknown("aggregation", name, AGGREGATIONS)
