"""Aggregation of the representations of all sets into one: (B, M, H) -> (B, 1, H').

Each module is called with h (B, M, H) and e, the embeddings: a list of (B, M_g, ΣK), one for each group of sets.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fuxictr_me.config.model_options import OWN_HEADS
from fuxictr_me.errors import unknown

AGGREGATIONS = ("mean", "sum", "weighted", "gated", "elementwise_gated", "concat", *OWN_HEADS)


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
        gates = self.scores(e).softmax(dim=-1)  # (B, M)
        return torch.einsum("bm,bmh->bh", gates, h).unsqueeze(1)

    def scores(self, e: Sequence[Tensor]) -> Tensor:
        """Compute W [e⁽¹⁾ … e⁽ᴹ⁾] + b: one (B, M_g, ΣK) for each group of sets -> (B, rows of W)."""
        all_embeddings = torch.cat([z.flatten(1) for z in e], dim=1)
        return nn.functional.linear(all_embeddings, self.weight, self.bias)


class ElementwiseGated(Gated):
    """h = Σ g_m ⊙ h⁽ᵐ⁾ with g_mj = softmax_m(W_mj [e⁽¹⁾ … e⁽ᴹ⁾] + b_mj) of each row and element j.

    It starts as the mean.

    After the prior informed element-wise gating of "Crocodile: Cross Experts Covariance for Disentangled Learning in
    Multi-Domain Recommendation" (arXiv 2405.12706), g = softmax(r W) ⊙ experts, one gate for each domain. We know this
    formula from summaries of the paper. Differences: there is one domain here, hence one gate. The paper's r is a
    separate embedding of the ids of user, item and domain, while this gate reads the embeddings of all sets, as
    ``Gated`` does. That the softmax is over the sets, separately for each element, and the bias are our reading.

    Args:
        width: H.
        input_dim: width of all embeddings of all sets side by side; W has M · H · input_dim entries.
    """

    def __init__(self, num_sets: int, width: int, input_dim: int) -> None:
        super().__init__(num_sets * width, input_dim)
        self.num_sets = num_sets

    def forward(self, h: Tensor, e: Sequence[Tensor]) -> Tensor:
        """(B, M, H) -> (B, 1, H)."""
        gates = self.scores(e).unflatten(-1, (self.num_sets, -1)).softmax(dim=1)  # (B, M, H)
        return (gates * h).sum(dim=1, keepdim=True)


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
    """No aggregation: every set has its own head, and the predictions of the heads are fused.

    This is a control: M single-embedding models that share only their loss. ``fuxictr_me.nn.fusion`` has the fusions
    of ``ensemble`` and ``confidence``.
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
    if name == "elementwise_gated":
        return ElementwiseGated(num_sets, sum(widths), gate_dim)
    if name == "concat":
        return Concat(widths)
    if name in OWN_HEADS:
        return Ensemble()
    raise unknown("aggregation", name, AGGREGATIONS)
