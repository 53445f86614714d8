"""``torch.masked_select`` by a mask that is the same for every row, as FuxiCTR's inner products pick a triangle."""

import torch
from torch.overrides import TorchFunctionMode

SELECTS = (torch.masked_select, torch.Tensor.masked_select)


class RecordMasks(TorchFunctionMode):
    """Notes what each ``masked_select`` of a forward picks out of a row.

    Attributes:
        positions (list): of each call: Tensor of positions in the flattened row, or None where rows differ.
    """

    def __init__(self):
        super().__init__()
        self.positions = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in SELECTS and len(args) == 2:
            self.positions.append(positions(*args))
        return function(*args, **(kwargs or {}))


class SelectByPosition(TorchFunctionMode):
    """Picks what ``RecordMasks`` noted by position: how much that is, a graph knows, and of a mask it does not.

    Args:
        recorded (list): the positions of a forward's calls, in their order.
    """

    def __init__(self, recorded):
        super().__init__()
        self.recorded = iter(recorded)

    def __torch_function__(self, function, types, args=(), kwargs=None):
        picked = next(self.recorded, None) if function in SELECTS and len(args) == 2 else None
        if picked is None:
            return function(*args, **(kwargs or {}))
        return args[0].flatten(1).index_select(1, picked).flatten()


def positions(x, mask):
    """Where a mask without rows of its own is true in the flattened rows of x (B, ...); None of any other mask."""
    if mask.ndim == x.ndim and mask.shape[0] == 1:
        mask = mask[0]
    return mask.expand(x.shape[1:]).flatten().nonzero().flatten() if mask.ndim < x.ndim else None
