"""Make ``torch.masked_select`` traceable if its mask is the same for every row, as in FuxiCTR's inner products."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

SELECTS = (torch.masked_select, torch.Tensor.masked_select)


class RecordMasks(TorchFunctionMode):
    """Record what each ``masked_select`` of a forward selects from a row.

    Attributes:
        positions: for each call the positions in the flattened row, or None if rows differ.
    """

    def __init__(self) -> None:
        super().__init__()
        self.positions: list[Tensor | None] = []

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in SELECTS and len(args) == 2:
            self.positions.append(find_positions(*args))
        return function(*args, **(kwargs or {}))


class SelectByPosition(TorchFunctionMode):
    """Select recorded positions instead of a mask: their number is known to a graph, that of a mask is not.

    Args:
        positions: those of ``RecordMasks``, in the order of the calls.
    """

    def __init__(self, positions: list[Tensor | None]) -> None:
        super().__init__()
        self.positions = iter(positions)

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        selected = next(self.positions, None) if function in SELECTS and len(args) == 2 else None
        if selected is None:
            return function(*args, **(kwargs or {}))
        return args[0].flatten(1).index_select(1, selected).flatten()


def find_positions(x: Tensor, mask: Tensor) -> Tensor | None:
    """Return where a mask is true in the flattened rows of x (B, ...); None if the mask differs between rows."""
    if mask.ndim == x.ndim and mask.shape[0] == 1:
        mask = mask[0]
    return mask.expand(x.shape[1:]).flatten().nonzero().flatten() if mask.ndim < x.ndim else None
