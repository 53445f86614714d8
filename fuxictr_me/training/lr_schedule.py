"""Learning-rate schedules: a share of the base rate for each optimizer step."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from fuxictr_me.errors import UsageError


def build_schedule(optimizer: torch.optim.Optimizer, spec: dict[str, Any], total_steps: int) -> LambdaLR:
    """Return the schedule that the setting ``lr_schedule`` describes, and set the rate of the first step.

    Its base rate is that of the optimizer before any schedule, so a second training starts anew.

    Args:
        optimizer: of the model.
        spec: see ``fuxictr_me.config.optimizer_options.check_lr_schedule``.
        total_steps: optimizer steps of the whole training, at which ``cosine`` and ``linear`` end by default.

    Raises:
        UsageError: the warm-up is not over before the training or the schedule ends.
    """
    for group in optimizer.param_groups:
        group["lr"] = group.pop("initial_lr", group["lr"])
    return LambdaLR(optimizer, make_factor(spec, total_steps))


def make_factor(spec: dict[str, Any], total_steps: int) -> Callable[[int], float]:
    """Return the function that maps the number of completed optimizer steps to the factor of the base rate.

    With W warm-up steps and T steps in total, step t = 0, 1, … has the factor (t + 1) / W while t < W. Then it is 1
    for ``constant``. For ``cosine`` it is e + (1 - e)(1 + cos πp) / 2, and for ``linear`` 1 - (1 - e)p, where
    p = (t - W) / (T - W) and e is ``end_factor``. For ``step`` it is ``gamma`` to the power ⌊(t - W) / step_size⌋.

    Args:
        spec, total_steps: see ``build_schedule``.

    Raises:
        UsageError: see ``build_schedule``.
    """
    name, warmup = spec["name"], spec.get("warmup_steps", 0)
    end, total = spec.get("end_factor", 0.0), spec.get("total_steps") or total_steps
    if warmup >= total:
        raise UsageError(f"lr_schedule {name}: warmup_steps is {warmup}, but there are only {total} optimizer steps")

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if name == "step":
            return spec.get("gamma", 0.1) ** ((step - warmup) // spec["step_size"])
        progress = min(1.0, (step - warmup) / (total - warmup))
        if name == "cosine":
            return end + (1 - end) * (1 + math.cos(math.pi * progress)) / 2
        return 1 - (1 - end) * progress if name == "linear" else 1.0

    return factor
