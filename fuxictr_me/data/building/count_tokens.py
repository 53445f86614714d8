"""How often each token occurs, in one pass over the rows; FuxiCTR's wheel reads them once for each column."""

from collections.abc import Callable, Iterable

import polars as pl

from fuxictr_me.data.building.encode_columns import chunks, tokens_of


def count_tokens(
    lazy: pl.LazyFrame,
    splitters: dict[str, str | None],
    also: Iterable[str] = (),
    check: Callable[[pl.DataFrame], None] | None = None,
) -> tuple[dict, dict]:
    """Count the tokens of several columns in one pass, in memory that grows with their vocabularies alone.

    Args:
        lazy: preprocessed rows.
        splitters: column -> None, or what separates the tokens of a sequence.
        also: columns that ``check`` looks at besides.
        check: called with each chunk of rows.

    Returns:
        Column -> {token: count}, nulls left out; and column of a sequence -> most tokens in a row.
    """
    counts = {name: _Counts() for name in splitters}
    longest = {name: 0 for name, splitter in splitters.items() if splitter is not None}
    names = list(dict.fromkeys([*splitters, *also]))
    for chunk in chunks(lazy.select(names)) if names else ():
        if check is not None:
            check(chunk)
        for name, splitter in splitters.items():
            tokens = chunk[name]
            if splitter is not None:
                tokens, lengths = tokens_of(tokens, splitter)
                longest[name] = max(longest[name], int(lengths.max()))
            counts[name].add(tokens)
    return {name: counted.as_dict() for name, counted in counts.items()}, longest


class _Counts:
    """Counts of one column; chunks are merged when there are as many new rows as merged ones."""

    def __init__(self):
        self._merged, self._new, self._rows = None, [], 0

    def add(self, tokens):
        counted = tokens.drop_nulls().rename("token").value_counts(name="count")
        self._new.append(counted)
        self._rows += len(counted)
        if self._merged is None or self._rows >= len(self._merged):
            self._merge()

    def _merge(self):
        parts = self._new if self._merged is None else [self._merged, *self._new]
        self._merged = pl.concat(parts).group_by("token").agg(pl.col("count").sum())
        self._new, self._rows = [], 0

    def as_dict(self):
        if self._new:
            self._merge()
        return {} if self._merged is None else dict(self._merged.iter_rows())
