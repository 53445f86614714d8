"""Divide the rows of raw files into training, validation and test rows: by order, at random, or by time."""

import itertools

import numpy as np
import polars as pl

from fuxictr_me.config.splits import SPLITS
from fuxictr_me.errors import UsageError

ROW = "\0row"


def count_parts(rows: int, valid_size: float, test_size: float) -> list[int]:
    """Return the number of training, validation and test rows.

    Args:
        rows: of all splits together.
        valid_size: share of the rows, below 1 and rounded down as FuxiCTR does, or number of rows.
        test_size: likewise.

    Raises:
        UsageError: no rows are left for training, or a share is less than one row.
    """
    valid, test = (int(rows * size) if size < 1 else int(size) for size in (valid_size, test_size))
    for key, size, part in (("valid_size", valid_size, valid), ("test_size", test_size, test)):
        if size and not part:
            raise UsageError(f"{key}: {size} of {rows:,} rows is less than one row")
    if valid + test >= rows:
        raise UsageError(f"valid_size and test_size take {valid:,} + {test:,} of {rows:,} rows: none is left to train")
    return [rows - valid - test, valid, test]


def assign_in_order(counts: list[int]) -> np.ndarray:
    """Return the split of each row, as an index into ``SPLITS``: training rows first, test rows last. (rows,) uint8."""
    return np.repeat(np.arange(len(SPLITS), dtype=np.uint8), counts)


def assign_at_random(counts: list[int], seed: int) -> np.ndarray:
    """Return the split of each row, drawn by a seed, as an index into ``SPLITS``. (rows,) uint8."""
    assigned = np.empty(sum(counts), np.uint8)
    assigned[np.random.default_rng(seed).permutation(len(assigned))] = assign_in_order(counts)
    return assigned


def assign_by_time(times: pl.Series, counts: list[int], label: str) -> tuple[np.ndarray, list]:
    """Return the split of each row by time, and the first time of each split.

    Rows of the same time are in the same split, so the validation and test splits may be larger than ``counts``.

    Args:
        times: of the rows, (rows,).
        counts: training, validation and test rows.
        label: what an error begins with.

    Returns:
        Indices into ``SPLITS``, (rows,) uint8; and the first time of each split that has rows.

    Raises:
        UsageError: the times are too few to divide.
    """
    ordered = times.sort()
    starts = np.cumsum([0, *counts[:-1]])
    firsts = [ordered[int(start)] for start, count in zip(starts, counts, strict=True) if count]
    if any(a >= b for a, b in itertools.pairwise(firsts)):
        raise UsageError(f"{label}: it has too few different times to divide the rows into {len(firsts)} parts")
    assigned = np.zeros(len(times), np.uint8)
    for split, first in zip([s for s, count in enumerate(counts) if count], firsts, strict=True):
        assigned[(times >= first).to_numpy()] = split
    return assigned, firsts


def keep_rows(rows: pl.LazyFrame, chosen: np.ndarray) -> pl.LazyFrame:
    """Return the rows of a query for which ``chosen`` is true, in their order.

    Args:
        rows: yields n rows in a fixed order.
        chosen: (n,) bool.
    """

    def look_up(row: pl.Series) -> pl.Series:
        return pl.Series(chosen[row.to_numpy()])

    # not a slice of contiguous rows: polars 1.44 counts the rows of a slice of several files wrongly
    is_kept = pl.col(ROW).map_batches(look_up, return_dtype=pl.Boolean, is_elementwise=True)
    return rows.with_row_index(ROW).filter(is_kept).drop(ROW)
