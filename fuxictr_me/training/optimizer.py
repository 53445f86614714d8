"""FuxiCTR's optimizer, in PyTorch's fused form where there is one."""

import contextlib
from collections.abc import Iterator

import torch
from fuxictr.pytorch.torch_utils import get_optimizer

FUSED = ("Adam", "AdamW", "SGD")


def build_optimizer(name, parameters, lr):
    """What FuxiCTR's ``get_optimizer`` gives; the same arithmetic in one kernel for Adam, AdamW and SGD.

    Args:
        name (str): of a class in ``torch.optim``, or ``adam``.
        parameters (iterable of Parameter)
        lr (float)

    Returns:
        Optimizer
    """
    parameters = list(parameters)
    cls = "Adam" if name == "adam" else name
    on_known_device = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    if cls in FUSED and on_known_device:
        return getattr(torch.optim, cls)(parameters, lr=lr, fused=True)
    return get_optimizer(name, parameters, lr)


class RatesAsTensors:
    """The learning rates of an Adam optimizer as tensors, which a recorded step reads anew in each replay.

    Args:
        optimizer: Adam or AdamW, whose groups hold them as numbers, as FuxiCTR's ``lr_decay`` leaves them.
        device: of the parameters.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device):
        self.groups = optimizer.param_groups
        dtype = torch.float32 if device.type == "cuda" else torch.float64  # what the fused kernels read
        self.rates = [float(group["lr"]) for group in self.groups]
        self.tensors = [torch.tensor(rate, dtype=dtype, device=device) for rate in self.rates]

    def update(self) -> None:
        """Take over what the optimizer's groups hold now."""
        for i, group in enumerate(self.groups):
            if group["lr"] != self.rates[i]:
                self.rates[i] = group["lr"]
                self.tensors[i].fill_(group["lr"])

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Let the optimizer's groups hold the tensors, and be capturable, meanwhile."""
        before = [(group["lr"], group["capturable"]) for group in self.groups]
        for group, tensor in zip(self.groups, self.tensors, strict=True):
            group.update(lr=tensor, capturable=True)
        try:
            yield
        finally:
            for group, (rate, capturable) in zip(self.groups, before, strict=True):
                group.update(lr=rate, capturable=capturable)
