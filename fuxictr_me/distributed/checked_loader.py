"""The batches of an epoch, as ranks feed them."""


class Fed:
    """A training loader whose first batch of an epoch is compared over the ranks that are fed the same.

    Args:
        loader (iterable): of batches, with a length: of whole ones, the same for all ranks; or, with ``lanes``, of
            this rank's rows, the same for those across the groups.
        grid (Grid)
        part (Part): which is told the rows that a loader with ``lanes`` gives.
    """

    def __init__(self, loader, grid, part):
        self.loader, self.grid, self.part = loader, grid, part

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        lanes = getattr(self.loader, "lanes", None)
        alike = self.grid.all if lanes is None else self.grid.across
        for number, batch in enumerate(self.loader):
            if number == 0:
                alike.check_alike(list(batch.values()), "the batches (where memory differs, set data_placement)")
            if lanes is not None:
                self.part.set(*lanes.part(number))
            yield batch
