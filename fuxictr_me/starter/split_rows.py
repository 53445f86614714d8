"""Split a click log into training, validation and test rows: by time, or at random by a seed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from fuxictr_me.config.splits import SPLITS
from fuxictr_me.data.raw.convert_columns import label_value
from fuxictr_me.data.raw.divide_rows import assign_at_random, assign_by_time, count_parts, keep_rows
from fuxictr_me.data.raw.parse_times import read_times
from fuxictr_me.errors import UsageError
from fuxictr_me.starter.click_file import ClickFile

VALID_SHARE, TEST_SHARE = 0.1, 0.1


@dataclass(frozen=True)
class Split:
    """How the rows of a file are divided.

    Attributes:
        rows: split -> its rows.
        how: a phrase that says how they were divided.
    """

    rows: dict[str, pl.LazyFrame]
    how: str


def check_label(clicks: ClickFile, label: str) -> float:
    """Check that each label is 0 or 1, and return the share of 1.

    Raises:
        UsageError: an empty label, other values than 0 and 1, or only one of them.
    """
    dtype = clicks.schema[label]
    if dtype.is_nested() or dtype.is_temporal():
        raise UsageError(f"label {label!r} holds {dtype}, not 0 and 1")
    value = label_value(pl.col(label), dtype)
    counts = clicks.rows.select(
        rows=pl.len(), empty=pl.col(label).null_count(), zeros=(value == 0).sum(), ones=(value == 1).sum()
    )
    rows, empty, zeros, ones = counts.collect(engine="streaming").row(0)
    if empty:
        raise UsageError(f"label {label!r} is empty in {empty:,} of {rows:,} rows: fill or remove them")
    if zeros + ones < rows:
        other = pl.col(label).filter(((value != 0) & (value != 1)).fill_null(True)).unique().sort().head(3)
        shown = ", ".join(map(str, clicks.rows.select(other).collect()[label].to_list()))
        raise UsageError(
            f"label {label!r} must be 0 or 1, found also {shown}: add a column of 0 and 1 (such as rating >= 4), "
            "or write a config with task: regression"
        )
    if not (zeros and ones):
        raise UsageError(f"label {label!r} is {'1' if ones else '0'} in all {rows:,} rows: there is nothing to predict")
    return ones / rows


def split_by_time(clicks: ClickFile, time: str) -> Split:
    """Divide rows at two points in time, so that about 80 % are earlier than the first and 90 % than the second.

    Rows of the same time are in the same split.

    Raises:
        UsageError: a time is empty or cannot be read, or the times are too few to divide.
    """
    times = read_times(clicks.rows, time, f"--time {time}")
    counts = count_parts(len(times), VALID_SHARE, TEST_SHARE)
    assigned, (_, first, second) = assign_by_time(times, counts, f"--time {time}")
    how = f"by {time}: train before {first}, valid before {second}, test from then on"
    return Split(_divide(clicks, assigned), how)


def split_at_random(clicks: ClickFile, seed: int) -> Split:
    """Draw 80, 10 and 10 % of the rows by a seed.

    Raises:
        UsageError: fewer than ten rows.
    """
    count = clicks.rows.select(pl.len()).collect(engine="streaming").item()
    if count < 10:
        raise UsageError(f"{clicks.path} has {count} rows, too few to divide into training, validation and test")
    assigned = assign_at_random(count_parts(count, VALID_SHARE, TEST_SHARE), seed)
    how = f"at random by seed {seed}; name a column of times with --time to split by time"
    return Split(_divide(clicks, assigned), how)


def _divide(clicks: ClickFile, assigned: np.ndarray) -> dict[str, pl.LazyFrame]:
    """Return split -> its rows; ``assigned`` has the index of each row's split in ``SPLITS``."""
    return {name: keep_rows(clicks.rows, assigned == index) for index, name in enumerate(SPLITS)}


def write_splits(split: Split, label: str, folder: Path, report: Callable[[str], None]) -> dict[str, int]:
    """Write ``<split>.parquet`` files and return split -> rows.

    Args:
        split: the rows to write.
        label: must have both values in each split.
        folder: exists.
        report: is called with the name of each split that is written.

    Raises:
        UsageError: a split without rows, or with one value of the label only.
    """
    counts = {}
    for name, rows in split.rows.items():
        path = folder / f"{name}.parquet"
        rows.sink_parquet(path)
        written = pl.scan_parquet(path, glob=False)
        dtype = written.collect_schema()[label]
        ones = (label_value(pl.col(label), dtype) == 1).sum()
        counts[name], positive = written.select(pl.len(), ones.alias("ones")).collect().row(0)
        if positive in (0, counts[name]):
            raise UsageError(
                f"the {name} split ({split.how}) has {positive:,} of {counts[name]:,} labels of 1: too few rows"
            )
        report(name)
    return counts
