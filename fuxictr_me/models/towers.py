"""Where the sets meet: per-set projections before the aggregation, a shared head behind it."""

import torch
from fuxictr.pytorch.layers import MLP_Block
from torch import nn

from fuxictr_me.errors import UsageError, positive_int
from fuxictr_me.interactions.mlp import SetMLP, per_layer
from fuxictr_me.settings import check_activation, check_bool, check_dropout


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
    """F of the paper: a tower of hidden layers for each branch of h, then one linear layer to the logit.

    Args:
        widths (list of int): H_b of each branch in h.
        towers (list of nn.Module): one a branch, (B, H_b) -> (B, ·).
        output_dim (int): summed widths of what the towers give.
    """

    def __init__(self, widths, towers, output_dim):
        super().__init__()
        self.widths = widths
        self.towers = nn.ModuleList(towers)
        self.fc = nn.Linear(output_dim, 1)

    def forward(self, h):
        """(B, ΣH_b) -> (B, 1)."""
        branches = h.split(self.widths, dim=-1)
        return self.fc(torch.cat([f(z) for f, z in zip(self.towers, branches, strict=True)], dim=-1))


class AddedLogits(nn.Module):
    """F of the paper where branches meet at the logit (xDeepFM): a tower and a linear layer each, logits added.

    Args:
        widths (list of int): H_b of each branch in h.
        towers (list of nn.Module): one a branch, (B, H_b) -> (B, ·).
        output_dims (list of int): widths of what the towers give.
    """

    def __init__(self, widths, towers, output_dims):
        super().__init__()
        self.widths = widths
        self.towers = nn.ModuleList(towers)
        self.fc = nn.ModuleList(nn.Linear(width, 1) for width in output_dims)

    def forward(self, h):
        """(B, ΣH_b) -> (B, 1)."""
        branches = zip(self.fc, self.towers, h.split(self.widths, dim=-1), strict=True)
        return sum(fc(tower(z)) for fc, tower, z in branches)


def build_towers(
    num_sets, branches, hidden_activations="ReLU", dropout_rates=0.0, batch_norm=False, added_logits=False
):
    """Split each branch's MLP where the paper does: the first hidden layer per set, the rest shared.

    So ME has one projection a set and a head that is one hidden layer shorter; with one set the two
    together are the whole MLP of the single-embedding model (paper, section 4 and its fairness rule).

    Args:
        num_sets (int): M.
        branches (list of (int, list of int or None)): input width of one set and hidden units of each
            branch; None where a branch has no MLP and is averaged as it is.
        hidden_activations, dropout_rates, batch_norm: as FuxiCTR's ``MLP_Block`` takes them.
        added_logits (bool): a logit a branch, added; else one linear layer over all branches.

    Returns:
        (Projections, Head or AddedLogits)

    Raises:
        UsageError: no hidden unit, or lists of another length than the hidden units.
    """
    projections, widths, towers, output_dims = [], [], [], []
    for input_dim, units in branches:
        if units is None:
            projections.append(nn.Identity())
            widths.append(input_dim)
            towers.append(nn.Identity())
            output_dims.append(input_dim)
            continue
        units, activations, dropouts, _ = check_mlp(units, hidden_activations, dropout_rates, batch_norm)
        projections.append(SetMLP(num_sets, input_dim, units[:1], activations[:1], dropouts[:1], batch_norm))
        widths.append(units[0])
        towers.append(
            MLP_Block(
                input_dim=units[0],
                hidden_units=units[1:],
                hidden_activations=activations[1:],
                dropout_rates=dropouts[1:],
                batch_norm=batch_norm,
            )
        )
        output_dims.append(units[-1])
    head = AddedLogits(widths, towers, output_dims) if added_logits else Head(widths, towers, sum(output_dims))
    return Projections(projections), head


def check_mlp(hidden_units, activations, dropout_rates, batch_norm):
    """The settings of an MLP, one activation and one dropout rate a layer, as ``SetMLP`` takes them.

    Raises:
        UsageError: no hidden unit, lists of another length than the hidden units, or impossible values.
    """
    if not isinstance(hidden_units, list | tuple) or not hidden_units:
        raise UsageError(f"hidden units must be a list of one integer or more, got {hidden_units!r}")
    for width in hidden_units:
        positive_int("each of the hidden units", width)
    activations = per_layer("hidden_activations", activations, hidden_units)
    dropouts = per_layer("dropout_rates", dropout_rates, hidden_units)
    for activation in activations:
        check_activation(activation)
    for rate in dropouts:
        check_dropout(rate)
    check_bool("batch_norm", batch_norm)
    return list(hidden_units), activations, dropouts, batch_norm
