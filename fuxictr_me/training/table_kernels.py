"""Triton kernels that update a fused table. Import this module only if Triton is installed.

Tables are float32. Offsets are int64, because a table of 45 million ids x 100 has more than 2³¹ entries. On a CPU the
kernels run in Triton's interpreter (``TRITON_INTERPRET=1``).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK, WARPS = 1024, 8  # per program of ``sweep``: entries of the table, and warps; fastest on an H200
TILE = 1024  # entries per program of the kernels that process rows


# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False
# Triton gives the arguments of kernels their types: pointers and numbers.
# ruff: noqa: SIM108 - an ``if`` on a constant must stay a statement for Triton to compile one branch


@triton.jit
def _load(pointers, inside, CHECKED: tl.constexpr):
    if CHECKED:
        values = tl.load(pointers, mask=inside, other=0.0)
    else:
        values = tl.load(pointers)
    return values


@triton.jit
def _store(pointers, values, inside, CHECKED: tl.constexpr):
    if CHECKED:
        tl.store(pointers, values, mask=inside)
    else:
        tl.store(pointers, values)


@triton.jit
def _sweep(
    W, M, V, slots, gradient, factor, lr, correction1, correction2, sums, size, first_block, blocks, l1, l2, decay,
    beta1, rest1, beta2, rest2, eps,
    K: tl.constexpr, L1: tl.constexpr, SUMS: tl.constexpr, CHECKED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    block = tl.program_id(0) + first_block
    start = block.to(tl.int64) * BLOCK
    first_row = start // K
    ahead = (start - first_row * K).to(tl.int32)
    lane = tl.arange(0, BLOCK)
    entry = start + lane
    inside = entry < size
    row = first_row + (ahead + lane) // K
    column = (ahead + lane) % K

    w, m, v = _load(W + entry, inside, CHECKED), _load(M + entry, inside, CHECKED), _load(V + entry, inside, CHECKED)
    if CHECKED:
        slot = tl.load(slots + row, mask=inside, other=-1)
    else:
        slot = tl.load(slots + row)
    g = tl.load(gradient + slot.to(tl.int64) * K + column, mask=slot >= 0, other=0.0)

    g += l2 * w
    if L1:
        g += l1 * ((w > 0).to(tl.float32) - (w < 0).to(tl.float32))
    g = g * tl.load(factor) + decay * w
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * g * g
    step_size = tl.load(lr) / tl.load(correction1).to(tl.float32)
    root = tl.sqrt(tl.load(correction2).to(tl.float32))
    w -= step_size * m / (tl.sqrt(v) / root + eps)

    _store(W + entry, w, inside, CHECKED)
    _store(M + entry, m, inside, CHECKED)
    _store(V + entry, v, inside, CHECKED)
    if SUMS:
        if CHECKED:
            w = tl.where(inside, w, 0.0)
        tl.store(sums + block, tl.sum(w * w))
        if L1:
            tl.store(sums + blocks + block, tl.sum(tl.abs(w)))
            tl.store(sums + 2 * blocks + block, tl.sum((w != 0).to(tl.float32)))


def sweep(
    weight: Tensor,
    state: dict,
    slots: Tensor,
    gradient: Tensor,
    factor: Tensor,
    lr: Tensor,
    corrected: tuple[Tensor, Tensor],
    group: dict,
    l1: float = 0.0,
    l2: float = 0.0,
    block: int = BLOCK,
    warps: int = WARPS,
) -> Tensor | None:
    """Take a step of Adam on all rows of a table.

    Args:
        weight: (D, K), changed in place, as ``exp_avg`` and ``exp_avg_sq`` (D, K) in ``state`` are.
        slots: (D,), int32; the position of a row's gradient in ``gradient``, or -1.
        gradient: (n, K), of the loss.
        factor: (), with which clipping multiplies the gradients of loss and regulariser.
        lr: ().
        corrected: Adam's bias corrections, each a Tensor () of float64.
        group: the optimizer's, with ``betas``, ``eps`` and ``weight_decay``.
        l1, l2: the regulariser λ₁‖W‖₁ + λ₂/2 ‖W‖².
        block, warps: entries, and warps, per program.

    Returns:
        Σw² of the new weights in pieces, (1, pieces); with ``l1`` also Σ|w| and the number of w ≠ 0, (3, pieces); None
        without a regulariser.
    """
    (beta1, beta2), size = group["betas"], weight.numel()
    full, blocks = size // block, triton.cdiv(size, block)
    sums = weight.new_empty(3 if l1 else 1, blocks) if l1 or l2 else None
    tensors = weight, state["exp_avg"], state["exp_avg_sq"], slots, gradient, factor, lr, *corrected, sums
    numbers = float(l1), float(l2), float(group["weight_decay"]), beta1, 1 - beta1, beta2, 1 - beta2, group["eps"]
    constants = {"K": weight.shape[1], "L1": bool(l1), "SUMS": sums is not None, "BLOCK": block, "num_warps": warps}
    if full:
        _sweep[(full,)](*tensors, size, 0, blocks, *numbers, CHECKED=False, **constants)
    if blocks > full:
        _sweep[(blocks - full,)](*tensors, size, full, blocks, *numbers, CHECKED=True, **constants)
    return sums


@triton.jit
def _add_repeated(
    gradient, place, count, K: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr
):  # fmt: skip
    at = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    column = tl.arange(0, WIDTH)
    to = tl.load(place + at, mask=at < count, other=-1)
    inside = ((to >= 0) & (to != at))[:, None] & (column < K)[None, :]
    g = tl.load(gradient + at.to(tl.int64)[:, None] * K + column[None, :], mask=inside, other=0.0)
    tl.atomic_add(gradient + to.to(tl.int64)[:, None] * K + column[None, :], g, mask=inside, sem="relaxed")


@triton.jit
def _sum_squares(
    gradient, embeddings, place, sums, count, l1, l2,
    K: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr, L1: tl.constexpr, L2: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    column = tl.arange(0, WIDTH)
    is_sum = tl.load(place + at, mask=at < count, other=-1) == at
    inside = is_sum[:, None] & (column < K)[None, :]
    entry = at.to(tl.int64)[:, None] * K + column[None, :]
    g = tl.load(gradient + entry, mask=inside, other=0.0)
    total = g * g
    if L1 or L2:
        w = tl.load(embeddings + entry, mask=inside, other=0.0)
        total += 2 * l2 * g * w
        if L1:
            total += 2 * l1 * g * ((w > 0).to(tl.float32) - (w < 0).to(tl.float32))
    tl.store(sums + tl.program_id(0), tl.sum(tl.sum(total, axis=1), axis=0))


def sum_by_row(gradient: Tensor, embeddings: Tensor, place: Tensor, l1: float = 0.0, l2: float = 0.0) -> Tensor:
    """Add the gradients of a row's repetitions in a batch to that at its place.

    Args:
        gradient: (n, K), changed in place; rows that are no place keep a part of a sum.
        embeddings: (n, K), the rows of the table, w.
        place: (n,), int64; where the gradient is added, which is one of the positions of the row; -1: nowhere.
        l1, l2: of the regulariser, whose gradient is G = λ₁ sign(w) + λ₂ w.

    Returns:
        (), ‖ΔG‖² + 2⟨ΔG, G⟩, where ΔG is the sum.
    """
    grid, constants = _by_rows(len(place), gradient.shape[1])
    if not len(place):
        return gradient.new_zeros(())
    sums = gradient.new_empty(grid)
    _add_repeated[grid](gradient, place, len(place), **constants)
    numbers = len(place), float(l1), float(l2)
    _sum_squares[grid](gradient, embeddings, place, sums, *numbers, L1=bool(l1), L2=bool(l2), **constants)
    return sums.sum(dtype=torch.float64).to(gradient.dtype)


@triton.jit
def _move_rows(
    W, M, V, rows, moves, gradient, lr, correction1, correction2, count, beta1, rest1, beta2, rest2, eps,
    K: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr, LAZILY: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    column = tl.arange(0, WIDTH)
    moved = tl.load(moves + at, mask=at < count, other=0) != 0
    inside = moved[:, None] & (column < K)[None, :]
    row = tl.load(rows + at, mask=at < count, other=0).to(tl.int64)
    entry = row[:, None] * K + column[None, :]

    g = tl.load(gradient + at.to(tl.int64)[:, None] * K + column[None, :], mask=inside, other=0.0)
    w = tl.load(W + entry, mask=inside, other=0.0)
    m = beta1 * tl.load(M + entry, mask=inside, other=0.0) + rest1 * g
    v = beta2 * tl.load(V + entry, mask=inside, other=0.0) + rest2 * g * g
    step_size = tl.load(lr) / tl.load(correction1).to(tl.float32)
    root = tl.sqrt(tl.load(correction2).to(tl.float32))
    if LAZILY:
        w -= step_size * m / ((tl.sqrt(v) + eps) / root)
    else:
        w -= step_size * m / (tl.sqrt(v) / root + eps)
    tl.store(W + entry, w, mask=inside)
    tl.store(M + entry, m, mask=inside)
    tl.store(V + entry, v, mask=inside)


def move_rows(
    weight: Tensor,
    state: dict,
    rows: Tensor,
    moves: Tensor,
    gradient: Tensor,
    lr: Tensor,
    corrected: tuple[Tensor, Tensor],
    group: dict,
    lazily: bool = False,
) -> None:
    """Do what ``adam_by_rows.move_rows`` does, where ``moves`` (n,) is true, at most once per row."""
    (beta1, beta2), count = group["betas"], len(rows)
    tensors = weight, state["exp_avg"], state["exp_avg_sq"], rows, moves, gradient, lr, *corrected
    grid, constants = _by_rows(count, weight.shape[1])
    if count:
        numbers = beta1, 1 - beta1, beta2, 1 - beta2, group["eps"]
        _move_rows[grid](*tensors, count, *numbers, LAZILY=lazily, **constants)


@triton.jit
def _catch_up(
    W, M, V, rows, moves, coefficients, lr, count, eps,
    TERMS: tl.constexpr, K: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    at = tl.program_id(0) * GROUP + tl.arange(0, GROUP)
    column = tl.arange(0, WIDTH)
    moved = tl.load(moves + at, mask=at < count, other=0) != 0
    inside = moved[:, None] & (column < K)[None, :]
    row = tl.load(rows + at, mask=at < count, other=0).to(tl.int64)
    entry = row[:, None] * K + column[None, :]
    of_row = coefficients + at.to(tl.int64) * (TERMS + 4)

    w = tl.load(W + entry, mask=inside, other=0.0)
    m = tl.load(M + entry, mask=inside, other=0.0)
    v = tl.load(V + entry, mask=inside, other=0.0)
    y = tl.sqrt(v) * tl.load(of_row, mask=moved, other=0.0)[:, None]
    share = 1.0 / (y + eps)
    y = y * share
    series = tl.load(of_row + TERMS + 1, mask=moved, other=0.0)[:, None] + tl.zeros_like(y)
    for power in tl.static_range(TERMS):
        series = tl.load(of_row + TERMS - power, mask=moved, other=0.0)[:, None] - y * series
    w -= tl.load(lr) * share * m * series
    tl.store(W + entry, w, mask=inside)
    tl.store(M + entry, m * tl.load(of_row + TERMS + 2, mask=moved, other=1.0)[:, None], mask=inside)
    tl.store(V + entry, v * tl.load(of_row + TERMS + 3, mask=moved, other=1.0)[:, None], mask=inside)


def catch_up(
    weight: Tensor, state: dict, rows: Tensor, moves: Tensor, coefficients: Tensor, lr: Tensor, eps: float
) -> None:
    """Do what ``catch_up.make_up`` does, where ``moves`` (n,) is true, at most once per row."""
    tensors = weight, state["exp_avg"], state["exp_avg_sq"], rows, moves, coefficients, lr
    grid, constants = _by_rows(len(rows), weight.shape[1])
    if len(rows):
        _catch_up[grid](*tensors, len(rows), eps, TERMS=coefficients.shape[1] - 4, **constants)


def _by_rows(count: int, dim: int) -> tuple[tuple[int], dict]:
    """Return the grid and the shape of tiles of kernels that process rows."""
    width = triton.next_power_of_2(dim)
    group = max(1, TILE // width)
    return (triton.cdiv(count, group),), {"K": dim, "WIDTH": width, "GROUP": group, "num_warps": 4}
