"""Token counts of several columns in one pass over the rows; FuxiCTR's wheel makes one pass per column."""

from collections.abc import Callable, Iterable

import polars as pl

from fuxictr_me.data.building.encode_columns import iterate_chunks, split_tokens


def count_tokens(
    lazy: pl.LazyFrame,
    splitters: dict[str, str | None],
    also: Iterable[str] = (),
    check: Callable[[pl.DataFrame], None] | None = None,
) -> tuple[dict[str, dict], dict[str, int]]:
    """Count the tokens of several columns in one pass, in memory that grows only with their vocabularies.

    Args:
        lazy: preprocessed rows.
        splitters: column -> text between the tokens of a sequence, or None for single values.
        also: further columns, which ``check`` reads.
        check: called with each chunk of rows.

    Returns:
        Column -> {token: count} without nulls; and sequence column -> largest number of tokens in a row.
    """
    counts = {name: _Counts() for name in splitters}
    longest = {name: 0 for name, splitter in splitters.items() if splitter is not None}
    names = list(dict.fromkeys([*splitters, *also]))
    for chunk in iterate_chunks(lazy.select(names)) if names else ():
        if check is not None:
            check(chunk)
        for name, splitter in splitters.items():
            tokens = chunk[name]
            if splitter is not None:
                tokens, lengths = split_tokens(tokens, splitter)
                longest[name] = max(longest[name], int(lengths.max()))
            counts[name].add(tokens)
    return {name: counted.as_dict() for name, counted in counts.items()}, longest


class _Counts:
    """Token counts of one column; chunks are merged once they hold as many rows as the merged counts."""

    def __init__(self) -> None:
        self._merged: pl.DataFrame | None = None
        self._new: list[pl.DataFrame] = []
        self._new_rows = 0

    def add(self, tokens: pl.Series) -> None:
        counted = tokens.drop_nulls().rename("token").value_counts(name="count")
        self._new.append(counted)
        self._new_rows += len(counted)
        if self._merged is None or self._new_rows >= len(self._merged):
            self._merge()

    def as_dict(self) -> dict:
        if self._new:
            self._merge()
        return {} if self._merged is None else dict(self._merged.iter_rows())

    def _merge(self) -> None:
        parts = self._new if self._merged is None else [self._merged, *self._new]
        self._merged = pl.concat(parts).group_by("token").agg(pl.col("count").sum())
        self._new, self._new_rows = [], 0
