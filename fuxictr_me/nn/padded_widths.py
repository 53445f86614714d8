"""Shapes of products that suit the matrix units of a GPU."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Kernels for tensor cores load rows that begin at multiples of 16 bytes: 4 float32 or 8 bfloat16 numbers.
MULTIPLE = 8
# Sizes of the tiles that a kernel computes, and the number of tiles that a product should have at least, with and
# without tensor cores. They were the fastest tried on an H200, with 4 and 10 sets of 390 columns and 4,096 rows.
TILES, LEAST_TILES = {True: (256, 128), False: (64, 64)}, {True: 80, False: 600}
MOST_CHUNKS = 8
ON_CPU = False  # whether a CPU computes batched products as a GPU does; tests set it
HAS_TENSOR_CORES = False  # whether products are rounded to tf32 or bf16, which tensor cores multiply


@contextlib.contextmanager
def tensor_cores(has_tensor_cores: bool) -> Iterator[None]:
    """Choose within the context whether products have shapes for tensor cores. Results are the same."""
    global HAS_TENSOR_CORES
    before, HAS_TENSOR_CORES = HAS_TENSOR_CORES, has_tensor_cores
    try:
        yield
    finally:
        HAS_TENSOR_CORES = before


def is_gpu_like(device: torch.device) -> bool:
    """Return whether products on ``device`` are batched over the sets."""
    return ON_CPU or device.type != "cpu"


def loadable_width(width: int, device: torch.device) -> int:
    """Return the width to which rows of ``width`` numbers are padded for tensor cores: the next ``MULTIPLE``."""
    return -(-width // MULTIPLE) * MULTIPLE if HAS_TENSOR_CORES and is_gpu_like(device) else width


def pad_columns(x: Tensor, width: int) -> Tensor:
    """Append columns of zeros: (..., n) -> (..., width)."""
    return x if x.shape[-1] == width else F.pad(x, (0, width - x.shape[-1]))


class BatchedProduct(torch.autograd.Function):
    """y = x Wᵀ of each set. The gradient of W is the sum of chunks of rows that are computed side by side.

    That gradient is a sum over all rows but a small matrix, with too few tiles for the multiprocessors of a GPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        """(M, B, in), (M, out, in) -> (M, B, out)."""
        ctx.save_for_backward(x, weight)
        return torch.bmm(x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        """(M, B, out) -> the gradients of x and of W."""
        x, weight = ctx.saved_tensors
        return torch.bmm(g, weight), _gradient_of_weight(g, x)


def _gradient_of_weight(g: Tensor, x: Tensor) -> Tensor:
    """gᵀ x of each set: (M, B, out), (M, B, in) -> (M, out, in)."""
    chunks = num_chunks(g.shape[0], g.shape[1], g.shape[2], x.shape[2])
    # Chunks of a tensor stored row by row would be copied. With torch.compile the kernel before writes them as needed.
    if chunks == 1 or not (torch.compiler.is_compiling() or (_is_stored_set_by_set(g) and _is_stored_set_by_set(x))):
        return torch.bmm(g.transpose(1, 2), x)
    g, x = (z.reshape(z.shape[0] * chunks, -1, z.shape[2]) for z in (g, x))
    return torch.bmm(g.transpose(1, 2), x).unflatten(0, (-1, chunks)).sum(dim=1)


def _is_stored_set_by_set(x: Tensor) -> bool:
    return x.stride(0) == x.shape[1] * x.stride(1)


def num_chunks(num_sets: int, rows: int, width_out: int, width_in: int) -> int:
    """Return the number of chunks of rows for the gradient of a weight (M, out, in): a power of two."""
    high, wide = TILES[HAS_TENSOR_CORES]
    tiles, chunks = num_sets * -(-width_out // high) * -(-width_in // wide), 1
    while chunks < MOST_CHUNKS and tiles * chunks < LEAST_TILES[HAS_TENSOR_CORES] and rows % (2 * chunks) == 0:
        chunks *= 2
    return chunks
