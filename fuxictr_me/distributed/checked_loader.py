"""A training loader that checks whether all ranks are fed the same batches."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor

from fuxictr_me.distributed.batch_part import BatchPart
from fuxictr_me.distributed.grid import Grid


class CheckedLoader:
    """Yield the batches of a loader, and compare the first of an epoch over the ranks that must get the same.

    Args:
        loader: has a length and yields batches. They are whole and the same on all ranks; or, if it has
            ``rank_shares``, of this rank's rows, and the same in all groups.
        grid: the processes.
        part: is set to the rows that a loader with ``rank_shares`` yields.
    """

    def __init__(self, loader: Any, grid: Grid, part: BatchPart):
        self.loader, self.grid, self.part = loader, grid, part

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        shares = getattr(self.loader, "rank_shares", None)
        ranks = self.grid.all if shares is None else self.grid.across
        for number, batch in enumerate(self.loader):
            if number == 0:
                ranks.check_equal(list(batch.values()), "the batches (where memory differs, set data_placement)")
            if shares is not None:
                self.part.set(*shares.part(number))
            yield batch
