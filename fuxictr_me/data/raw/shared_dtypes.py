"""One dtype for fields that share an embedding table, so that a value has one id in all of them."""

import polars as pl

from fuxictr_me.errors import UsageError


def shared_as_one_type(rows: pl.LazyFrame, columns: dict) -> tuple[pl.LazyFrame, list[str]]:
    """Return rows in which whole numbers are text where a field that shares their table holds text.

    FuxiCTR joins vocabularies by value: 35 of a field of ``dtype: int`` and ``"35"`` of a sequence, whose items are
    always text, would be two ids.

    Args:
        rows: preprocessed.
        columns: name -> entry of ``feature_cols``, of active columns.

    Returns:
        The rows, and the names of the fields that became text.

    Raises:
        UsageError: a table of text and of numbers with a fraction, of which no text is sure to be the same.
    """
    groups = {}
    for name, column in columns.items():
        if "share_embedding" in column:
            base = _base(name, columns)
            groups.setdefault(base, {base: None})[name] = None
    if not groups:
        return rows, []
    schema, as_text, as_float = rows.collect_schema(), [], []
    for names in groups.values():
        kinds = {name: schema[name] for name in names if name in schema}
        text = [name for name, dtype in kinds.items() if dtype == pl.String]
        floats = [name for name, dtype in kinds.items() if dtype.is_float()]
        if text and floats:
            raise UsageError(
                f"share_embedding: {floats[0]!r} holds numbers with a fraction and {text[0]!r} holds text, so that no "
                f"value of one is a value of the other: give both the same dtype"
            )
        rest = [name for name in kinds if name not in (*text, *floats)]
        as_text += rest if text else []
        as_float += rest if floats else []
    casts = [pl.col(name).cast(pl.String) for name in as_text] + [pl.col(name).cast(pl.Float64) for name in as_float]
    return rows.with_columns(casts), as_text


def _base(name: str, columns: dict) -> str:
    seen = set()
    while (base := columns.get(name, {}).get("share_embedding")) is not None and name not in seen:
        seen.add(name)
        name = base
    return name
