"""Encoding of whole raw columns as ids, equal to FuxiCTR's ``FeatureProcessor.transform``, which goes row by row."""

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from fuxictr_me.errors import UsageError

if TYPE_CHECKING:
    from fuxictr.preprocess.tokenizer import Tokenizer

    from fuxictr_me.data.building.processor import PreparingProcessor

CHUNK_ROWS = 200_000


class Encoder:
    """Encoder of chunks of rows by the vocabularies of a fitted FuxiCTR ``FeatureProcessor``.

    Args:
        processor: fitted.

    Raises:
        UsageError: a field that FuxiCTR 2.3.10 itself cannot encode.
    """

    def __init__(self, processor: "PreparingProcessor") -> None:
        self.processor = processor
        self._lookups: dict[str, Lookup] = {}
        for name, spec in processor.feature_map.features.items():
            if spec.get("category_processor"):
                raise UsageError(
                    f"field {name!r}: FuxiCTR 2.3.10 does not apply category_processor itself; leave it out"
                )

    def encode(self, frame: pl.DataFrame) -> dict[str, np.ndarray]:
        """Return field or label -> array (n,) or (n, L) for rows that ``FeatureProcessor.preprocess`` returned."""
        self.processor.check_rows(frame)
        features = self.processor.feature_map.features
        encoded = {name: self._encode_column(name, spec["type"], frame[name]) for name, spec in features.items()}
        return encoded | {label: frame[label].to_numpy() for label in self.processor.feature_map.labels}

    def _encode_column(self, name: str, kind: str, column: pl.Series) -> np.ndarray:
        tokenizer = self.processor.processor_dict.get(f"{name}::tokenizer")
        if kind == "sequence":
            return self._encode_sequence(name, tokenizer, column)
        if kind == "categorical":
            return self._lookup(name, tokenizer)(column)
        if kind == "meta":
            if tokenizer is None:
                return column.to_numpy().astype(np.int64)
            if hasattr(tokenizer, "encode_meta"):
                return np.asarray(tokenizer.encode_meta(column.to_pandas()))
            return self._lookup(name, tokenizer)(column)
        if kind == "numeric":
            normalizer = self.processor.processor_dict.get(f"{name}::normalizer")
            values = column.to_numpy()
            return values if normalizer is None else normalizer.transform(np.array(values))
        return np.stack(column.to_list())  # type: embedding

    def _encode_sequence(self, name: str, tokenizer: "Tokenizer", column: pl.Series) -> np.ndarray:
        tokens, lengths = split_tokens(column, tokenizer._splitter)
        ids = self._lookup(name, tokenizer)(tokens)
        ids[(tokens == tokenizer._na_value).to_numpy()] = tokenizer.vocab["__PAD__"]
        return pad(ids, lengths, tokenizer.max_len, tokenizer.padding)

    def _lookup(self, name: str, tokenizer: "Tokenizer") -> "Lookup":
        if name not in self._lookups:
            self._lookups[name] = Lookup(tokenizer.vocab)
        return self._lookups[name]


class Lookup:
    """Map from tokens to ids for whole columns; tokens outside the vocabulary get the id of ``__OOV__``.

    Args:
        vocab: of a FuxiCTR ``Tokenizer``: tokens of one type, ``__PAD__`` and ``__OOV__``.
    """

    def __init__(self, vocab: dict) -> None:
        self.oov = vocab["__OOV__"]
        tokens = [token for token in vocab if not isinstance(token, str)]
        if tokens and len(tokens) + 2 < len(vocab):
            raise UsageError("a vocabulary holds both text and numbers: give fields that share a table one dtype")
        self.is_text = not tokens
        if self.is_text:
            self._enum = pl.Enum(list(vocab))
            self._ids = np.array([*vocab.values(), self.oov])
            return
        keys = np.array(tokens)
        order = np.argsort(keys)
        self._keys, self._ids = keys[order], np.array([vocab[token] for token in tokens])[order]

    def __call__(self, column: pl.Series) -> np.ndarray:
        """Return the ids of the tokens in a column, (n,) int64."""
        if self.is_text:
            codes = column.cast(self._enum, strict=False).to_physical()
            return self._ids[codes.fill_null(len(self._ids) - 1).to_numpy()]
        values = column.fill_null(0).to_numpy()  # with nulls, numpy would hold whole numbers as floats
        at = np.searchsorted(self._keys, values).clip(max=len(self._keys) - 1)
        return np.where((self._keys[at] == values) & column.is_not_null().to_numpy(), self._ids[at], self.oov)


def split_tokens(column: pl.Series, splitter: str) -> tuple[pl.Series, np.ndarray]:
    """Split sequences of text into tokens.

    Args:
        column: (n,) text.
        splitter: text between tokens.

    Returns:
        The tokens of all rows one after another, (Σ lengths,), and the number of tokens in each row, (n,).
    """
    lists = column.str.split(splitter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # polars 2 will explode empty lists differently, but a split is never empty
        tokens = lists.explode()
    return tokens, lists.list.len().to_numpy().astype(np.int64)


def pad(ids: np.ndarray, lengths: np.ndarray, max_len: int, padding: str) -> np.ndarray:
    """Return sequences of unequal length as rows (n, L), cut and padded with 0 on one side.

    Args:
        ids: (Σ lengths,), sequence after sequence.
        lengths: (n,).
        max_len: L.
        padding: side that is cut and padded, ``pre`` or ``post``.
    """
    ends = np.cumsum(lengths)
    kept = np.minimum(lengths, max_len)
    columns = np.arange(max_len)
    if padding == "pre":
        first, offset = ends - kept, columns - (max_len - kept)[:, None]
    else:
        first, offset = ends - lengths, np.broadcast_to(columns, (len(kept), max_len))
    inside = (offset >= 0) & (offset < kept[:, None])
    rows = np.zeros((len(kept), max_len), ids.dtype)
    rows[inside] = ids[(first[:, None] + offset)[inside]]
    return rows


def iterate_chunks(lazy: pl.LazyFrame, rows: int = CHUNK_ROWS) -> Iterator[pl.DataFrame]:
    """Yield the rows of a polars query in order, at most ``rows`` at a time, in bounded memory."""
    if not hasattr(lazy, "collect_batches"):  # an older polars, which must collect all rows at once
        yield from lazy.collect().iter_slices(rows)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # polars calls collect_batches unstable
        for batch in lazy.collect_batches(chunk_size=rows, maintain_order=True):
            if len(batch):
                yield from batch.iter_slices(rows)


def count_rows(lazy: pl.LazyFrame) -> int:
    """Return the number of rows that a polars query yields."""
    return lazy.select(pl.len()).collect().item()
