"""One dtype for all fields that share an embedding table, so that equal values get equal ids."""

import polars as pl

from fuxictr_me.errors import UsageError


def unify_shared_dtypes(rows: pl.LazyFrame, columns: dict[str, dict]) -> tuple[pl.LazyFrame, list[str]]:
    """Turn whole numbers into text in fields that share an embedding table with a field of text.

    FuxiCTR joins vocabularies by value: 35 in a field of ``dtype: int`` and ``"35"`` in a sequence, whose items are
    always text, would get two ids.

    Args:
        rows: preprocessed.
        columns: name -> entry of ``feature_cols`` of each active column.

    Returns:
        The rows, and the names of the fields that became text.

    Raises:
        UsageError: a table is shared by text and by numbers with a fraction, whose text form is ambiguous.
    """
    groups: dict[str, dict[str, None]] = {}  # base field -> fields that share its table, in order
    for name, column in columns.items():
        if "share_embedding" in column:
            base = _base_field(name, columns)
            groups.setdefault(base, {base: None})[name] = None
    if not groups:
        return rows, []
    schema = rows.collect_schema()
    as_text: list[str] = []
    as_float: list[str] = []
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


def _base_field(name: str, columns: dict[str, dict]) -> str:
    seen: set[str] = set()
    while (base := columns.get(name, {}).get("share_embedding")) is not None and name not in seen:
        seen.add(name)
        name = base
    return name
