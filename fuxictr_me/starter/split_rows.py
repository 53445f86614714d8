"""Split a click log into training, validation and test rows: by time, or at random by a seed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from fuxictr_me.config.splits import SPLITS
from fuxictr_me.data.raw.convert_columns import label_value
from fuxictr_me.errors import UsageError
from fuxictr_me.starter.click_file import ClickFile
from fuxictr_me.starter.guess_columns import ISO_TIME

TRAIN_SHARE, VALID_SHARE = 0.8, 0.1
UNIX_UNITS = {"s": (1e8, 1e11), "ms": (1e11, 1e14), "us": (1e14, 1e17)}  # from 1973 on
FORMS = "ISO dates or times, such as 2024-05-01 or 2024-05-01T13:45:00, or unix time in seconds, milli- or microseconds"


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
    moment = _as_datetime(clicks, time)
    times = clicks.rows.select(moment.alias(time)).collect(engine="streaming")[time]
    if times.null_count():
        bad = clicks.rows.filter(moment.is_null()).select(pl.col(time)).head(1).collect().item()
        raise UsageError(f"--time {time}: {times.null_count():,} rows hold no time, such as {bad!r}; it reads {FORMS}")
    ordered = times.sort()
    first, second = (ordered[int(len(ordered) * share)] for share in (TRAIN_SHARE, TRAIN_SHARE + VALID_SHARE))
    if not ordered[0] < first < second:
        raise UsageError(f"--time {time}: it has too few different times to divide the rows into three parts")
    parts = (moment < first, (moment >= first) & (moment < second), moment >= second)
    how = f"by {time}: train before {first}, valid before {second}, test from then on"
    return Split({name: clicks.rows.filter(part) for name, part in zip(SPLITS, parts, strict=True)}, how)


def split_at_random(clicks: ClickFile, seed: int) -> Split:
    """Draw 80, 10 and 10 % of the rows by a seed.

    Raises:
        UsageError: fewer than ten rows.
    """
    count = clicks.rows.select(pl.len()).collect(engine="streaming").item()
    if count < 10:
        raise UsageError(f"{clicks.path} has {count} rows, too few to divide into training, validation and test")
    drawn = np.random.default_rng(seed).permutation(count)
    cuts = [int(count * TRAIN_SHARE), int(count * (TRAIN_SHARE + VALID_SHARE))]
    _, valid, test = (pl.Series(np.sort(part), dtype=pl.UInt32) for part in np.split(drawn, cuts))
    rows, row = clicks.rows.with_row_index("\0row"), pl.col("\0row")
    is_valid, is_test = row.is_in(valid.implode()), row.is_in(test.implode())
    parts = (~is_valid & ~is_test, is_valid, is_test)
    how = f"at random by seed {seed}; name a column of times with --time to split by time"
    return Split({name: rows.filter(part).drop("\0row") for name, part in zip(SPLITS, parts, strict=True)}, how)


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


def _as_datetime(clicks: ClickFile, time: str) -> pl.Expr:
    """Return the time of a row, in UTC without a time zone; null if it cannot be read."""
    column, dtype = pl.col(time), clicks.schema[time]
    if dtype.is_temporal() and dtype not in (pl.Time, pl.Duration):
        aware = isinstance(dtype, pl.Datetime) and dtype.time_zone
        return (
            column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if aware else column.cast(pl.Datetime("us"))
        )
    if dtype == pl.String:
        first = clicks.rows.select(column.drop_nulls().first()).collect().item() or ""
        if pl.Series([first]).str.contains(ISO_TIME).item():
            return _parse_iso(column)
        column = column.cast(pl.Float64, strict=False)
    elif not dtype.is_numeric():
        raise UsageError(f"--time {time}: it holds {dtype}; it reads {FORMS}")
    middle = clicks.rows.select(column.cast(pl.Float64).median()).collect(engine="streaming").item()
    for unit, (low, high) in UNIX_UNITS.items():
        if middle is not None and low <= middle < high:
            factor = {"s": 1e6, "ms": 1e3, "us": 1}[unit]
            return (column.cast(pl.Float64) * factor).cast(pl.Int64).cast(pl.Datetime("us"))
    raise UsageError(
        f"--time {time}: values such as {middle:.6g} are no time that is known; it reads {FORMS}"
        if middle is not None
        else f"--time {time}: its values are no times; it reads {FORMS}"
    )


def _parse_iso(column: pl.Expr) -> pl.Expr:
    """Return ISO text as times; an offset from UTC is subtracted."""
    text = column.str.replace(",", ".", literal=True).str.replace("T", " ", literal=True)
    plain = text.str.extract(r"^(\d{4}-\d{2}-\d{2}(?: \d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?)", 1)
    formats = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
    moments = [plain.str.strptime(pl.Datetime("us"), form, strict=False) for form in formats]
    moments.append(plain.str.strptime(pl.Date, "%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
    sign = pl.when(text.str.contains(r"-\d{2}:?\d{2}$") & text.str.contains(":")).then(-1).otherwise(1)
    offset = text.str.extract_groups(r"[ :\d.][+-](\d{2}):?(\d{2})$")
    minutes = offset.struct.field("1").cast(pl.Int64) * 60 + offset.struct.field("2").cast(pl.Int64)
    has_clock = text.str.contains(r"\d{2}:\d{2}")
    shift = pl.when(has_clock).then(sign * minutes).otherwise(0).fill_null(0)
    return pl.coalesce(moments) - pl.duration(minutes=shift)
