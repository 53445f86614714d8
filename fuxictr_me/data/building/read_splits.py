"""Read the raw rows of each split: files of its own, or a part of the rows of ``train_data``."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from fuxictr_me.config.splits import SPLITS, get_dividing_settings, get_split_names, is_divided
from fuxictr_me.data.raw.divide_rows import assign_at_random, assign_by_time, assign_in_order, count_parts, keep_rows
from fuxictr_me.data.raw.find_files import is_parquet, separator
from fuxictr_me.data.raw.parse_times import read_times
from fuxictr_me.data.raw.raw_reader import scan_csv_as_text
from fuxictr_me.errors import unknown

if TYPE_CHECKING:
    from fuxictr_me.data.building.processor import PreparingProcessor


def read_splits(processor: "PreparingProcessor", raw: dict[str, list[Path]], params: dict) -> dict[str, pl.LazyFrame]:
    """Return split -> its raw rows, before FuxiCTR's ``preprocess``.

    Args:
        processor: reads the files.
        raw: split -> files; of train only, if the settings divide its rows.
        params: settings of a data set.

    Raises:
        UsageError: files cannot be read, or their rows cannot be divided.
    """
    sep, n_rows = params.get("sep"), params.get("n_rows")
    rows = {split: processor.read_files(files, sep, n_rows) for split, files in raw.items()}
    if not is_divided(params):
        return rows
    assigned = assign_raw_rows(raw["train"], params)
    return {split: keep_rows(rows["train"], assigned == SPLITS.index(split)) for split in get_split_names(params)}


def assign_raw_rows(files: list[Path], params: dict) -> np.ndarray:
    """Return the split of each row of ``train_data``, as an index into ``SPLITS``. (rows,) uint8.

    Args:
        files: of ``train_data``, whose rows are taken one file after another.
        params: settings of a data set that divide its rows.

    Raises:
        UsageError: too few rows, or times that cannot be read.
    """
    settings = get_dividing_settings(params)
    sizes, name = (settings["valid_size"], settings["test_size"]), settings.get("split_by")
    columns = [_scan_column(file, name, params.get("sep"), params.get("n_rows")) for file in files]
    if name is not None:
        label = f"split_by {name}"
        times = read_times(pl.concat(columns, how="vertical_relaxed"), name, label)
        return assign_by_time(times, count_parts(len(times), *sizes), label)[0]
    rows = sum(column.select(pl.all().len()).collect(engine="streaming").item() for column in columns)
    if settings["split_type"] == "random":
        return assign_at_random(count_parts(rows, *sizes), settings["split_seed"])
    return assign_in_order(count_parts(rows, *sizes))


def _scan_column(file: Path, name: str | None, sep: str | None, n_rows: int | None) -> pl.LazyFrame:
    """Return one column of a raw file, the first if ``name`` is None: as it is in parquet, as text in csv."""
    if is_parquet(file):
        rows = pl.scan_parquet(file, n_rows=n_rows, glob=False, hive_partitioning=False)
    else:
        rows = scan_csv_as_text(file, separator(file, sep), n_rows)
    names = rows.collect_schema().names()
    name = names[0] if name is None else name
    if name not in names:
        raise unknown(f"column (of split_by, in {file})", name, names)
    return rows.select(name)
