"""One network for all embedding sets: the paper's ablation ME-SI."""

import torch
from torch import nn


class SharedBySets(nn.Module):
    """Apply a network of ONE set to each of M sets, in one pass.

    The M sets become more rows of the batch. Only batch norm tells rows of one set from those of another:
    it becomes ``SharedBatchNorm``.

    Args:
        network (nn.Module): takes tensors (B, 1, ·), gives one or a list of them.
        num_sets (int): M.
    """

    def __init__(self, network, num_sets):
        super().__init__()
        self.num_sets = num_sets
        self.network = network
        for parent in list(network.modules()):
            for name, child in parent.named_children():
                if type(child) is nn.BatchNorm1d:
                    setattr(parent, name, SharedBatchNorm(child, num_sets))

    def forward(self, *inputs):
        """Tensors (B, M, ·), or lists of them -> (B, M, ·), or a list of them."""
        outputs = self.network(*(_each(self._fold, x) for x in inputs))
        return _each(self._unfold, outputs)

    def _fold(self, x):
        return x.flatten(0, 1).unsqueeze(1)  # (B·M, 1, ·)

    def _unfold(self, x):
        return x.squeeze(1).unflatten(0, (-1, self.num_sets))  # (B, M, ·)


class SharedBatchNorm(nn.BatchNorm1d):
    """BatchNorm1d called M times a batch, once a set, with the same weights; here in one pass.

    So in training each set is normalised by its own statistics, and the running ones move M times, as in the
    authors' code, where one module is called for one set after the other.

    Args:
        norm (nn.BatchNorm1d): what it is for one set, H channels.
        num_sets (int): M.
    """

    def __init__(self, norm, num_sets):
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        self.num_sets = num_sets

    def forward(self, x):
        """(B·M, H), the sets of a row one after the other -> (B·M, H)."""
        if not self.training:
            return super().forward(x)
        by_set = x.view(-1, self.num_sets * self.num_features)
        with torch.no_grad():
            variances, means = torch.var_mean(by_set.unflatten(1, (self.num_sets, -1)), dim=0)
            for mean, variance in zip(means, variances, strict=True):
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance, self.momentum)
            self.num_batches_tracked += self.num_sets
        weight, bias = (p.repeat(self.num_sets) if self.affine else None for p in (self.weight, self.bias))
        y = nn.functional.batch_norm(by_set, None, None, weight, bias, training=True, eps=self.eps)
        return y.view(x.shape)


def _each(function, x):
    return [function(z) for z in x] if isinstance(x, list) else function(x)
