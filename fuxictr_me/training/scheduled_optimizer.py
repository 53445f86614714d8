"""The settings of a model's optimizer: its arguments, the schedule of its learning rate, and accumulated gradients."""

import math
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from fuxictr_me.compat import BaseModel
from fuxictr_me.errors import UsageError
from fuxictr_me.training.lr_schedule import build_schedule
from fuxictr_me.training.optimizer import build_optimizer


class ScheduledOptimizer(BaseModel):
    """A model with the settings ``optimizer_args``, ``weight_decay``, ``lr_schedule`` and ``accumulate_steps``.

    Attributes:
        schedule: of the learning rate, during and after ``fit``; None without ``lr_schedule``. A run that is resumed
            restores its ``state_dict``.
        accumulate_steps: number of batches whose gradients make one optimizer step.
    """

    schedule: LambdaLR | None = None
    accumulate_steps: int = 1
    _optimizer_args: dict[str, Any] | None = None
    _lr_schedule: dict[str, Any] | None = None
    _weight_decay: float | None = None

    def __init__(
        self,
        *args: Any,
        optimizer_args: dict[str, Any] | None = None,
        weight_decay: float | None = None,
        lr_schedule: dict[str, Any] | None = None,
        accumulate_steps: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._optimizer_args, self._weight_decay = optimizer_args, weight_decay
        self._lr_schedule, self.accumulate_steps = lr_schedule, accumulate_steps

    def build_optimizer(self, name: str, lr: float) -> torch.optim.Optimizer:
        """Return the optimizer of the settings for all parameters.

        Raises:
            UsageError: a weight decay is set, and the optimizer has none.
        """
        optimizer = build_optimizer(name, self.parameters(), lr, self._optimizer_args)
        if self._weight_decay is not None:
            if "weight_decay" not in optimizer.defaults:
                raise UsageError(f"optimizer {name!r} has no weight_decay")
            for group in optimizer.param_groups:
                group["weight_decay"] = self._weight_decay
        return optimizer

    def start_schedule(self, epochs: int, batches_per_epoch: int) -> None:
        """Set the learning rate of the first step.

        Args:
            epochs: largest number of epochs.
            batches_per_epoch: number of batches.

        Raises:
            UsageError: see ``build_schedule``.
        """
        if self._lr_schedule:
            steps = epochs * math.ceil(batches_per_epoch / self.accumulate_steps)
            self.schedule = build_schedule(self.optimizer, self._lr_schedule, steps)

    def lr_decay(self, factor: float = 0.1, min_lr: float = 1e-6) -> float:
        """Reduce the learning rate as FuxiCTR does. With a schedule this reduces its base rate.

        Args:
            factor: of the rate.
            min_lr: smallest base rate.

        Returns:
            The learning rate of the next step.
        """
        if self.schedule is None:
            return super().lr_decay(factor, min_lr)
        self.schedule.base_lrs = [max(rate * factor, min_lr) for rate in self.schedule.base_lrs]
        share = self.schedule.lr_lambdas[0](self.schedule.last_epoch)
        for group, rate in zip(self.optimizer.param_groups, self.schedule.base_lrs, strict=True):
            group["lr"] = rate * share
        return float(self.optimizer.param_groups[0]["lr"])
