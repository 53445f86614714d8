"""Dropout of some sets, and some rows, that drops what one process would drop of all of them."""

from torch import nn
from torch.nn import functional as F

from fuxictr_me.nn import PerChannel, SetLinear


class DropoutOfPart(nn.Module):
    """``nn.Dropout`` on a rank's part of (B, ...), or of (B, M, H): the mask is drawn for all of it.

    So with equal seeds ranks drop what one process drops, and their generators stay in step.

    Args:
        p (float): rate.
        part (Part): the rows of this rank.
        own (range or None): the sets of this rank; None where there are none, behind the aggregation.
        num_sets (int): M.
        sets_first (bool): whether in one process the tensor lies set after set in memory, or row after row: the order
            in which a GPU draws.
    """

    def __init__(self, p, part, own=None, num_sets=1, sets_first=False):
        super().__init__()
        self.p, self.part, self.own, self.num_sets, self.sets_first = p, part, own, num_sets, sets_first

    def forward(self, x):
        """(B of this rank, ...) or (B, M of this rank, H) -> the same."""
        if not self.training:
            return x
        rows = slice(self.part.start, self.part.stop)
        if self.own is None:
            return x * F.dropout(x.new_ones(self.part.total, *x.shape[1:]), self.p)[rows]
        sizes = (self.num_sets, self.part.total) if self.sets_first else (self.part.total, self.num_sets)
        ones = x.new_ones(*sizes, x.shape[-1])
        kept = F.dropout(ones.transpose(0, 1) if self.sets_first else ones, self.p)
        return x * kept[rows, self.own.start : self.own.stop : self.own.step]


def replace_dropouts(module, part, own=None, num_sets=1):
    """Put ``DropoutOfPart`` in place of every ``nn.Dropout`` inside ``module``, which applies its children in order."""
    for parent in list(module.modules()):
        sets_first = True
        for name, child in parent.named_children():
            if isinstance(child, SetLinear):
                sets_first = True
            elif isinstance(child, PerChannel):
                sets_first = False
            elif isinstance(child, nn.Dropout):
                setattr(parent, name, DropoutOfPart(child.p, part, own, num_sets, own is not None and sets_first))
