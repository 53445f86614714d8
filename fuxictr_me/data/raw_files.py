"""The raw csv and parquet files of a data set: finding them, and reading them as polars queries."""

from pathlib import Path

import polars as pl

from fuxictr_me.data.owned_files import SPLITS
from fuxictr_me.errors import UsageError, missing

CSV = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
PARQUET = (".parquet", ".parq", ".pq")
ENDINGS = ".csv, .tsv, .txt (each also with .gz) and .parquet (or .parq, .pq)"


def raw_splits(params: dict) -> dict[str, list[Path]]:
    """Return split -> raw files, of the splits that the settings of a run name.

    Raises:
        UsageError: see ``raw_files``; or files of another kind than ``data_format`` says.
    """
    raw = {split: raw_files(params[f"{split}_data"]) for split in SPLITS if params.get(f"{split}_data")}
    for split, files in raw.items():
        kind = "csv" if ending(files[0]) in CSV else "parquet"
        if params["data_format"] in ("csv", "parquet") and params["data_format"] != kind:
            raise UsageError(f"data_format is {params['data_format']}, but {split}_data is {kind}: {files[0]}")
    return raw


def raw_files(path: str | Path) -> list[Path]:
    """Return the raw files of a split: the file itself, those of a folder, or those of a pattern such as ``part*.csv``.

    A path that exists is taken as it is, ``raw[2024]/train.csv`` too. Hidden files are left out, and ``.txt`` files
    where there are others, which are data then and the ``.txt`` files notes.

    Raises:
        UsageError: there are none, none of an ending that is read, or some of several endings.
    """
    path = Path(path)
    if path.is_file():
        if ending(path) is None:
            raise UsageError(f"{path} is not read: the endings that are read are {ENDINGS}")
        return [path]
    found = path.iterdir() if path.is_dir() else path.parent.glob(path.name)
    there = sorted(file for file in found if file.is_file() and not file.name.startswith("."))
    files = [file for file in there if ending(file)]
    if any("txt" not in ending(file) for file in files):
        files = [file for file in files if "txt" not in ending(file)]
    if not files and path.exists():
        names = ", ".join(file.name for file in there[:5]) or "nothing"
        raise UsageError(f"no csv or parquet data at {path}: the endings that are read are {ENDINGS}; there: {names}")
    if not files:
        raise missing("csv or parquet data", path)
    if len(endings := sorted({ending(file) for file in files})) > 1:
        raise UsageError(f"{path} holds {' and '.join(endings)} files; a split is files of one ending")
    return files


def ending(path: Path) -> str | None:
    """Return the ending by which a raw file is read, in lower case; None if it is not read."""
    name = path.name.lower()
    return next((known for known in (*CSV, *PARQUET) if name.endswith(known)), None)


def separator(file: Path, sep: str | None = None) -> str:
    """Return what separates the columns of a csv file: ``sep`` of the config; else a tab for ``.tsv``, or a comma."""
    return sep or ("\t" if ending(file) in (".tsv", ".tsv.gz") else ",")


def scan(files: list[Path], dtypes: dict, sep: str | None = None, n_rows: int | None = None) -> pl.LazyFrame:
    """Return the rows of raw files, one file after the other, as FuxiCTR's ``read_data`` does.

    Columns are joined by name, so files may have them in another order.

    Args:
        files: all csv or all parquet.
        dtypes: column -> type, for csv.
        sep: ``sep`` of the config.
        n_rows: of each file to read at most.

    Raises:
        UsageError: a file that cannot be read, or files whose columns differ; with file and column.
    """
    frames, schemas = zip(*(_scan_file(file, dtypes, sep, n_rows) for file in files), strict=True)
    for file, schema in zip(files[1:], schemas[1:], strict=True):
        _check_same_columns(file, schema, files[0], schemas[0], dtypes)
    if len(frames) == 1:
        return frames[0]
    return pl.concat([frame.select(list(schemas[0])) for frame in frames], how="vertical_relaxed")


def _scan_file(
    file: Path, dtypes: dict, sep: str | None, n_rows: int | None
) -> tuple[pl.LazyFrame, dict[str, pl.DataType]]:
    """The rows of a file, and its columns with their types."""
    if ending(file) in CSV:
        how = {"separator": separator(file, sep), "schema_overrides": dtypes, "low_memory": False}
        frame = pl.scan_csv(file, glob=False, n_rows=n_rows, **how)
    else:
        frame = pl.scan_parquet(file, glob=False, n_rows=n_rows, low_memory=False, hive_partitioning=False)
    try:
        return frame, dict(frame.collect_schema())
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error


def _check_same_columns(file: Path, schema: dict, first: Path, expected: dict, dtypes: dict) -> None:
    """Refuse a file whose columns are not those of the first one, in any order."""
    if absent := [name for name in expected if name not in schema]:
        raise UsageError(f"{file} has no column {absent[0]!r}, which {first} has")
    if more := [name for name in schema if name not in expected]:
        raise UsageError(f"{file} has a column {more[0]!r}, which {first} has not")
    for name in (name for name in schema if name in dtypes):
        found, wanted = schema[name], expected[name]
        alike = (found.is_integer() and wanted.is_integer()) or (found.is_float() and wanted.is_float())
        if found != wanted and not alike:
            raise UsageError(f"{file}: column {name!r} is {found}, in {first} it is {wanted}")
