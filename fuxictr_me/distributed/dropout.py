"""Dropout on some sets and some rows that drops what one process would drop of all of them."""

from torch import Tensor, nn
from torch.nn import functional as F

from fuxictr_me.distributed.batch_part import BatchPart
from fuxictr_me.nn import PerChannel, SetLinear


class DropoutOfPart(nn.Module):
    """``nn.Dropout`` on a rank's part of (B, ...), or of (B, M, H), with a mask that is drawn for the whole tensor.

    With equal seeds, ranks drop what one process drops, and their random number generators stay in step.

    Args:
        p: rate.
        part: the rows of this rank.
        own_sets: the sets of this rank; None behind the aggregation, where there are no sets.
        num_sets: M.
        sets_first: whether one process stores the tensor set after set, or row after row. A GPU draws in this order.
    """

    def __init__(
        self, p: float, part: BatchPart, own_sets: range | None = None, num_sets: int = 1, sets_first: bool = False
    ):
        super().__init__()
        self.p, self.part, self.own_sets, self.num_sets, self.sets_first = p, part, own_sets, num_sets, sets_first

    def forward(self, x: Tensor) -> Tensor:
        """Drop entries of (B of this rank, ...) or (B, M of this rank, H)."""
        if not self.training:
            return x
        rows = slice(self.part.start, self.part.stop)
        if self.own_sets is None:
            return x * F.dropout(x.new_ones(self.part.total, *x.shape[1:]), self.p)[rows]
        sizes = (self.num_sets, self.part.total) if self.sets_first else (self.part.total, self.num_sets)
        ones = x.new_ones(*sizes, x.shape[-1])
        kept = F.dropout(ones.transpose(0, 1) if self.sets_first else ones, self.p)
        return x * kept[rows, self.own_sets.start : self.own_sets.stop : self.own_sets.step]


def replace_dropouts(module: nn.Module, part: BatchPart, own_sets: range | None = None, num_sets: int = 1) -> None:
    """Replace every ``nn.Dropout`` inside ``module``, which applies its children in order, by ``DropoutOfPart``."""
    for parent in list(module.modules()):
        sets_first = True
        for name, child in parent.named_children():
            if isinstance(child, SetLinear):
                sets_first = True
            elif isinstance(child, PerChannel):
                sets_first = False
            elif isinstance(child, nn.Dropout):
                dropout = DropoutOfPart(child.p, part, own_sets, num_sets, own_sets is not None and sets_first)
                setattr(parent, name, dropout)
