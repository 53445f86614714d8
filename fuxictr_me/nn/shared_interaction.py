"""One network for all embedding sets: the paper's ablation ME-SI."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class SharedBySets(nn.Module):
    """Apply a network of ONE set to each of M sets, in one pass.

    The M sets become more rows of the batch. Only batch norm must distinguish rows of different sets:
    it becomes ``SharedBatchNorm``.

    Args:
        network: takes tensors (B, 1, ·), or lists of them, and returns one or a list of them.
    """

    def __init__(self, network: nn.Module, num_sets: int) -> None:
        super().__init__()
        self.num_sets = num_sets
        self.network = network
        for parent in list(network.modules()):
            for name, child in parent.named_children():
                if type(child) is nn.BatchNorm1d:
                    setattr(parent, name, SharedBatchNorm(child, num_sets))

    def forward(self, *inputs: Any) -> Any:
        """Tensors (B, M, ·), or lists of them -> (B, M, ·), or a list of them."""
        outputs = self.network(*(_map(self._fold, x) for x in inputs))
        return _map(self._unfold, outputs)

    def _fold(self, x: Tensor) -> Tensor:
        return x.flatten(0, 1).unsqueeze(1)  # (B·M, 1, ·)

    def _unfold(self, x: Tensor) -> Tensor:
        return x.squeeze(1).unflatten(0, (-1, self.num_sets))  # (B, M, ·)


class SharedBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d called M times per batch with the same weights, once for each set; computed in one pass.

    In training each set is normalised by its own statistics, and the running statistics are updated M times, as in the
    authors' code, which calls one module for one set after the other.

    Args:
        norm: the module for one set, H channels.
    """

    momentum: float
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, norm: nn.BatchNorm1d, num_sets: int) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        self.num_sets = num_sets

    def forward(self, x: Tensor) -> Tensor:
        """(B·M, H), the sets of a row one after the other -> (B·M, H)."""
        if not self.training:
            return super().forward(x)
        x_by_set = x.view(-1, self.num_sets * self.num_features)
        with torch.no_grad():
            variances, means = torch.var_mean(x_by_set.unflatten(1, (self.num_sets, -1)), dim=0)
            for mean, variance in zip(means, variances, strict=True):
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance, self.momentum)
            self.num_batches_tracked += self.num_sets
        weight, bias = (p.repeat(self.num_sets) if self.affine else None for p in (self.weight, self.bias))
        y = nn.functional.batch_norm(x_by_set, None, None, weight, bias, training=True, eps=self.eps)
        return y.view(x.shape)


def _map(function: Callable[[Tensor], Tensor], x: Any) -> Any:
    return [function(z) for z in x] if isinstance(x, list) else function(x)
