"""Values of each training step that the callback ``Log`` reads."""

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


class StepRecord:
    """The mean loss and the last gradient norm of the steps since the last evaluation.

    Steps only write tensors on the device. They are read at evaluations.

    Args:
        device: of the model.

    Attributes:
        train_loss: mean loss of the steps before the last evaluation, regularisers included; NaN if unknown.
        gradient_norm: (), norm of the gradient of all parameters in the last step, before clipping; NaN if unknown.
    """

    def __init__(self, device: torch.device):
        self.train_loss = math.nan
        self.gradient_norm = torch.full((), math.nan, dtype=torch.float64, device=device)
        self._losses = torch.zeros((), dtype=torch.float64, device=device)
        self._num_losses = 0

    @torch.no_grad()
    def add_loss(self, loss: Any) -> None:
        """Add the loss of a step, a Tensor () or a number, to the mean that ``close_mean`` computes."""
        self._losses += loss.detach() if isinstance(loss, Tensor) else loss
        self._num_losses += 1

    def close_mean(self) -> None:
        """Set ``train_loss`` to the mean of the losses added since the last call."""
        self.train_loss = float(self._losses) / self._num_losses if self._num_losses else math.nan
        self._losses.zero_()
        self._num_losses = 0

    @contextlib.contextmanager
    def watch_clipping(self) -> Iterator[None]:
        """Record the norm that ``torch.nn.utils.clip_grad_norm_`` returns in the block.

        FuxiCTR's training step calls this function and drops its result.
        """
        clip = nn.utils.clip_grad_norm_

        def clip_and_record(*args: Any, **kwargs: Any) -> Tensor:
            norm = clip(*args, **kwargs)
            self.gradient_norm.copy_(norm.detach())
            return norm

        nn.utils.clip_grad_norm_ = clip_and_record
        try:
            yield
        finally:
            nn.utils.clip_grad_norm_ = clip
