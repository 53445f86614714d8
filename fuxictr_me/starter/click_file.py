"""Read a csv or parquet file of clicks as it is, before a config says what its columns mean."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from fuxictr_me.data.raw.find_files import is_parquet, raw_files
from fuxictr_me.data.raw.raw_reader import scan_csv_as_text
from fuxictr_me.errors import UsageError

SEPARATORS = (",", "\t", ";", "|")


@dataclass(frozen=True)
class ClickFile:
    """A file, or a folder of files, with one row per impression.

    Attributes:
        path: as the user named it.
        rows: all columns; those of csv as text, with null for an empty cell.
        schema: column -> dtype.
        separator: between the columns of csv; None for parquet.
    """

    path: Path
    rows: pl.LazyFrame
    schema: dict[str, pl.DataType]
    separator: str | None


def open_click_file(path: str | Path) -> ClickFile:
    """Open raw files without reading their rows, except that each row of csv must have as many cells as the header.

    Raises:
        UsageError: there are no such files; a file cannot be read; a csv file has no separator or an uneven row.
    """
    files = raw_files(path)
    try:
        if is_parquet(files[0]):
            rows, separator = pl.scan_parquet(files, glob=False, hive_partitioning=False), None
        else:
            separator = guess_separator(files[0])
            rows = _scan_csv_files(files, separator)
        schema = dict(rows.collect_schema())
    except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    return ClickFile(Path(path), rows, schema, separator)


def _scan_csv_files(files: list[Path], separator: str) -> pl.LazyFrame:
    frames = [scan_csv_as_text(file, separator) for file in files]
    names = frames[0].collect_schema().names()
    return pl.concat([frame.select(names) for frame in frames]).with_columns(
        pl.when(pl.all() != "").then(pl.all()).name.keep()
    )


def guess_separator(file: Path) -> str:
    """Return the separator that divides the header of a csv file into the most columns.

    Raises:
        UsageError: none divides it.
    """
    header = pl.scan_csv(
        file, separator="\x01", has_header=False, infer_schema=False, n_rows=1, quote_char=None, glob=False
    )
    line = header.collect().item(0, 0) or ""
    separator = max(SEPARATORS, key=line.count)
    if separator not in line:
        raise UsageError(f"{file}: its first line has none of the separators , ; | and tab: {line[:60]!r}")
    return separator
