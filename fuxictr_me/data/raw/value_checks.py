"""Checks of preprocessed raw values that would train as other values.

Chunks of rows are checked while they are counted or encoded; only if one fails are the files read again, to name the
file, the column and the row.
"""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from fuxictr_me.data.raw.convert_columns import TEXT_KINDS, is_allowed_label, label_value
from fuxictr_me.errors import UsageError

EXACT = 2**53  # float64 holds every whole number below it


def has_bad_values(frame: pl.DataFrame, labels: Iterable[str], columns: dict[str, dict]) -> bool:
    """Return whether preprocessed rows hold a value that ``name_bad_values`` refuses.

    Args:
        frame: any of the columns; labels that are not allowed are null.
        labels: their names.
        columns: name -> entry of ``feature_cols`` of each feature to check.
    """
    if any(frame[label].null_count() for label in labels if label in frame.columns):
        return True
    bad = {name: _is_bad(name, dtype, columns[name]) for name, dtype in frame.schema.items() if name in columns}
    checks = [expr.any().alias(name) for name, expr in bad.items() if expr is not None]
    return bool(checks) and any(frame.select(checks).row(0))


def checked_columns(schema: dict[str, pl.DataType], columns: dict[str, dict]) -> dict[str, dict]:
    """Return the columns of preprocessed rows that can hold a value to refuse: name -> entry of ``feature_cols``."""
    present = {name: column for name, column in columns.items() if name in schema}
    return {name: column for name, column in present.items() if _is_bad(name, schema[name], column) is not None}


def name_bad_values(
    file: Path, raw: pl.LazyFrame, rows: pl.LazyFrame, labels: dict[str, tuple[str, bool]], columns: dict[str, dict]
) -> UsageError | None:
    """Return an error that names the first column of a file with bad values, how many there are, and the first row.

    Args:
        file: the raw file.
        raw: its rows before preprocessing.
        rows: its rows after preprocessing.
        labels: name -> (dtype in the config, whether the label must be 0 or 1).
        columns: name -> entry of ``feature_cols`` of each feature to check.
    """
    for label, (dtype, is_binary) in labels.items():
        if problem := _label_problem(raw, label, dtype, is_binary):
            return UsageError(f"{file}: label {label!r} {problem}")
    for name, column in columns.items():
        frame = rows.select(name).collect(engine="streaming")
        bad = _is_bad(name, frame.schema[name], column)
        if bad is not None and (problem := _describe(frame.select(bad=bad, value=pl.col(name)))):
            return UsageError(f"{file}: column {name!r} {_rule(frame.schema[name], column)}; not so in {problem}")
    return None


def name_unreadable(file: Path, raw: pl.LazyFrame, columns: dict[str, dict]) -> UsageError | None:
    """Return an error that names the first column of numbers in a file with text that is not a number, if any.

    Args:
        file: the raw file.
        raw: its columns, those of csv as text.
        columns: name -> entry of ``feature_cols``.
    """
    schema = raw.collect_schema()
    for name, column in columns.items():
        if schema.get(name) not in TEXT_KINDS or column["dtype"] == "str" or column["type"] == "sequence":
            continue
        dtype = pl.Int64 if column["dtype"] == "int" else pl.Float64
        value = pl.col(name).cast(pl.String)
        text = value.str.strip_chars()
        bad = text.is_not_null() & (text != "") & text.cast(dtype, strict=False).is_null()
        if problem := _describe(raw.select(bad=bad, value=value).collect(engine="streaming")):
            return UsageError(f"{file}: column {name!r} cannot be read as dtype: {column['dtype']}: {problem}")
    return None


def _is_bad(name: str, dtype: pl.DataType, column: dict) -> pl.Expr | None:
    """Return an expression that is true for values to refuse, or None if all values of the column are allowed."""
    value = pl.col(name)
    if column["type"] == "embedding":
        is_finite = value.list.eval(pl.element().cast(pl.Float32).is_finite().fill_null(False)).list.all()
        return ~(is_finite & (value.list.len() == column.get("pretrain_dim"))).fill_null(False)
    if not column.get("remap", True) and column["type"] != "sequence":
        whole = value.cast(pl.Int64, strict=False)
        is_id = (whole >= 0) & (whole == value) if dtype.is_numeric() else whole >= 0
        return ~is_id.fill_null(False)
    if column["type"] == "numeric":
        return ~value.cast(pl.Float32).is_finite().fill_null(False) if dtype.is_numeric() else pl.lit(True)
    if dtype.is_float():
        return (~value.is_finite() | (value.abs() >= EXACT)).fill_null(False)
    return None


def _rule(dtype: pl.DataType, column: dict) -> str:
    """Return, in words, what a column must hold."""
    if column["type"] == "embedding":
        dim = column.get("pretrain_dim")
        return f"of type embedding must hold {dim} (its pretrain_dim) numbers that are finite in 32 bits"
    if not column.get("remap", True):
        return "with remap: False must hold whole numbers of 0 or more"
    if column["type"] == "numeric":
        return "of type numeric must hold numbers that are finite in 32 bits" + (
            "" if dtype.is_numeric() else f", not {dtype}"
        )
    return "of dtype: float cannot tell NaN, infinity and ids of 2^53 or more apart; set dtype: str"


def _label_problem(rows: pl.LazyFrame, label: str, dtype: str, is_binary: bool) -> str | None:
    raw = rows.select(raw=pl.col(label)).collect(engine="streaming")
    value = label_value(pl.col("raw"), raw.schema["raw"])
    is_text = raw.schema["raw"] == pl.String
    missing = pl.col("raw").is_null() | (pl.col("raw").str.strip_chars() == "" if is_text else pl.lit(False))
    finite = value.cast(pl.Float32).is_finite()
    kinds = {
        "is empty": missing,
        "is not a number": value.is_null() | value.cast(pl.Float64).is_nan(),
        "is infinite in 32 bits": ~finite,
        "is neither 0 nor 1 (task: binary_classification)": ~is_allowed_label(value, is_binary, False),
        "is not a whole number (dtype: int)": ~is_allowed_label(value, is_binary, dtype == "int"),
    }
    for kind, bad in kinds.items():
        if problem := _describe(raw.select(bad=bad.fill_null(False), value=pl.col("raw")), kind != "is empty"):
            return f"{kind} in {problem}"
    return None


def _describe(rows: pl.DataFrame, example: bool = True) -> str | None:
    """Return, in words, in how many rows ``bad`` is true and which is the first; None if it is never true."""
    if not (count := int(rows["bad"].sum())):
        return None
    first = rows["bad"].arg_true()[0]
    value = repr(rows["value"].gather([first]).to_list()[0])
    value = value if len(value) < 60 else f"{value[:57]}..."
    return f"{count:,} of {len(rows):,} rows (the first: row {first + 1}{f', {value}' if example else ''})"
