"""Refuse raw values that would train as something else: by looking at chunks, and by naming file, column and row."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from fuxictr_me.data.raw.convert_columns import is_allowed_label, label_value
from fuxictr_me.errors import UsageError

EXACT = 2**53  # float64 holds every whole number below it


def has_bad_values(frame: pl.DataFrame, labels: Iterable[str], columns: dict) -> bool:
    """Tell whether preprocessed rows hold a value that ``name_bad_values`` refuses.

    Args:
        frame: any of the columns; labels are null where they are not allowed.
        labels: names.
        columns: name -> entry of ``feature_cols``, of the features to look at.
    """
    if any(frame[label].null_count() for label in labels if label in frame.columns):
        return True
    bad = {name: _bad(name, dtype, columns[name]) for name, dtype in frame.schema.items() if name in columns}
    found = [expr.any().alias(name) for name, expr in bad.items() if expr is not None]
    return bool(found) and any(frame.select(found).row(0))


def watched(schema: dict, columns: dict) -> dict:
    """Return the columns of preprocessed rows that can hold a value to refuse: name -> entry of ``feature_cols``."""
    present = {name: column for name, column in columns.items() if name in schema}
    return {name: column for name, column in present.items() if _bad(name, schema[name], column) is not None}


def name_bad_values(
    file: Path, raw: pl.LazyFrame, rows: pl.LazyFrame, labels: dict, columns: dict
) -> UsageError | None:
    """Return an error that names the first column of a file with bad values, how many there are, and the first row.

    Args:
        raw: the file's rows as they are read.
        rows: the same rows preprocessed.
        labels: name -> (dtype of the config, whether it must be 0 or 1).
        columns: name -> entry of ``feature_cols``, of the features to look at.
    """
    for label, (dtype, is_binary) in labels.items():
        if problem := _label_problem(raw, label, dtype, is_binary):
            return UsageError(f"{file}: label {label!r} {problem}")
    for name, column in columns.items():
        frame = rows.select(name).collect(engine="streaming")
        bad = _bad(name, frame.schema[name], column)
        if problem := bad is not None and _describe(frame.select(bad=bad, value=pl.col(name))):
            return UsageError(f"{file}: column {name!r} {_rule(frame.schema[name], column)}; not so in {problem}")
    return None


def name_unreadable(file: Path, raw: pl.LazyFrame, columns: dict) -> UsageError | None:
    """Return an error that names the first column of a file whose text is no number, None where all are.

    Args:
        raw: the columns of text.
        columns: name -> entry of ``feature_cols``.
    """
    names = raw.collect_schema().names()
    for name, column in columns.items():
        if name not in names or column["dtype"] == "str" or column["type"] == "sequence":
            continue
        dtype = pl.Int64 if column["dtype"] == "int" else pl.Float64
        text = pl.col(name).str.strip_chars()
        bad = text.is_not_null() & (text != "") & text.cast(dtype, strict=False).is_null()
        if problem := _describe(raw.select(bad=bad, value=pl.col(name)).collect(engine="streaming")):
            return UsageError(f"{file}: column {name!r} cannot be read as dtype: {column['dtype']}: {problem}")
    return None


def _bad(name: str, dtype: pl.DataType, column: dict) -> pl.Expr | None:
    """Return what is true where a value is refused; None where any value will do."""
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
    """Say what a column must hold."""
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
        "is no number": value.is_null() | value.cast(pl.Float64).is_nan(),
        "is infinite in 32 bits": ~finite,
        "is neither 0 nor 1 (task: binary_classification)": ~is_allowed_label(value, is_binary, False),
        "is no whole number (dtype: int)": ~is_allowed_label(value, is_binary, dtype == "int"),
    }
    for kind, bad in kinds.items():
        if problem := _describe(raw.select(bad=bad.fill_null(False), value=pl.col("raw")), kind != "is empty"):
            return f"{kind} in {problem}"
    return None


def _describe(found: pl.DataFrame, example: bool = True) -> str | None:
    """Say in how many rows ``bad`` is true, and which is the first; None where there is none."""
    if not (count := int(found["bad"].sum())):
        return None
    first = found["bad"].arg_true()[0]
    value = repr(found["value"].gather([first]).to_list()[0])
    value = value if len(value) < 60 else f"{value[:57]}..."
    return f"{count:,} of {len(found):,} rows (the first: row {first + 1}{f', {value}' if example else ''})"
