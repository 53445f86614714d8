"""Reading of raw csv and parquet files as the columns of a config, so that both formats mean the same."""

import zlib
from pathlib import Path
from typing import Any

import polars as pl

from fuxictr_me.data.raw.convert_columns import check_parquet_values, convert_feature, convert_label
from fuxictr_me.data.raw.find_files import is_parquet
from fuxictr_me.data.raw.row_lengths import check_row_lengths, read_header
from fuxictr_me.errors import UsageError, unknown

READS_HOUR = ("convert_weekday", "convert_weekend", "convert_hour")  # FuxiCTR's, which read the column ``hour``


class RawReader:
    """Reader of the raw files of one data set.

    Args:
        columns: entries of ``feature_cols`` with one name each.
        labels: name -> (dtype in the config, whether the label must be 0 or 1).
        dtypes: name -> ``str``, ``int`` or ``float``, by which csv columns are parsed; other columns are read as text.

    Attributes:
        needed: raw column -> entry of ``feature_cols`` that says how to read it.
    """

    def __init__(self, columns: list[dict], labels: dict[str, tuple[str, bool]], dtypes: dict[str, Any]) -> None:
        self.labels, self.dtypes = labels, dtypes
        self._rows_above_blank_lines: dict[Path, int | None] = {}  # file -> number of rows; None: no blank lines follow
        declared = {column["name"]: column for column in columns}
        active = [column for column in columns if column.get("active") is not False]
        self.needed: dict[str, dict] = {}
        for column in active:
            source = _raw_source(column, declared)
            self.needed.setdefault(source, {**declared.get(source, column), "name": source})
        copied = {_raw_source(column, declared) for column in active if column.get("preprocess")}
        self._text = sorted(  # text columns in which empty text is a missing value
            name
            for name, column in self.needed.items()
            if (column["dtype"] == "str" or column["type"] == "sequence")
            and (name in copied or column.get("fill_na", "") != "")
        )

    def read(self, file: Path, sep: str = ",", n_rows: int | None = None) -> pl.LazyFrame:
        """Return the needed columns of a file: features in the config's dtypes, labels as numbers or null.

        Raises:
            UsageError: rows are incomplete, or a column is missing or holds another kind of value.
        """
        try:
            rows = self.scan(file, sep, n_rows)
            schema = dict(rows.collect_schema())
        except (pl.exceptions.PolarsError, OSError, EOFError, zlib.error) as error:
            raise UsageError(f"{file} cannot be read: {str(error).splitlines()[0]}") from error
        for name in (*self.needed, *self.labels):
            if name not in schema:
                raise unknown(f"column (of feature_cols or label_col, in {file})", name, schema)
        try:
            if is_parquet(file):
                check_parquet_values(rows, schema, self.needed)
            else:
                self._rows_above_blank_lines[file] = check_row_lengths(file, sep, len(schema))
                rows = self.scan(file, sep, n_rows)
            used = {name: dtype for name, dtype in schema.items() if name in self.needed or name in self.labels}
            converted = [self._convert(name, dtype) for name, dtype in used.items()]
        except UsageError as error:
            raise error if str(error).startswith(str(file)) else UsageError(f"{file}: {error}") from error
        rows = rows.select(list(used)).with_columns([expr for expr in converted if expr is not None])
        return rows.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in self._text)

    def scan(self, file: Path, sep: str = ",", n_rows: int | None = None, parse: bool = True) -> pl.LazyFrame:
        """Return all columns of a file, csv columns parsed by ``dtypes``, or as text unless ``parse``."""
        if is_parquet(file):
            return pl.scan_parquet(file, n_rows=n_rows, glob=False, hive_partitioning=False)
        dtypes = {name: self.dtypes[name] for name in read_header(file, sep) if name in self.dtypes} if parse else {}
        n_rows = _smaller_limit(n_rows, self._rows_above_blank_lines.get(file))
        return pl.scan_csv(file, separator=sep, schema_overrides=dtypes, infer_schema=False, n_rows=n_rows, glob=False)

    def _convert(self, name: str, dtype: pl.DataType) -> pl.Expr | None:
        if name in self.labels:
            config_dtype, is_binary = self.labels[name]
            return convert_label(name, dtype, config_dtype, is_binary)
        return convert_feature(name, dtype, self.needed[name])


def scan_csv_as_text(file: Path, sep: str, n_rows: int | None = None) -> pl.LazyFrame:
    """Return all columns of a csv file as text, without the blank lines at its end.

    Raises:
        UsageError: rows have more or fewer fields than the header.
    """
    n_rows = _smaller_limit(n_rows, check_row_lengths(file, sep, len(read_header(file, sep))))
    return pl.scan_csv(file, separator=sep, infer_schema=False, n_rows=n_rows, glob=False)


def _smaller_limit(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _raw_source(column: dict, declared: dict[str, dict]) -> str:
    """Return the raw column from which a column is made, directly or through other columns."""
    seen: set[str] = set()
    while (source := _source(column)) != column["name"] and source in declared and source not in seen:
        seen.add(source)
        column = declared[source]
    return source


def _source(column: dict) -> str:
    function, _, argument = (column.get("preprocess") or "").rstrip(")").partition("(")
    return "hour" if function in READS_HOUR else argument or column["name"]
