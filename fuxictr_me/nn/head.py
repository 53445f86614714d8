"""Modules after the interaction: projections of each set, and the head that the sets share."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fuxictr_me.errors import UsageError, check_positive_int
from fuxictr_me.nn.fusion import Fusion, average_logits
from fuxictr_me.nn.mlp import MLP
from fuxictr_me.nn.set_linear import SetLinear


class SplitMLP:
    """The hidden layers of a branch, split where the sets are aggregated.

    The layers before the split are the projection of a set, the layers after it belong to the head. So a
    multi-embedding model has one projection per set and a head that is shorter by as many layers, and with one set the
    two are the whole MLP of the single-embedding model (paper, section 4 and its fairness rule).

    Args:
        mlp: None if a branch has no hidden layers and is aggregated as it is.
        depth: number of hidden layers before the split; None: all.
        nonlinear: False splits directly after the first linear layer instead.
    """

    def __init__(self, mlp: MLP | None, depth: int | None = 1, nonlinear: bool = True) -> None:
        self.mlp, self.nonlinear = mlp, nonlinear
        self.depth = len(mlp.units) if mlp and depth is None else depth or 0

    def build_projection(self, num_sets: int, input_dim: int) -> nn.Module:
        """Build the layers before the split, (B, M, in) -> (B, M, H). Columns of zeros may follow the ``in`` ones."""
        if self.mlp is None:
            return FirstColumns(input_dim)
        if not self.nonlinear:
            return SetLinear(num_sets, input_dim, self.mlp.units[0])
        return nn.Sequential(*self.mlp.layers(num_sets, input_dim, stop=self.depth))

    def build_tower(self, num_heads: int, input_dim: int) -> nn.Module:
        """Build the layers after the split, (B, S, in) -> (B, S, ·)."""
        if self.mlp is None:
            return nn.Identity()
        if not self.nonlinear:
            return nn.Sequential(*self.mlp.layers(num_heads, input_dim)[1:])
        return nn.Sequential(*self.mlp.layers(num_heads, input_dim, start=self.depth))

    def projection_width(self, input_dim: int) -> int:
        """Return H, the width of the projection's output."""
        if self.mlp is None:
            return input_dim
        return self.mlp.units[self.depth - 1 if self.nonlinear else 0]

    def tower_width(self, input_dim: int) -> int:
        """Return the width of the tower's output."""
        if self.mlp is None or (self.nonlinear and self.depth == len(self.mlp.units)):
            return input_dim
        return self.mlp.units[-1]


class FirstColumns(nn.Identity):
    """Placeholder for a projection. It drops the columns of zeros with which a GPU computes an interaction.

    Args:
        width: number of columns to keep.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        """(B, M, width or wider) -> (B, M, width)."""
        return x[..., : self.width]


class Projections(nn.Module):
    """Project every branch of every set and put the branches side by side: h⁽ᵐ⁾.

    Args:
        branches: for each branch (B, M, ·) -> (B, M, H_b).
    """

    def __init__(self, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, branch_inputs: Sequence[Tensor]) -> Tensor:
        """One (B, M, ·) for each branch -> (B, M, ΣH_b)."""
        return torch.cat([project(z) for project, z in zip(self.branches, branch_inputs, strict=True)], dim=-1)


class Head(nn.Module):
    """F of the paper: a tower of hidden layers for each branch of h, then a module that joins the branches to a logit.

    The sets share one head, so S = 1. An ensemble has S = M heads, whose predictions are fused.

    Args:
        widths: H_b of each branch in h.
        towers: for each branch (B, S, H_b) -> (B, S, ·).
        join: outputs of the towers -> (B, S, 1).
        fuse: (B, S, 1) -> (B, 1).
    """

    def __init__(
        self, widths: list[int], towers: Sequence[nn.Module], join: nn.Module, fuse: Fusion = average_logits
    ) -> None:
        super().__init__()
        self.widths, self.fuse = widths, fuse
        self.towers = nn.ModuleList(towers)
        self.join = join

    def forward(self, h: Tensor, fused: bool = True) -> Tensor:
        """(B, S, ΣH_b) -> (B, 1), or the logit of each head (B, S, 1) if not ``fused``."""
        branches = h.split(self.widths, dim=-1)
        logits = self.join([tower(z) for tower, z in zip(self.towers, branches, strict=True)])  # (B, S, 1)
        return self.fuse(logits) if fused else logits


class LinearOfAll(nn.Module):
    """One linear layer over all branches."""

    def __init__(self, num_heads: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.fc = SetLinear(num_heads, sum(widths), 1)

    def forward(self, branches: Sequence[Tensor]) -> Tensor:
        """One (B, S, ·) for each branch -> (B, S, 1)."""
        return self.fc(torch.cat(list(branches), dim=-1))


class AddedLogits(nn.Module):
    """The sum of one logit per branch, each from a linear layer (xDeepFM)."""

    def __init__(self, num_heads: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.fc = nn.ModuleList(SetLinear(num_heads, width, 1) for width in widths)

    def forward(self, branches: Sequence[Tensor]) -> Tensor:
        """One (B, S, ·) for each branch -> (B, S, 1)."""
        return sum(fc(z) for fc, z in zip(self.fc, branches, strict=True))


class BilinearFusion(nn.Module):
    """w_x·x + w_y·y + Σ_part x_partᵀ W_part y_part, as FuxiCTR's ``InteractionAggregation`` (FinalMLP).

    Args:
        widths: of the two streams x and y.
        num_parts: number of parts into which both streams are split (FuxiCTR's ``num_heads``).

    Raises:
        UsageError: if the number of parts does not divide the widths.
    """

    def __init__(self, num_heads: int, widths: Sequence[int], num_parts: int = 1) -> None:
        super().__init__()
        x_dim, y_dim = widths
        self.w_x = SetLinear(num_heads, x_dim, 1)
        self.w_y = SetLinear(num_heads, y_dim, 1)
        self.bilinear = BilinearParts(num_heads, widths, num_parts)

    def forward(self, branches: Sequence[Tensor]) -> Tensor:
        """x and y, both (B, S, ·) -> (B, S, 1)."""
        x, y = branches
        return self.w_x(x) + self.w_y(y) + self.bilinear(x, y).sum(dim=-1, keepdim=True)


class BilinearParts(nn.Module):
    """x_partᵀ W_part y_part for each part of two streams.

    Args:
        num_sets: M, or S in a head.
        widths: of the two streams x and y.
        num_parts: P.

    Raises:
        UsageError: if the number of parts does not divide the widths.
    """

    def __init__(self, num_sets: int, widths: Sequence[int], num_parts: int) -> None:
        super().__init__()
        x_dim, y_dim = widths
        check_positive_int("num_heads", num_parts)
        if x_dim % num_parts or y_dim % num_parts:
            raise UsageError(f"num_heads must divide the last hidden units {x_dim} and {y_dim}, got {num_parts}")
        self.weight = nn.Parameter(torch.empty(num_sets, num_parts, x_dim // num_parts, y_dim // num_parts))

    def init_weights(self) -> None:
        """Initialise as FuxiCTR does: xavier_normal over all of W of a set as one column."""
        for weight in self.weight.data:
            nn.init.xavier_normal_(weight.view(-1, 1))

    def init_paper_weights(self) -> None:
        """Set W = 0 (authors' code)."""
        nn.init.zeros_(self.weight)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, M, ·), (B, M, ·) -> (B, M, P)."""
        x, y = (z.unflatten(-1, (self.weight.shape[1], -1)) for z in (x, y))  # (B, M, P, ·)
        return torch.einsum("bmpx,mpxy,bmpy->bmp", x, self.weight, y)
