"""What lies behind the interaction modules: projections of each set, and the head that they share."""

import torch
from torch import nn

from fuxictr_me.errors import UsageError, check_positive_int
from fuxictr_me.nn import SetLinear


class CutMLP:
    """The hidden layers of a branch, cut where the sets are aggregated.

    What lies before is the projection of a set, what lies behind is in the head: so multi-embedding has a
    projection a set and a head that is as much shorter, and with one set the two are the whole MLP of the
    single-embedding model (paper, section 4 and its fairness rule).

    Args:
        mlp (MLP or None): None where a branch has no hidden layers and is aggregated as it is.
        depth (int or None): hidden layers before the cut; None: all.
        nonlinear (bool): False cuts right behind the first linear map instead.
    """

    def __init__(self, mlp, depth=1, nonlinear=True):
        self.mlp, self.nonlinear = mlp, nonlinear
        self.depth = len(mlp.units) if mlp and depth is None else depth

    def projection(self, num_sets, input_dim):
        """The layers before the cut, (B, M, in or wider by zeros) -> (B, M, H)."""
        if self.mlp is None:
            return FirstColumns(input_dim)
        if not self.nonlinear:
            return SetLinear(num_sets, input_dim, self.mlp.units[0])
        return nn.Sequential(*self.mlp.layers(num_sets, input_dim, stop=self.depth))

    def tower(self, num_heads, input_dim):
        """The layers behind the cut, (B, S, in) -> (B, S, ·)."""
        if self.mlp is None:
            return nn.Identity()
        if not self.nonlinear:
            return nn.Sequential(*self.mlp.layers(num_heads, input_dim)[1:])
        return nn.Sequential(*self.mlp.layers(num_heads, input_dim, start=self.depth))

    def projected(self, input_dim):
        """H, the width of ``projection``'s output."""
        if self.mlp is None:
            return input_dim
        return self.mlp.units[self.depth - 1 if self.nonlinear else 0]

    def output_dim(self, input_dim):
        """The width of ``tower``'s output."""
        is_empty = self.mlp is None or (self.nonlinear and self.depth == len(self.mlp.units))
        return input_dim if is_empty else self.mlp.units[-1]


class FirstColumns(nn.Identity):
    """What stands in place of a projection: drops the zeros with which a GPU computes an interaction.

    Args:
        width (int): columns to keep.
    """

    def __init__(self, width: int):
        super().__init__()
        self.width = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, M, width or wider) -> (B, M, width)."""
        return x[..., : self.width]


class Projections(nn.Module):
    """Project every branch of every set and put the branches side by side: h⁽ᵐ⁾.

    Args:
        branches (list of nn.Module): one a branch, (B, M, ·) -> (B, M, H_b).
    """

    def __init__(self, branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, branch_inputs):
        """A list of (B, M, ·), one a branch -> (B, M, ΣH_b)."""
        return torch.cat([f(z) for f, z in zip(self.branches, branch_inputs, strict=True)], dim=-1)


class Head(nn.Module):
    """F of the paper: a tower of hidden layers for each branch of h, then what joins the branches to a logit.

    It is shared by the sets, so S = 1, but for an ensemble, which has S = M heads.

    Args:
        widths (list of int): H_b of each branch in h.
        towers (list of nn.Module): one a branch, (B, S, H_b) -> (B, S, ·).
        join (nn.Module): takes the list of what the towers give, gives (B, S, 1).
    """

    def __init__(self, widths, towers, join):
        super().__init__()
        self.widths = widths
        self.towers = nn.ModuleList(towers)
        self.join = join

    def forward(self, h):
        """(B, S, ΣH_b) -> (B, 1)."""
        branches = h.split(self.widths, dim=-1)
        logits = self.join([f(z) for f, z in zip(self.towers, branches, strict=True)])  # (B, S, 1)
        return logits.mean(dim=1)


class LinearOfAll(nn.Module):
    """One linear layer over all branches.

    Args:
        num_heads (int): S.
        widths (list of int): of the branches.
    """

    def __init__(self, num_heads, widths):
        super().__init__()
        self.fc = SetLinear(num_heads, sum(widths), 1)

    def forward(self, branches):
        """A list of (B, S, ·) -> (B, S, 1)."""
        return self.fc(torch.cat(branches, dim=-1))


class AddedLogits(nn.Module):
    """A linear layer and a logit for each branch, added (xDeepFM).

    Args:
        num_heads (int): S.
        widths (list of int): of the branches.
    """

    def __init__(self, num_heads, widths):
        super().__init__()
        self.fc = nn.ModuleList(SetLinear(num_heads, width, 1) for width in widths)

    def forward(self, branches):
        """A list of (B, S, ·) -> (B, S, 1)."""
        return sum(fc(z) for fc, z in zip(self.fc, branches, strict=True))


class BilinearFusion(nn.Module):
    """w_x·x + w_y·y + Σ_part x_partᵀ W_part y_part, as FuxiCTR's ``InteractionAggregation`` (FinalMLP).

    Args:
        num_heads (int): S.
        widths (list of int): of the two streams x and y.
        num_parts (int): FuxiCTR's ``num_heads``: both streams are split into as many.

    Raises:
        UsageError: widths that the parts do not divide.
    """

    def __init__(self, num_heads, widths, num_parts=1):
        super().__init__()
        x_dim, y_dim = widths
        self.w_x = SetLinear(num_heads, x_dim, 1)
        self.w_y = SetLinear(num_heads, y_dim, 1)
        self.bilinear = BilinearParts(num_heads, widths, num_parts)

    def forward(self, branches):
        """[x, y], both (B, S, ·) -> (B, S, 1)."""
        x, y = branches
        return self.w_x(x) + self.w_y(y) + self.bilinear(x, y).sum(dim=-1, keepdim=True)


class BilinearParts(nn.Module):
    """x_partᵀ W_part y_part for each part of two streams.

    Args:
        num_sets (int): M, or S in a head.
        widths (list of int): of the two streams x and y.
        num_parts (int): P.

    Raises:
        UsageError: widths that the parts do not divide.
    """

    def __init__(self, num_sets, widths, num_parts):
        super().__init__()
        x_dim, y_dim = widths
        check_positive_int("num_heads", num_parts)
        if x_dim % num_parts or y_dim % num_parts:
            raise UsageError(f"num_heads must divide the last hidden units {x_dim} and {y_dim}, got {num_parts}")
        self.weight = nn.Parameter(torch.empty(num_sets, num_parts, x_dim // num_parts, y_dim // num_parts))

    def init_weights(self):
        """FuxiCTR's: xavier_normal over all of W of a set as one column."""
        for weight in self.weight.data:
            nn.init.xavier_normal_(weight.view(-1, 1))

    def init_paper_weights(self):
        """The authors' code: W starts at 0."""
        nn.init.zeros_(self.weight)

    def forward(self, x, y):
        """(B, M, ·), (B, M, ·) -> (B, M, P)."""
        x, y = (z.unflatten(-1, (self.weight.shape[1], -1)) for z in (x, y))  # (B, M, P, ·)
        return torch.einsum("bmpx,mpxy,bmpy->bmp", x, self.weight, y)
