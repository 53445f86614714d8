"""Gradients of ranks that train on parts of a batch, summed by PyTorch's DistributedDataParallel."""

import warnings
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from fuxictr_me.distributed.ranks import Ranks


class ForwardModule(nn.Module):
    """A module whose ``forward`` is a given method of the model, for DistributedDataParallel to wrap."""

    def __init__(self, model: nn.Module, forward: Callable[[dict], dict]):
        super().__init__()
        self.model, self._forward = model, forward

    def forward(self, inputs: dict) -> dict:
        """Return what the model's method returns."""
        return self._forward(inputs)


def wrap_forward(
    model: nn.Module, forward: Callable[[dict], dict], ranks: Ranks, sharded: set[str]
) -> DistributedDataParallel:
    """Wrap a forward method so that gradients, except those of sharded parameters, are summed over the ranks.

    They are sums, not means, because each rank's loss is the part of its rows in the mean over the whole batch.

    Args:
        model: has the parameters.
        forward: a method of the model.
        ranks: those that share a batch.
        sharded: names of parameters of which each rank has its own rows. They are left alone, as all buffers are.
    """
    whole = ForwardModule(model, forward)
    ignored = [f"model.{name}" for name in {*sharded, *(name for name, _ in model.named_buffers())}]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(whole, ignored)
    # PyTorch warns so of gradients with a dimension of one entry, whose stride does not matter.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    reduced = DistributedDataParallel(whole, process_group=ranks.group, gradient_as_bucket_view=True)
    reduced.register_comm_hook(ranks.group, _sum_bucket)
    return reduced


def _sum_bucket(group: dist.ProcessGroup | None, bucket: dist.GradBucket) -> torch.futures.Future[torch.Tensor]:
    total = dist.all_reduce(bucket.buffer(), group=group, async_op=True).get_future()
    return total.then(lambda done: done.value()[0])
