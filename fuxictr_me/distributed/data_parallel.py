"""The gradients of ranks that have parts of a batch, added up by PyTorch's DistributedDataParallel."""

import warnings

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


class Forward(nn.Module):
    """A model's forward as that of a module of its own, for DistributedDataParallel to wrap.

    Args:
        model (nn.Module)
        forward (callable): of the model.
    """

    def __init__(self, model, forward):
        super().__init__()
        self.model, self._forward = model, forward

    def forward(self, inputs):
        """As the model's."""
        return self._forward(inputs)


def data_parallel(model, forward, ranks, divided):
    """``forward``, behind which the gradients of all parameters but the divided ones are sums over the ranks.

    Sums, not means: each rank's loss is its rows' part of the whole batch's mean.

    Args:
        model (nn.Module), forward (callable)
        ranks (Ranks)
        divided (set of str): names of parameters of which each rank has its own rows. Like all buffers, they are left
            alone.

    Returns:
        DistributedDataParallel
    """
    whole = Forward(model, forward)
    ignored = [f"model.{name}" for name in {*divided, *(name for name, _ in model.named_buffers())}]
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(whole, ignored)
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")  # of dimensions of one entry
    reduced = DistributedDataParallel(whole, process_group=ranks.group, gradient_as_bucket_view=True)
    reduced.register_comm_hook(ranks.group, _sum)
    return reduced


def _sum(group, bucket):
    total = dist.all_reduce(bucket.buffer(), group=group, async_op=True).get_future()
    return total.then(lambda done: done.value()[0])
