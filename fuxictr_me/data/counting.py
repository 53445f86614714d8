"""How often each token occurs, in one pass over the rows; FuxiCTR's wheel reads them once for each column."""

import polars as pl

from fuxictr_me.data.encode import chunks, tokens_of


def count_tokens(lazy, splitters):
    """Count the tokens of several columns in one pass, in memory that grows with their vocabularies alone.

    Args:
        lazy (pl.LazyFrame): preprocessed rows.
        splitters (dict): column -> None, or what separates the tokens of a sequence.

    Returns:
        (dict, dict): column -> {token: count}, nulls left out; and column of a sequence -> most tokens in a row.
    """
    counts = {name: _Counts() for name in splitters}
    longest = {name: 0 for name, splitter in splitters.items() if splitter is not None}
    for chunk in chunks(lazy.select(list(splitters))) if splitters else ():
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
