"""Shuffled reading order of a data set that does not fit in memory."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np


class WindowOrder:
    """Two-level shuffle: blocks in random order, then rows in a window of blocks.

    Each block is read sequentially, in one piece. A window of many blocks from all over the data set is shuffled row by
    row. Each row occurs once. The result is not a uniform permutation, since rows of one block share a window;
    ``mixing`` measures how far from uniform an order is.

    Args:
        num_rows: N.
        block_rows: rows of a block.
        window_rows: rows of a window, rounded to whole blocks, at least one.
        shuffle: False reads all rows in the order of the file.
        origins: rows at which the counting of blocks starts again, ascending, such as the first row of each file. The
            first is 0 or less. So blocks coincide with those of the checksums, even if the rows begin within a block.
    """

    def __init__(
        self, num_rows: int, block_rows: int, window_rows: int, shuffle: bool, origins: Sequence[int] = (0,)
    ) -> None:
        self.num_rows, self.block_rows, self.shuffle = num_rows, block_rows, shuffle
        self.blocks_per_window = max(1, window_rows // block_rows)
        self._origins = origins

    def windows(self, seed: int, epoch: int) -> Iterator[tuple[list[tuple[int, int]], np.ndarray | None]]:
        """Yield the row ranges of the blocks of each window of an epoch, and the permutation (n,) of its rows or None.

        The order depends only on ``seed`` and ``epoch``.
        """
        random = np.random.default_rng([seed, epoch])
        bounds = self._block_bounds()
        blocks = np.arange(len(bounds) - 1)
        if self.shuffle:
            random.shuffle(blocks)
        for first in range(0, len(blocks), self.blocks_per_window):
            window = blocks[first : first + self.blocks_per_window]
            ranges = list(zip(bounds[window].tolist(), bounds[window + 1].tolist(), strict=True))
            rows = sum(stop - start for start, stop in ranges)
            yield ranges, random.permutation(rows) if self.shuffle else None

    def _block_bounds(self) -> np.ndarray:
        """Return the first row of each block, ascending, and at the end the number of rows."""
        ends = [min(origin, self.num_rows) for origin in (*self._origins, self.num_rows)]
        starts = [np.arange(start, stop, self.block_rows) for start, stop in pairwise(ends)]
        return np.unique(np.concatenate([*starts, [0, self.num_rows]]).clip(0))

    def rows(self, seed: int, epoch: int) -> np.ndarray:
        """Return all rows of an epoch in their order, (N,), to measure it with ``mixing``."""
        parts = []
        for ranges, order in self.windows(seed, epoch):
            window = np.concatenate([np.arange(start, stop) for start, stop in ranges])
            parts.append(window if order is None else window[order])
        return np.concatenate(parts)


def mixing(order: np.ndarray, batch_size: int) -> float:
    """Return how well an order mixes a data set whose rows drift from first to last, such as one sorted by time.

    It is the variance of a batch's mean position under a uniform permutation, (N + 1)(N - B) / 12B, divided by the
    variance in this order, and at most 1.

    Args:
        order: (N,), positions in the file, in the order of the epoch.
        batch_size: B.

    Returns:
        1 for a uniform permutation, near 0 for the order of the file, up to sampling noise of about √(2B/N).
    """
    count = len(order) // batch_size
    means = np.asarray(order[: count * batch_size], np.float64).reshape(count, batch_size).mean(axis=1)
    uniform = (len(order) + 1) * (len(order) - batch_size) / (12 * batch_size)
    return float(min(1.0, uniform / max(means.var(), np.finfo(float).tiny)))
