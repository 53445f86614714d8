"""Bring the columns of raw files to what the config says they are, alike for csv and parquet."""

from collections.abc import Iterable

import polars as pl

from fuxictr_me.errors import UsageError

TRUE, FALSE = ["true", "True", "TRUE"], ["false", "False", "FALSE"]
TEXT_KINDS = (pl.String, pl.Categorical, pl.Enum)


def label_value(raw: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    """Return a label as a number: text is parsed, true and false become 1 and 0, null where there is no number."""
    if dtype in TEXT_KINDS:
        text = raw.cast(pl.String).str.strip_chars(" \t")
        boolean = pl.when(text.is_in(TRUE)).then(1.0).when(text.is_in(FALSE)).then(0.0)
        return text.cast(pl.Float64, strict=False).fill_null(boolean)
    return raw.cast(pl.Float64) if dtype == pl.Boolean or not dtype.is_numeric() else raw


def is_allowed_label(value: pl.Expr, is_binary: bool, is_whole: bool) -> pl.Expr:
    """Return whether a label is finite in 32 bits, 0 or 1 where it must be, and whole where its dtype is int."""
    allowed = (value == 0) | (value == 1) if is_binary else value.cast(pl.Float32).is_finite()
    return allowed & (value == value.floor()) if is_whole else allowed


def convert_label(name: str, dtype: pl.DataType, of_config: str, is_binary: bool) -> pl.Expr:
    """Return a label as numbers, null where it is missing, no number or not allowed.

    Raises:
        UsageError: a column of lists, dates or the like.
    """
    if not (dtype in TEXT_KINDS or dtype.is_numeric() or dtype in (pl.Boolean, pl.Null)):
        raise UsageError(f"label {name!r} holds {dtype}, not numbers")
    value = label_value(pl.col(name), dtype)
    value = pl.when(is_allowed_label(value, is_binary, of_config == "int")).then(value)
    return value.cast(pl.Int64 if of_config == "int" else pl.Float64).alias(name)


def convert_feature(name: str, dtype: pl.DataType, column: dict) -> pl.Expr | None:
    """Return a raw column as its ``dtype`` and ``type`` in the config want it; None where it is so already.

    Lists become text with the column's ``splitter`` between elements, as a csv file has them.

    Raises:
        UsageError: lists where the config has no sequence, or values that have no meaning in this ``dtype``.
    """
    kind, wanted = column["type"], column["dtype"]
    if kind == "embedding":
        return _vectors(name, dtype)
    if isinstance(dtype, pl.Array | pl.List) and kind == "sequence":
        return _join(name, dtype, column.get("splitter", "^"))
    if dtype.is_nested():
        hint = "; lists are for columns of type: sequence" if isinstance(dtype, pl.Array | pl.List) else ""
        raise UsageError(f"column {name!r} of type {kind} holds {dtype}, not single values{hint}")
    if wanted == "str" or kind == "sequence":
        return None if dtype == pl.String else pl.col(name).cast(pl.String)
    if dtype in TEXT_KINDS:
        text = pl.col(name).cast(pl.String)  # a categorical dtype would else give its codes
        return pl.when(text != "").then(text).cast(pl.Float64 if wanted == "float" else pl.Int64).alias(name)
    if dtype.is_temporal() or dtype == pl.Binary:
        raise UsageError(f"column {name!r} holds {dtype}, which dtype: {wanted} cannot be; read it as dtype: str")
    if wanted == "float":
        return None if dtype.is_float() else pl.col(name).cast(pl.Float64)
    return None if dtype == pl.Int64 else pl.col(name).cast(pl.Int64)


def missing_as_null(names: Iterable[str]) -> list[pl.Expr]:
    """Return text columns with null in place of empty text, so that quoted empty values are missing as others are."""
    return [pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in names]


def check_parquet_values(rows: pl.LazyFrame, schema: dict, columns: dict) -> None:
    """Refuse values of parquet columns that the conversion would change in silence.

    Args:
        rows: of one file.
        schema: its columns' dtypes.
        columns: name -> entry of ``feature_cols``.

    Raises:
        UsageError: fractions in a column of ``dtype: int``; list elements that hold the splitter.
    """
    checks = {}
    for name, column in columns.items():
        dtype = schema.get(name)
        if dtype is None or column.get("active") is False or column["type"] == "embedding":
            continue
        if column["dtype"] == "int" and (dtype.is_float() or dtype.is_decimal()):
            checks[name] = ~(pl.col(name) == pl.col(name).floor()).fill_null(True) | (pl.col(name).abs() >= 2**53)
        elif isinstance(dtype, pl.List | pl.Array) and column["type"] == "sequence" and dtype.inner in TEXT_KINDS:
            elements = pl.col(name) if isinstance(dtype, pl.List) else pl.col(name).arr.to_list()
            has_splitter = pl.element().cast(pl.String).str.contains(column.get("splitter", "^"), literal=True)
            checks[name] = elements.list.eval(has_splitter).list.any()
    if not checks:
        return
    counts = rows.select(**{name: bad.sum() for name, bad in checks.items()}).collect(engine="streaming")
    for name, count in counts.row(0, named=True).items():
        if count and columns[name]["type"] == "sequence":
            splitter = columns[name].get("splitter", "^")
            raise UsageError(f"column {name!r}: {count} lists have elements with the splitter {splitter!r} in them")
        if count:
            raise UsageError(f"column {name!r} of dtype: int has {count} values that are not whole numbers")


def _vectors(name: str, dtype: pl.DataType) -> pl.Expr:
    if not (isinstance(dtype, pl.Array | pl.List) and dtype.inner.is_numeric()):
        raise UsageError(f"column {name!r} of type embedding holds {dtype}, not vectors: lists of numbers in parquet")
    vectors = pl.col(name) if isinstance(dtype, pl.List) else pl.col(name).arr.to_list()
    return vectors.cast(pl.List(pl.Float64))


def _join(name: str, dtype: pl.DataType, splitter: str) -> pl.Expr:
    inner = dtype.inner
    if not (inner in TEXT_KINDS or inner.is_integer() or inner == pl.Null):
        raise UsageError(f"sequence {name!r} holds lists of {inner}; it may hold lists of text or of whole numbers")
    lists = pl.col(name) if isinstance(dtype, pl.List) else pl.col(name).arr.to_list()
    lists = lists.cast(pl.List(pl.String)).list.eval(pl.element().fill_null(""))
    return lists.list.join(splitter).alias(name)
