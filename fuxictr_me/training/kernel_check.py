"""A check of the Triton kernels on a table of a few rows, before they are used."""

import functools
import logging

import torch

from fuxictr_me.training import table_kernels
from fuxictr_me.training.adam_by_rows import adam_state, corrections, learning_rate

ROWS, STEPS, L2 = 50, 2, 1e-3


@functools.lru_cache
def kernels_work_on(device: torch.device, dim: int) -> bool:
    """Check on a small table that the kernels run here and are right. If not, a log line says why."""
    try:
        wrong = find_error(device, dim)
    except Exception as error:  # noqa: BLE001 - a missing compiler, an old driver, ...
        wrong = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    if wrong:
        logging.warning(f"tables are updated without Triton kernels: {wrong}")
    return not wrong


@torch.no_grad()
def find_error(device: torch.device, dim: int) -> str:
    """Take the same steps with the kernels and with PyTorch's Adam. Return what is wrong, or an empty text."""
    generator = torch.Generator().manual_seed(0)
    mine = torch.nn.Parameter(torch.randn(ROWS, dim, generator=generator).to(device))
    theirs = torch.nn.Parameter(mine.detach().double().cpu())
    optimizer, exact = torch.optim.Adam([mine]), torch.optim.Adam([theirs])
    sums = mine.new_zeros(1)
    slots = torch.arange(ROWS, dtype=torch.int32, device=device) - ROWS // 2  # the first half has no gradient
    slots.clamp_(min=-1)
    state, group = adam_state(optimizer, mine), optimizer.param_groups[0]
    for _ in range(STEPS):
        g = torch.randn(ROWS - ROWS // 2, dim, generator=generator)
        state["step"] += 1
        factor, lr = torch.full((), 0.5, device=device), learning_rate(group, mine)
        bias = corrections(state["step"], group["betas"])
        partial_sums = table_kernels.sweep(mine.detach(), state, slots, g.to(device), factor, lr, bias, group, l2=L2)
        sums = sums if partial_sums is None else partial_sums
        theirs.grad = 0.5 * L2 * theirs
        theirs.grad[ROWS // 2 :] += 0.5 * g
        exact.step()
    place = torch.arange(ROWS, device=device) % (ROWS // 2)
    place[:: ROWS // 2] = -1
    g = torch.randn(ROWS, dim, generator=generator).to(device)
    whole = g[1 : ROWS // 2] + g[ROWS // 2 + 1 :]
    square = table_kernels.sum_by_row(g, torch.ones_like(g), place, l2=L2)
    of_sum_by_row = float((g[1 : ROWS // 2] - whole).abs().max())
    of_square = abs(float(square / (whole.square().sum() + 2 * L2 * whole.sum())) - 1)
    error = float((mine.cpu().double() - theirs).abs().max())
    of_sum = abs(float(sums.sum()) / float(theirs.square().sum()) - 1)
    errors = {"weights": error, "their norm": of_sum, "gradients": of_sum_by_row, "their norm by row": of_square}
    if not all(e < 1e-5 for e in errors.values()):  # NaN is wrong, too
        return "on a small table they are off: " + ", ".join(f"{name} by {e:.1e}" for name, e in errors.items())
    return ""
