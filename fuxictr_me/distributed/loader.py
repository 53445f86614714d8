"""The batches of an epoch, the same for all ranks."""


class SameBatches:
    """A loader whose first batch of an epoch is compared over the ranks.

    Args:
        loader (iterable): of batches, with a length.
        ranks (Ranks)
    """

    def __init__(self, loader, ranks):
        self.loader, self.ranks = loader, ranks

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for number, batch in enumerate(self.loader):
            if number == 0:
                self.ranks.check_alike(list(batch.values()), "the batches (where memory differs, set data_placement)")
            yield batch
