"""Which rows of a batch are a rank's."""

from dataclasses import dataclass


@dataclass
class Part:
    """Rows ``start`` to ``stop`` of a batch of ``total``: of the batch that a model is trained on at present.

    Everything that depends on the whole batch looks here: the mean of the loss, batch norm, dropout.
    """

    total: int = 0
    start: int = 0
    stop: int = 0

    def set(self, total, start, stop):
        """The batch that comes next."""
        self.total, self.start, self.stop = total, start, stop

    def cut(self, batch, member, members):
        """The rows of member g of G out of a batch, field -> (B, ...)."""
        total = len(next(iter(batch.values())))
        self.set(total, member * total // members, (member + 1) * total // members)
        return {name: x[self.start : self.stop] for name, x in batch.items()}


class PartOfMean:
    """A loss function of FuxiCTR's, of some rows: their part of the mean over the whole batch.

    Args:
        loss_fn (callable): (y_pred, y_true, reduction) -> Tensor ().
        part (Part)
    """

    def __init__(self, loss_fn, part):
        self.loss_fn, self.part = loss_fn, part

    def __call__(self, y_pred, y_true, reduction="mean"):
        return self.loss_fn(y_pred, y_true, reduction="sum") / self.part.total
