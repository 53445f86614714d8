"""FuxiCTR's optimizers, in PyTorch's fused form if there is one."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from fuxictr.pytorch.torch_utils import get_optimizer
from torch.nn import Parameter

from fuxictr_me.config.optimizer_options import as_keywords, spell_optimizer

FUSED = ("Adam", "AdamW", "SGD")


def build_optimizer(
    name: str, parameters: Iterable[Parameter], lr: float, arguments: dict[str, Any] | None = None
) -> torch.optim.Optimizer:
    """Return the optimizer of FuxiCTR's ``get_optimizer``; Adam, AdamW and SGD with the same arithmetic in one kernel.

    Args:
        name: of a class in ``torch.optim``, in any case.
        parameters: to optimize.
        lr: learning rate.
        arguments: further arguments of the class, as ``optimizer_args`` of a config has them.
    """
    parameters, keywords = list(parameters), as_keywords(arguments)
    cls = spell_optimizer(name)
    on_known_device = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    if cls in FUSED and on_known_device:
        return getattr(torch.optim, cls)(parameters, lr=lr, fused=True, **keywords)
    if keywords:
        return getattr(torch.optim, cls)(parameters, lr=lr, **keywords)
    return get_optimizer(cls, parameters, lr)


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
