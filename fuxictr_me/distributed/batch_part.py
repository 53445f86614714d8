"""The rows of a batch that one rank trains on."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass
class BatchPart:
    """Rows ``start`` to ``stop`` of the current batch of ``total`` rows.

    Whatever depends on the whole batch reads it: the mean of the loss, batch norm, dropout.
    """

    total: int = 0
    start: int = 0
    stop: int = 0

    def set(self, total: int, start: int, stop: int) -> None:
        """Set the rows of the next batch."""
        self.total, self.start, self.stop = total, start, stop

    def slice_batch(self, batch: dict[str, Tensor], member: int, members: int) -> dict[str, Tensor]:
        """Return the rows of member g of G out of a batch, field -> (B, ...)."""
        total = len(next(iter(batch.values())))
        self.set(total, member * total // members, (member + 1) * total // members)
        return {name: x[self.start : self.stop] for name, x in batch.items()}


class PartialMeanLoss:
    """A loss function of FuxiCTR's on a rank's rows: their part of the mean over the whole batch.

    Args:
        loss_fn: (y_pred, y_true, reduction) -> Tensor ().
        part: the rows of this rank.
    """

    def __init__(self, loss_fn: Callable[..., Tensor], part: BatchPart):
        self.loss_fn, self.part = loss_fn, part

    def __call__(self, y_pred: Tensor, y_true: Tensor, reduction: str = "mean") -> Tensor:
        return self.loss_fn(y_pred, y_true, reduction="sum") / self.part.total
