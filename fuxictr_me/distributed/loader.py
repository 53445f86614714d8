"""The batches of an epoch, as ranks feed them."""


class Fed:
    """A training loader whose first batch of an epoch is compared over the ranks that are fed the same.

    Args:
        loader (iterable): of batches, with a length.
        ranks (Ranks): that are fed the same.
        part (Part): where a loader has ``lanes``, and gives but the rows of this rank, it is told which these are.
    """

    def __init__(self, loader, ranks, part):
        self.loader, self.ranks, self.part = loader, ranks, part

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        lanes = getattr(self.loader, "lanes", None)
        for number, batch in enumerate(self.loader):
            if number == 0:
                self.ranks.check_alike(list(batch.values()), "the batches (where memory differs, set data_placement)")
            if lanes is not None:
                self.part.set(*lanes.part(number))
            yield batch
