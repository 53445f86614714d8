"""FuxiCTR's optimizer, in PyTorch's fused form where there is one."""

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
