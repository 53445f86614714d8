"""Read raw csv and parquet files as the columns of a config, so that both mean the same."""

import zlib
from pathlib import Path

import polars as pl

from fuxictr_me.data.raw_columns import (
    TEXT_KINDS,
    check_parquet_values,
    convert_feature,
    convert_label,
    missing_as_null,
)
from fuxictr_me.data.raw_files import is_parquet
from fuxictr_me.data.whole_rows import check_whole_rows, read_header
from fuxictr_me.errors import UsageError, unknown

READ_HOUR = ("convert_weekday", "convert_weekend", "convert_hour")  # FuxiCTR's, which read the column ``hour``


class RawRows:
    """Read the raw files of one data set.

    Args:
        columns: entries of ``feature_cols``, of one name each.
        labels: name -> (dtype of the config, whether it must be 0 or 1).
        dtypes: name -> ``str``, ``int`` or ``float``, by which csv columns are parsed; others are read as text.
    """

    def __init__(self, columns: list[dict], labels: dict, dtypes: dict):
        self.labels, self.dtypes = labels, dtypes
        self._above_blank_lines = {}  # file -> its rows, if blank lines follow them
        declared = {column["name"]: column for column in columns}
        used = [column for column in columns if column.get("active") is not False]
        self.needed = {}  # raw column -> entry that says how it is read
        for column in used:
            source = _raw_source(column, declared)
            self.needed.setdefault(source, {**declared.get(source, column), "name": source})
        copied = {_raw_source(column, declared) for column in used if column.get("preprocess")}
        self._text = {
            name
            for name, column in self.needed.items()
            if (column["dtype"] == "str" or column["type"] == "sequence")
            and (name in copied or column.get("fill_na", "") != "")
        }

    def read(self, file: Path, sep: str = ",", n_rows: int | None = None) -> pl.LazyFrame:
        """Return the columns of a file that are used: features in the dtypes of the config, labels as numbers or null.

        Raises:
            UsageError: rows that are not whole, a column that is missing or holds another kind of value.
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
                self._above_blank_lines[file] = check_whole_rows(file, sep, len(schema))
                rows = self.scan(file, sep, n_rows)
            used = {name: dtype for name, dtype in schema.items() if name in self.needed or name in self.labels}
            converted = [self._convert(name, dtype) for name, dtype in used.items()]
        except UsageError as error:
            raise error if str(error).startswith(str(file)) else UsageError(f"{file}: {error}") from error
        rows = rows.select(list(used)).with_columns([expr for expr in converted if expr is not None])
        return rows.with_columns(missing_as_null(sorted(self._text)))

    def scan(self, file: Path, sep: str = ",", n_rows: int | None = None, as_text: bool = False) -> pl.LazyFrame:
        """Return a file as it is, csv columns by ``dtypes``; or, ``as_text``, the columns that are text."""
        if is_parquet(file):
            rows = pl.scan_parquet(file, n_rows=n_rows, glob=False, hive_partitioning=False)
            return rows.select(pl.col(*TEXT_KINDS).cast(pl.String)) if as_text else rows
        dtypes = {} if as_text else {name: self.dtypes[name] for name in read_header(file, sep) if name in self.dtypes}
        whole = self._above_blank_lines.get(file)
        n_rows = n_rows if whole is None else min(whole, whole if n_rows is None else n_rows)
        return pl.scan_csv(file, separator=sep, schema_overrides=dtypes, infer_schema=False, n_rows=n_rows, glob=False)

    def _convert(self, name: str, dtype: pl.DataType) -> pl.Expr | None:
        if name in self.labels:
            of_config, is_binary = self.labels[name]
            return convert_label(name, dtype, of_config, is_binary)
        return convert_feature(name, dtype, self.needed[name])


def _raw_source(column: dict, declared: dict) -> str:
    """Return the raw column that a column is made of, in the end."""
    seen = set()
    while (source := _source(column)) != column["name"] and source in declared and source not in seen:
        seen.add(source)
        column = declared[source]
    return source


def _source(column: dict) -> str:
    function, _, argument = (column.get("preprocess") or "").rstrip(")").partition("(")
    return "hour" if function in READ_HOUR else argument or column["name"]
