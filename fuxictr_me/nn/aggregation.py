"""How the representations of the sets become one: (B, M, H) -> (B, 1, H')."""

import torch
from torch import nn

from fuxictr_me.errors import unknown

AGGREGATIONS = ("mean", "sum", "weighted", "gated", "concat", "ensemble")


class Mean(nn.Module):
    """h = (1/M) Σ h⁽ᵐ⁾ (paper, section 4)."""

    def forward(self, h, e):
        """h (B, M, H) -> (B, 1, H)."""
        return h.mean(dim=1, keepdim=True)


class Sum(nn.Module):
    """h = Σ h⁽ᵐ⁾."""

    def forward(self, h, e):
        """h (B, M, H) -> (B, 1, H)."""
        return h.sum(dim=1, keepdim=True)


class Weighted(nn.Module):
    """h = Σ a_m h⁽ᵐ⁾, a learned, the same for every row; it starts as the mean.

    Args:
        num_sets (int): M.
    """

    def __init__(self, num_sets):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_sets))
        self.init_weights()

    def init_weights(self):
        """a = 1/M."""
        nn.init.constant_(self.weight, 1 / len(self.weight))

    def forward(self, h, e):
        """h (B, M, H) -> (B, 1, H)."""
        return torch.einsum("m,bmh->bh", self.weight, h).unsqueeze(1)


class Gated(nn.Module):
    """h = Σ g_m h⁽ᵐ⁾, g = softmax(W [e⁽¹⁾ … e⁽ᴹ⁾] + b) of each row; it starts as the mean.

    A gate in place of the mean, as Tencent's ads models have it (KDD 2024, arXiv 2403.00793).

    Args:
        num_sets (int): M.
        input_dim (int): width of all embeddings of all sets side by side.
    """

    def __init__(self, num_sets, input_dim):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_sets, input_dim))
        self.bias = nn.Parameter(torch.empty(num_sets))
        self.init_weights()

    def init_weights(self):
        """W = 0, b = 0: all sets alike."""
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, h, e):
        """h (B, M, H), e a list of (B, ·, ·) -> (B, 1, H)."""
        of_row = torch.cat([z.flatten(1) for z in e], dim=1)
        gates = nn.functional.linear(of_row, self.weight, self.bias).softmax(dim=-1)  # (B, M)
        return torch.einsum("bm,bmh->bh", gates, h).unsqueeze(1)


class Concat(nn.Module):
    """h = [h⁽¹⁾ … h⁽ᴹ⁾], branch by branch.

    Args:
        widths (list of int): H_b of each branch in h.
    """

    def __init__(self, widths):
        super().__init__()
        self.widths = widths

    def forward(self, h, e):
        """h (B, M, ΣH_b) -> (B, 1, M·ΣH_b)."""
        return torch.cat([branch.flatten(1) for branch in h.split(self.widths, dim=-1)], dim=-1).unsqueeze(1)


class Ensemble(nn.Module):
    """No aggregation: every set goes on to a head of its own, and their logits are averaged.

    The sceptic's control: M single-embedding models that only their loss has in common.
    """

    def forward(self, h, e):
        """h (B, M, H) -> the same."""
        return h


def build_aggregation(name, num_sets, widths, gate_dim):
    """The aggregation of that name.

    Args:
        name (str): one of ``AGGREGATIONS``.
        num_sets (int): M.
        widths (list of int): H_b of each branch in h.
        gate_dim (int): width of all embeddings of all sets side by side.
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
