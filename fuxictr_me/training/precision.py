"""The precision of matrix products."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch

from fuxictr_me.nn.padded_widths import tensor_cores

PRECISIONS = ("float32", "tf32", "bf16")


@contextlib.contextmanager
def matmul_precision(precision: str) -> Iterator[None]:
    """Compute matrix products of float32 in TF32 for ``tf32`` (10 bits of mantissa, on GPUs that support it)."""
    before = torch.get_float32_matmul_precision()
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        with tensor_cores(precision != "float32"):
            yield
    finally:
        if precision == "tf32":
            torch.set_float32_matmul_precision(before)


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """Return PyTorch's autocast to bfloat16 for ``bf16``. Parameters, their updates and the loss stay float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
