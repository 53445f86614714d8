"""Raw rows through ``predict.py``'s encoding, against the ids that the build has written for them."""

import csv
import gzip
from itertools import islice

import numpy as np
import polars as pl

from fuxictr_me.config.splits import SPLITS
from fuxictr_me.data.h5.split_rows import Rows
from fuxictr_me.data.loaders.parquet_loader import read_columns
from fuxictr_me.data.raw.find_files import CSV, ending, separator
from fuxictr_me.errors import UsageError
from fuxictr_me.serving.origin import raw_columns
from fuxictr_me.serving.predict import encode_rows

ROWS = 1000


def compare_rows(feature_map, origin, vocabulary):
    """Encode the first raw rows of the last split that is there, and compare them with the built set.

    Args:
        feature_map (FeatureMap), origin (Origin)
        vocabulary (dict): as ``make_vocabulary`` gives it.

    Returns:
        str: what was compared.

    Raises:
        UsageError: a field for which they differ, or built files that are gone.
    """
    split = next((split for split in reversed(SPLITS) if origin.files.get(split)), None)
    if split is None:
        return "the raw data are gone or have changed: vocabulary.json was not compared with the built data set"
    rows, built = read_raw(origin, split), read_built(feature_map, origin, split)
    for name, field in vocabulary["fields"].items():
        expected = built[name][: len(rows)]
        try:
            found = encode_rows(rows[: len(expected)], {name: field}, vocabulary["vocabularies"])[name]
        except ValueError as error:
            raise UsageError(f"the raw {split} data: {error}") from error
        equal = np.isclose(found, expected, rtol=1e-6, atol=1e-6) if field["input"] == "float32" else found == expected
        if not equal.all():
            i = int(np.argmin(equal.reshape(len(equal), -1).all(axis=1)))
            raise UsageError(
                f"field {name!r} of row {i + 1} of the {split} split, {rows[i][field['column']]!r}, would be "
                f"{found[i].tolist()}, but the built set has {expected[i].tolist()}"
            )
    return f"{len(expected):,} raw rows of the {split} split give the ids of the built data set"


def read_raw(origin, split):
    """The first raw rows of a split, name -> value, and what only FuxiCTR's ``preprocess`` makes of them."""
    file, raw = origin.files[split][0], raw_columns(origin.columns)
    if ending(file) in CSV:
        opened = gzip.open if file.suffix.lower() == ".gz" else open
        try:
            with opened(file, "rt", encoding="utf-8-sig", newline="") as lines:  # a byte order mark is not of the name
                rows = list(islice(csv.DictReader(lines, delimiter=separator(file, origin.sep)), ROWS))
        except (ValueError, EOFError, OSError, csv.Error) as error:
            raise UsageError(f"{file} cannot be read: {error}") from error
    else:
        rows = pl.read_parquet(file, n_rows=ROWS, glob=False).to_dicts()
    made = {name: column.name for name, column in raw.items() if column.dtype is None}
    made = {name: column for name, column in made.items() if origin.columns[name]["active"]}
    if made:
        values = origin.preprocessed(split).select(list(made)).head(len(rows)).collect().iter_rows()
        rows = [row | dict(zip(made.values(), of_row, strict=True)) for row, of_row in zip(rows, values, strict=True)]
    return rows


def read_built(feature_map, origin, split):
    """The first rows of a built split: name -> array (rows,) or (rows, ·)."""
    path = origin.folder / split
    if path.with_suffix(".parquet").exists() or any(path.glob("*.parquet")):
        columns = read_columns(feature_map, path if path.is_dir() else path.with_suffix(".parquet"), split)
        return {name: column[:ROWS].numpy() for name, column in columns.items()}
    rows = Rows(feature_map, path, split)
    return rows.layout.take(rows.read(0, min(ROWS, len(rows))))
