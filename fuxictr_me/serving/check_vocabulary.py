"""Compare the ids that ``predict.py`` assigns to raw rows with those of the built data set."""

import csv
import gzip
from collections.abc import Callable, Iterator
from itertools import chain, compress, islice
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from fuxictr.features import FeatureMap

from fuxictr_me.config.splits import SPLITS
from fuxictr_me.data.building.encode_columns import iterate_chunks
from fuxictr_me.data.h5.split_rows import SplitRows
from fuxictr_me.data.loaders.parquet_loader import read_columns
from fuxictr_me.data.raw.find_files import is_parquet, separator
from fuxictr_me.errors import UsageError
from fuxictr_me.serving.data_origin import DataOrigin, find_raw_columns
from fuxictr_me.serving.predict import encode_rows

COMPARED_ROWS = 1000


def check_vocabulary(feature_map: FeatureMap, origin: DataOrigin, vocabulary: dict[str, Any]) -> str:
    """Encode the first raw rows of the last split that has raw files, and compare them with the built data set.

    Args:
        feature_map: of the run.
        origin: of its data set.
        vocabulary: as ``make_vocabulary`` returns it.

    Returns:
        A sentence that says what was compared.

    Raises:
        UsageError: the ids of a field differ, or built files are missing.
    """
    split = next((split for split in reversed(SPLITS) if origin.files.get(split)), None)
    if split is None:
        return "the raw data are missing or have changed: vocabulary.json was not compared with the built data set"
    rows, built = read_raw_rows(origin, split), read_built_rows(feature_map, origin, split)
    for name, field in vocabulary["fields"].items():
        expected = built[name][: len(rows)]
        try:
            ids = encode_rows(rows[: len(expected)], {name: field}, vocabulary["vocabularies"])[name]
        except ValueError as error:
            raise UsageError(f"the raw {split} data: {error}") from error
        equal = np.isclose(ids, expected, rtol=1e-6, atol=1e-6) if field["input"] == "float32" else ids == expected
        if not equal.all():
            i = int(np.argmin(equal.reshape(len(equal), -1).all(axis=1)))
            raise UsageError(
                f"field {name!r} of row {i + 1} of the {split} split, {rows[i][field['column']]!r}, would be "
                f"{ids[i].tolist()}, but the built set has {expected[i].tolist()}"
            )
    return f"checked: {len(expected):,} raw rows of the {split} split get the same ids as in the built data set"


def read_raw_rows(origin: DataOrigin, split: str) -> list[dict[str, Any]]:
    """Return the first raw rows of a split, name -> value, with the columns that only ``preprocess`` can compute."""
    raw, n_rows = find_raw_columns(origin.columns), origin.settings.get("n_rows")
    of_files = (islice(_iterate_rows(file, separator(file, origin.sep)), n_rows) for file in origin.files[split])
    rows = list(islice(compress(chain.from_iterable(of_files), origin.is_in_split(split)), COMPARED_ROWS))
    computed = {
        name: column.name for name, column in raw.items() if column.dtype is None and origin.columns[name]["active"]
    }
    if not computed:
        return rows
    columns = list(computed.values())
    values = origin.preprocess(split).select(list(computed)).head(len(rows)).collect().iter_rows()
    return [{**row, **dict(zip(columns, extra, strict=True))} for row, extra in zip(rows, values, strict=True)]


def _iterate_rows(file: Path, sep: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of a raw file, name -> value: text from csv, and values as they are from parquet."""
    if is_parquet(file):
        for chunk in iterate_chunks(pl.scan_parquet(file, glob=False, hive_partitioning=False), COMPARED_ROWS):
            yield from chunk.iter_rows(named=True)
        return
    open_text: Callable = gzip.open if file.suffix.lower() == ".gz" else open
    try:
        with open_text(file, "rt", encoding="utf-8-sig", newline="") as lines:  # skip a byte order mark
            yield from csv.DictReader(lines, delimiter=sep)
    except (ValueError, EOFError, OSError, csv.Error) as error:
        raise UsageError(f"{file} cannot be read: {error}") from error


def read_built_rows(feature_map: FeatureMap, origin: DataOrigin, split: str) -> dict[str, np.ndarray]:
    """Return the first rows of a built split, name -> array (rows,) or (rows, ·)."""
    path = origin.folder / split
    if path.with_suffix(".parquet").exists() or any(path.glob("*.parquet")):
        columns = read_columns(feature_map, path if path.is_dir() else path.with_suffix(".parquet"), split)
        return {name: column[:COMPARED_ROWS].numpy() for name, column in columns.items()}
    rows = SplitRows(feature_map, path, split)
    return rows.layout.split_columns(rows.read(0, min(COMPARED_ROWS, len(rows))))
