"""Dropout of some sets that drops what one process would drop for all of them."""

from torch import nn
from torch.nn import functional as F

from fuxictr_me.interactions import PerChannel, SetLinear


class DropoutOfSets(nn.Module):
    """``nn.Dropout`` on (B, M of this rank, H): the mask is drawn for all M sets, and a rank takes its own sets' part.

    So with equal seeds ranks drop what one process drops, and their generators stay in step.

    Args:
        p (float): rate.
        own (range): the sets of this rank.
        num_sets (int): M.
        sets_first (bool): whether in one process the tensor lies set after set in memory, or row after row: the order
            in which a GPU draws.
    """

    def __init__(self, p, own, num_sets, sets_first):
        super().__init__()
        self.p, self.own, self.num_sets, self.sets_first = p, own, num_sets, sets_first

    def forward(self, x):
        """(B, M of this rank, H) -> the same."""
        if not self.training:
            return x
        rows, _, width = x.shape
        ones = x.new_ones(*((self.num_sets, rows) if self.sets_first else (rows, self.num_sets)), width)
        kept = F.dropout(ones.transpose(0, 1) if self.sets_first else ones, self.p)
        return x * kept[:, self.own.start : self.own.stop : self.own.step]


def replace_dropouts(module, own, num_sets):
    """Put ``DropoutOfSets`` in place of every ``nn.Dropout`` inside ``module``, which applies its children in order."""
    for parent in list(module.modules()):
        sets_first = True
        for name, child in parent.named_children():
            if isinstance(child, SetLinear):
                sets_first = True
            elif isinstance(child, PerChannel):
                sets_first = False
            elif isinstance(child, nn.Dropout):
                setattr(parent, name, DropoutOfSets(child.p, own, num_sets, sets_first))
