"""In which order a set is read that does not fit in memory."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

BLOCKS_A_WINDOW = 1 << 11  # the more, the nearer to a uniform shuffle; the fewer, the longer the reads
BLOCK_ROWS = (16, 1 << 10)  # at least, at most
WINDOW_BYTES = 1 << 28


def default_window_rows(row_bytes: int) -> int:
    """Return the rows of a streamed window of about 256 MB."""
    return max(1, WINDOW_BYTES // row_bytes)


def streamed_block_rows(row_bytes: int, window_rows: int | None = None) -> int:
    """Return the rows that are streamed as one piece; None is a window of the default size."""
    window_rows = default_window_rows(row_bytes) if window_rows is None else window_rows
    return min(window_rows, sorted((*BLOCK_ROWS, window_rows // BLOCKS_A_WINDOW))[1])


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
        origins: rows from which blocks are counted anew, ascending, such as the first row of each file; the first is
            0 or less. Then blocks lie in a file as its blocks of checksums do, also where the rows begin amid a block.
    """

    def __init__(
        self, num_rows: int, block_rows: int, window_rows: int, shuffle: bool, origins: Sequence[int] = (0,)
    ) -> None:
        self.num_rows, self.block_rows, self.shuffle = num_rows, block_rows, shuffle
        self.blocks_a_window = max(1, window_rows // block_rows)
        self._origins = origins

    def windows(self, seed: int, epoch: int) -> Iterator[tuple[list[tuple[int, int]], np.ndarray | None]]:
        """Yield, for each window of an epoch, the row ranges of its blocks and a permutation (n,) of its rows, or None.

        Args:
            seed, epoch: the order depends on these alone.
        """
        random = np.random.default_rng([seed, epoch])
        bounds = self._bounds()
        blocks = np.arange(len(bounds) - 1)
        if self.shuffle:
            random.shuffle(blocks)
        for first in range(0, len(blocks), self.blocks_a_window):
            window = blocks[first : first + self.blocks_a_window]
            ranges = list(zip(bounds[window].tolist(), bounds[window + 1].tolist(), strict=True))
            rows = sum(stop - start for start, stop in ranges)
            yield ranges, random.permutation(rows) if self.shuffle else None

    def _bounds(self) -> np.ndarray:
        """Where blocks begin, ascending, and the number of rows at the end."""
        ends = [min(origin, self.num_rows) for origin in (*self._origins, self.num_rows)]
        starts = [np.arange(start, stop, self.block_rows) for start, stop in pairwise(ends)]
        return np.unique(np.concatenate([*starts, [0, self.num_rows]]).clip(0))

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
