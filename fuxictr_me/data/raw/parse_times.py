"""Times in raw columns: dates, ISO text and unix time."""

import polars as pl

from fuxictr_me.errors import UsageError

ISO_TIME = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?( ?(Z|UTC|[+-]\d{2}:?\d{2}))?)?$"
UNIX_UNITS = {"s": (1e8, 1e11), "ms": (1e11, 1e14), "us": (1e14, 1e17)}  # from 1973 on
FORMS = "ISO dates or times, such as 2024-05-01 or 2024-05-01T13:45:00, or unix time in seconds, milli- or microseconds"


def read_times(rows: pl.LazyFrame, name: str, label: str) -> pl.Series:
    """Return the time of each row, in UTC without a time zone.

    Args:
        rows: raw rows.
        name: the column of times.
        label: what an error begins with, such as ``--time ts``.

    Raises:
        UsageError: the column does not hold times, or a row has none.
    """
    moment = as_datetime(rows, name, label)
    times = rows.select(moment.alias(name)).collect(engine="streaming")[name]
    if times.null_count():
        bad = rows.filter(moment.is_null()).select(pl.col(name)).head(1).collect().item()
        raise UsageError(f"{label}: {times.null_count():,} rows hold no time, such as {bad!r}; it reads {FORMS}")
    return times


def as_datetime(rows: pl.LazyFrame, name: str, label: str) -> pl.Expr:
    """Return an expression of the times in a column, in UTC without a time zone; null where there is none.

    Args:
        rows: as in ``read_times``; they tell the form and the unit of the times.
        name: as in ``read_times``.
        label: as in ``read_times``.

    Raises:
        UsageError: the column does not hold times.
    """
    column, dtype = pl.col(name), rows.collect_schema()[name]
    if dtype.is_temporal() and dtype not in (pl.Time, pl.Duration):
        aware = isinstance(dtype, pl.Datetime) and dtype.time_zone
        return (
            column.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if aware else column.cast(pl.Datetime("us"))
        )
    if dtype == pl.String:
        first = rows.select(column.drop_nulls().first()).collect().item() or ""
        if pl.Series([first]).str.contains(ISO_TIME).item():
            return _parse_iso(column)
        column = column.cast(pl.Float64, strict=False)
    elif not dtype.is_numeric():
        raise UsageError(f"{label}: it holds {dtype}; it reads {FORMS}")
    middle = rows.select(column.cast(pl.Float64).median()).collect(engine="streaming").item()
    for unit, (low, high) in UNIX_UNITS.items():
        if middle is not None and low <= middle < high:
            factor = {"s": 1e6, "ms": 1e3, "us": 1}[unit]
            return (column.cast(pl.Float64) * factor).cast(pl.Int64).cast(pl.Datetime("us"))
    raise UsageError(
        f"{label}: values such as {middle:.6g} are no time that is known; it reads {FORMS}"
        if middle is not None
        else f"{label}: its values are no times; it reads {FORMS}"
    )


def _parse_iso(column: pl.Expr) -> pl.Expr:
    """Return ISO text as times; an offset from UTC is subtracted."""
    text = column.str.replace(",", ".", literal=True).str.replace("T", " ", literal=True)
    plain = text.str.extract(r"^(\d{4}-\d{2}-\d{2}(?: \d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?)", 1)
    formats = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
    moments = [plain.str.strptime(pl.Datetime("us"), form, strict=False) for form in formats]
    moments.append(plain.str.strptime(pl.Date, "%Y-%m-%d", strict=False).cast(pl.Datetime("us")))
    sign = pl.when(text.str.contains(r"-\d{2}:?\d{2}$") & text.str.contains(":")).then(-1).otherwise(1)
    offset = text.str.extract_groups(r"[ :\d.][+-](\d{2}):?(\d{2})$")
    minutes = offset.struct.field("1").cast(pl.Int64) * 60 + offset.struct.field("2").cast(pl.Int64)
    has_clock = text.str.contains(r"\d{2}:\d{2}")
    shift = pl.when(has_clock).then(sign * minutes).otherwise(0).fill_null(0)
    return pl.coalesce(moments) - pl.duration(minutes=shift)
