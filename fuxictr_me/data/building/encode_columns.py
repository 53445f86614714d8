"""Raw columns to ids, a whole chunk at a time: those that FuxiCTR's ``FeatureProcessor.transform`` gives row by row."""

import warnings

import numpy as np
import polars as pl

from fuxictr_me.errors import UsageError

CHUNK_ROWS = 200_000


class Encoder:
    """Ids of whole columns by the vocabularies of a fitted FuxiCTR ``FeatureProcessor``.

    Args:
        processor (PreparingProcessor): fitted.

    Raises:
        UsageError: a field that FuxiCTR 2.3.10 itself cannot turn into ids.
    """

    def __init__(self, processor):
        self.processor = processor
        self._lookups = {}
        for name, spec in processor.feature_map.features.items():
            if spec.get("category_processor"):
                raise UsageError(
                    f"field {name!r}: FuxiCTR 2.3.10 does not apply category_processor itself; leave it out"
                )

    def __call__(self, frame):
        """One chunk.

        Args:
            frame (pl.DataFrame): columns as ``FeatureProcessor.preprocess`` leaves them.

        Returns:
            dict: field or label -> array (n,) or (n, L).
        """
        self.processor.check_rows(frame)
        features = self.processor.feature_map.features
        encoded = {name: self._encode(name, spec, frame[name]) for name, spec in features.items()}
        for label in self.processor.feature_map.labels:
            encoded[label] = frame[label].to_numpy()
        return encoded

    def _encode(self, name, spec, column):
        kind = spec["type"]
        tokenizer = self.processor.processor_dict.get(f"{name}::tokenizer")
        if kind == "categorical" or (
            kind == "meta" and tokenizer is not None and not hasattr(tokenizer, "encode_meta")
        ):
            return self._lookup(name, tokenizer)(column)
        if kind == "sequence":
            return self._sequence(name, tokenizer, column)
        if kind == "meta":
            return tokenizer.encode_meta(column.to_pandas()) if tokenizer else column.to_numpy().astype(np.int64)
        if kind == "numeric":
            normalizer = self.processor.processor_dict.get(f"{name}::normalizer")
            values = column.to_numpy()
            return values if normalizer is None else normalizer.transform(np.array(values))
        return np.stack(column.to_list())  # an embedding

    def _lookup(self, name, tokenizer):
        if name not in self._lookups:
            self._lookups[name] = Lookup(tokenizer.vocab)
        return self._lookups[name]

    def _sequence(self, name, tokenizer, column):
        tokens, lengths = tokens_of(column, tokenizer._splitter)
        ids = self._lookup(name, tokenizer)(tokens)
        ids[(tokens == tokenizer._na_value).to_numpy()] = tokenizer.vocab["__PAD__"]
        return pad(ids, lengths, tokenizer.max_len, tokenizer.padding)


class Lookup:
    """token -> id for whole columns, ``__OOV__`` for what is not in the vocabulary.

    Args:
        vocab (dict): of a FuxiCTR ``Tokenizer``: tokens of one type, ``__PAD__`` and ``__OOV__``.
    """

    def __init__(self, vocab):
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

    def __call__(self, column):
        """pl.Series (n,) -> array (n,) of int64."""
        if self.is_text:
            codes = column.cast(self._enum, strict=False).to_physical()
            return self._ids[codes.fill_null(len(self._ids) - 1).to_numpy()]
        values = column.fill_null(0).to_numpy()  # with nulls in it, numpy would hold whole numbers as floats
        at = np.searchsorted(self._keys, values).clip(max=len(self._keys) - 1)
        return np.where((self._keys[at] == values) & column.is_not_null().to_numpy(), self._ids[at], self.oov)


def tokens_of(column, splitter):
    """The tokens of a column of sequences, one after the other, and how many there are in each row.

    Args:
        column (pl.Series): (n,) of text.
        splitter (str): between tokens.

    Returns:
        (pl.Series, array): (Σ lengths,) and (n,).
    """
    lists = column.str.split(splitter)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # polars 2 will treat empty lists otherwise; a split is never empty
        tokens = lists.explode()
    return tokens, lists.list.len().to_numpy().astype(np.int64)


def pad(ids, lengths, max_len, padding):
    """Sequences of unequal length as rows of one length, cut and padded on the side that ``padding`` names.

    Args:
        ids (array): (Σ lengths,), sequence after sequence.
        lengths (array): (n,).
        max_len (int): L.
        padding (str): ``pre`` or ``post``.

    Returns:
        array: (n, L), 0 where there is nothing.
    """
    ends = np.cumsum(lengths)
    kept = np.minimum(lengths, max_len)
    first = ends - kept if padding == "pre" else ends - lengths
    columns = np.arange(max_len)
    offset = (
        (columns - (max_len - kept)[:, None]) if padding == "pre" else np.broadcast_to(columns, (len(kept), max_len))
    )
    inside = (offset >= 0) & (offset < kept[:, None])
    rows = np.zeros((len(kept), max_len), ids.dtype)
    rows[inside] = ids[(first[:, None] + offset)[inside]]
    return rows


def chunks(lazy, rows=CHUNK_ROWS):
    """The rows of a polars query in order, in bounded memory.

    Args:
        lazy (pl.LazyFrame)
        rows (int): of a chunk, at most.

    Yields:
        pl.DataFrame
    """
    if not hasattr(lazy, "collect_batches"):  # an older polars: all at once
        yield from lazy.collect().iter_slices(rows)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # polars calls it unstable
        for batch in lazy.collect_batches(chunk_size=rows, maintain_order=True):
            if len(batch):
                yield from batch.iter_slices(rows)


def count_rows(lazy):
    """Rows that a polars query will give."""
    return lazy.select(pl.len()).collect().item()
