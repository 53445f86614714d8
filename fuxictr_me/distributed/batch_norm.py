"""Batch norm over the parts of a batch that lie on several ranks."""

from typing import Any

import torch
from torch import Tensor, nn

from fuxictr_me.distributed.batch_part import BatchPart
from fuxictr_me.distributed.ranks import Ranks


class BatchNormOverRanks(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` with the statistics of the whole batch.

    ``nn.SyncBatchNorm`` does the same on a GPU only, and needs a row on every rank.

    Args:
        norm: its parameters and statistics are taken over.
        ranks: those that hold the parts.
        part: the rows of this rank.
    """

    def __init__(self, norm: nn.BatchNorm1d, ranks: Ranks, part: BatchPart):
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias, self.ranks, self.part = norm.weight, norm.bias, ranks, part
        for name, buffer in norm.named_buffers():
            setattr(self, name, buffer)
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B of this rank, C)."""
        if not self.training:
            return super().forward(x)
        rows = self.part.total
        mean = SumOverParts.apply(x.sum(dim=0), self.ranks) / rows
        centred = x - mean
        variance = SumOverParts.apply(centred.square().sum(dim=0), self.ranks) / rows
        self._update_statistics(mean.detach(), variance.detach() * rows / (rows - 1))
        normed = centred * (variance + self.eps).rsqrt()
        return normed if self.weight is None else normed * self.weight + self.bias

    @torch.no_grad()
    def _update_statistics(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            share = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance, share)


class SumOverParts(torch.autograd.Function):
    """x -> Σ x over the ranks. Every rank's part of the loss depends on the sum, so gradients are summed, too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks = ranks
        return ranks.sum(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.sum(gradient), None


def replace_batch_norms(module: nn.Module, ranks: Ranks, part: BatchPart) -> None:
    """Replace every ``nn.BatchNorm1d`` inside ``module`` by ``BatchNormOverRanks``."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm1d:
                setattr(parent, name, BatchNormOverRanks(child, ranks, part))
