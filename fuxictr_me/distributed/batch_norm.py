"""Batch norm over the parts of a batch that lie on several ranks."""

import torch
from torch import nn


class BatchNormOverRanks(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` whose statistics are those of the whole batch.

    As ``nn.SyncBatchNorm``, which does not run on a CPU and takes one row for none.

    Args:
        norm (nn.BatchNorm1d): whose parameters and statistics it takes over.
        ranks (Ranks): that have the parts.
        part (Part)
    """

    def __init__(self, norm, ranks, part):
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self.weight, self.bias, self.ranks, self.part = norm.weight, norm.bias, ranks, part
        for name, buffer in norm.named_buffers():
            setattr(self, name, buffer)
        self.train(norm.training)

    def forward(self, x):
        """(B of this rank, C) -> the same."""
        if not self.training:
            return super().forward(x)
        rows = self.part.total
        mean = SumOverParts.apply(x.sum(dim=0), self.ranks) / rows
        centred = x - mean
        variance = SumOverParts.apply(centred.square().sum(dim=0), self.ranks) / rows
        self._note(mean.detach(), variance.detach() * rows / (rows - 1))
        normed = centred * (variance + self.eps).rsqrt()
        return normed if self.weight is None else normed * self.weight + self.bias

    @torch.no_grad()
    def _note(self, mean, variance):
        if self.running_mean is not None:
            self.num_batches_tracked += 1
            share = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance, share)


class SumOverParts(torch.autograd.Function):
    """x -> Σ x over the ranks. Every rank's part of the loss depends on the sum: so their gradients are added up."""

    @staticmethod
    def forward(ctx, x, ranks):
        ctx.ranks = ranks
        return ranks.sum(x)

    @staticmethod
    def backward(ctx, gradient):
        return ctx.ranks.sum(gradient), None


def replace_batch_norms(module, ranks, part):
    """Put ``BatchNormOverRanks`` in place of every ``nn.BatchNorm1d`` inside ``module``."""
    for parent in list(module.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.BatchNorm1d:
                setattr(parent, name, BatchNormOverRanks(child, ranks, part))
