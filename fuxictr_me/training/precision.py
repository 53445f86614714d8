"""The precision of matrix products, by choice."""

import contextlib

import torch

from fuxictr_me.nn.padded_widths import tensor_cores

PRECISIONS = ("float32", "tf32", "bf16")


@contextlib.contextmanager
def matmul_precision(precision):
    """Matrix products of float32 in TF32 for ``tf32`` (10 bits of mantissa; on GPUs that have it), else as they are."""
    before = torch.get_float32_matmul_precision()
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")
    try:
        with tensor_cores(precision != "float32"):
            yield
    finally:
        if precision == "tf32":
            torch.set_float32_matmul_precision(before)


def autocast(precision, device):
    """PyTorch's autocast to bfloat16 for ``bf16``: parameters, their updates and the loss stay float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
