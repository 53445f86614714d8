"""FuxiCTR's optimizers, in PyTorch's fused form if there is one."""

import contextlib
from collections.abc import Iterable, Iterator

import torch
from fuxictr.pytorch.torch_utils import get_optimizer
from torch.nn import Parameter

FUSED = ("Adam", "AdamW", "SGD")


def build_optimizer(name: str, parameters: Iterable[Parameter], lr: float) -> torch.optim.Optimizer:
    """Return the optimizer of FuxiCTR's ``get_optimizer``; Adam, AdamW and SGD with the same arithmetic in one kernel.

    Args:
        name: of a class in ``torch.optim``, or ``adam``.
        parameters: to optimize.
        lr: learning rate.
    """
    parameters = list(parameters)
    cls = "Adam" if name == "adam" else name
    on_known_device = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    if cls in FUSED and on_known_device:
        return getattr(torch.optim, cls)(parameters, lr=lr, fused=True)
    return get_optimizer(name, parameters, lr)


class RatesAsTensors:
    """The learning rates of an Adam optimizer as tensors, which a recorded step reads in each replay.

    Args:
        optimizer: Adam or AdamW, whose groups hold the rates as numbers, because FuxiCTR's ``lr_decay`` sets numbers.
        device: of the parameters.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device):
        self.groups = optimizer.param_groups
        dtype = torch.float32 if device.type == "cuda" else torch.float64  # what the fused kernels read
        self.rates = [float(group["lr"]) for group in self.groups]
        self.tensors = [torch.tensor(rate, dtype=dtype, device=device) for rate in self.rates]

    def update(self) -> None:
        """Copy the present rates of the optimizer's groups into the tensors."""
        for i, group in enumerate(self.groups):
            if group["lr"] != self.rates[i]:
                self.rates[i] = group["lr"]
                self.tensors[i].fill_(group["lr"])

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Put the tensors into the optimizer's groups, and make them capturable, for the duration of the context."""
        before = [(group["lr"], group["capturable"]) for group in self.groups]
        for group, tensor in zip(self.groups, self.tensors, strict=True):
            group.update(lr=tensor, capturable=True)
        try:
            yield
        finally:
            for group, (rate, capturable) in zip(self.groups, before, strict=True):
                group.update(lr=rate, capturable=capturable)
