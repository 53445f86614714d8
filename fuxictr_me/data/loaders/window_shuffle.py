"""In which order a set is read that does not fit in memory."""

import numpy as np


class WindowOrder:
    """A two-level shuffle: blocks in random order, then rows in a window of blocks.

    A block is read as one piece, so reading stays sequential where it matters; a window of many blocks from
    all over the set is shuffled row by row. Every row comes once. It is not a uniform permutation: two rows
    of one block share a window; ``mixing`` says how far from uniform an order is.

    Args:
        num_rows (int): N.
        block_rows (int): rows of a block.
        window_rows (int): rows of a window, rounded to whole blocks, at least one.
        shuffle (bool): False reads windows one after the other, rows as they lie.
    """

    def __init__(self, num_rows, block_rows, window_rows, shuffle):
        self.num_rows, self.block_rows, self.shuffle = num_rows, block_rows, shuffle
        self.blocks_a_window = max(1, window_rows // block_rows)

    def windows(self, seed, epoch):
        """Of each window of an epoch: the row ranges of its blocks, and the permutation of its rows or None.

        Args:
            seed, epoch (int): the order depends on these alone.

        Yields:
            (list of (int, int), numpy array (n,) or None)
        """
        random = np.random.default_rng([seed, epoch])
        starts = np.arange(0, self.num_rows, self.block_rows)
        if self.shuffle:
            random.shuffle(starts)
        for first in range(0, len(starts), self.blocks_a_window):
            window = starts[first : first + self.blocks_a_window]
            ranges = [(int(start), int(min(start + self.block_rows, self.num_rows))) for start in window]
            rows = sum(stop - start for start, stop in ranges)
            yield ranges, random.permutation(rows) if self.shuffle else None

    def rows(self, seed, epoch):
        """All rows of an epoch in their order, (N,): to measure it; it takes the memory that windows save."""
        parts = []
        for ranges, order in self.windows(seed, epoch):
            window = np.concatenate([np.arange(start, stop) for start, stop in ranges])
            parts.append(window if order is None else window[order])
        return np.concatenate(parts)


def mixing(order, batch_size):
    """How well an order mixes a set whose rows drift from first to last: 1 is a uniform permutation, 0 none.

    The variance of the batches' mean position, against that of a uniform permutation, (N + 1)(N - B) / 12B:
    1 where they are equal; 1/ratio where batches vary more. A sorted file, say by time, is the worst case
    that this stands for.

    Args:
        order (array): (N,), the positions in the file, as they come.
        batch_size (int): B.

    Returns:
        float: in (0, 1], up to sampling noise of about √(2B/N).
    """
    count = len(order) // batch_size
    means = np.asarray(order[: count * batch_size], np.float64).reshape(count, batch_size).mean(axis=1)
    uniform = (len(order) + 1) * (len(order) - batch_size) / (12 * batch_size)
    return float(min(1.0, uniform / max(means.var(), np.finfo(float).tiny)))
