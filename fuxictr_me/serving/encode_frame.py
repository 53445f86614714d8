"""Encode whole columns of raw rows by the vocabulary of a trained run, as the build of its data set encodes them."""

from typing import Any

import numpy as np
import polars as pl
import torch

from fuxictr_me.data.building.encode_columns import Lookup, pad, split_tokens
from fuxictr_me.serving.vocabulary import OOV, PAD

PADDING_ID = 0
PARSERS = {"str": str, "int": int, "float": float}


class FrameEncoder:
    """Encoder of preprocessed rows.

    Args:
        vocabulary: as ``make_vocabulary`` returns it.
    """

    def __init__(self, vocabulary: dict[str, Any]) -> None:
        self.fields: dict[str, dict[str, Any]] = vocabulary["fields"]
        self._lookups = {
            name: _lookup_of(vocabulary["vocabularies"][field["vocabulary"]], field)
            for name, field in self.fields.items()
            if "vocabulary" in field
        }

    def encode(self, frame: pl.DataFrame) -> dict[str, torch.Tensor]:
        """Return field -> Tensor (n,) or (n, ·) for rows as ``PreparingProcessor.preprocess`` returns them."""
        return {
            name: torch.from_numpy(np.array(self._encode_column(name, field, frame[name]), field["input"]))
            for name, field in self.fields.items()
        }

    def _encode_column(self, name: str, field: dict[str, Any], column: pl.Series) -> np.ndarray:
        if field["type"] == "categorical":
            return self._lookups[name](column)
        if field["type"] == "sequence":
            tokens, lengths = split_tokens(column, field["splitter"])
            ids = self._lookups[name](tokens)
            ids[(tokens == field["fill"]).to_numpy()] = PADDING_ID
            return pad(ids, lengths, field["max_len"], field["padding"])
        if field["type"] == "embedding":
            return np.stack(column.to_list())
        return (column.to_numpy() - field.get("shift", 0)) / field.get("scale", 1)


def _lookup_of(tokens: dict[str, int], field: dict[str, Any]) -> Lookup:
    """Return the ids of tokens in the type that the preprocessed column has; a vocabulary file has them as text."""
    parse = PARSERS["str" if field["type"] == "sequence" else field["dtype"]]
    return Lookup({token if token in (OOV, PAD) else parse(token): number for token, number in tokens.items()})
