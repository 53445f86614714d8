"""Row widths that the matrix units of a GPU can load."""

import torch
from torch import Tensor
from torch.nn import functional as F

# In numbers. Kernels for tensor cores load rows that begin at multiples of 16 bytes: 4 float32 or 8 bfloat16 numbers.
MULTIPLE = 8
ON_CPU = False  # whether a CPU computes as a GPU does, padded and in batched products; tests set it


def is_gpu_like(device: torch.device) -> bool:
    """Return whether products on ``device`` are batched over the sets, with padded widths."""
    return ON_CPU or device.type != "cpu"


def loadable_width(width: int, device: torch.device) -> int:
    """Return the width to which rows of ``width`` numbers are padded on ``device``: the next ``MULTIPLE`` on a GPU."""
    return -(-width // MULTIPLE) * MULTIPLE if is_gpu_like(device) else width


def pad_columns(x: Tensor, width: int) -> Tensor:
    """Append columns of zeros: (..., n) -> (..., width)."""
    return x if x.shape[-1] == width else F.pad(x, (0, width - x.shape[-1]))
