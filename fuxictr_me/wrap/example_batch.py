"""Make a batch from a feature map, to trace a model with."""

from typing import Any

import torch
from fuxictr.features import FeatureMap
from torch import Tensor

ROWS = 4
LONGEST = 64


def example_batch(feature_map: FeatureMap) -> dict[str, Tensor]:
    """Make random ids and numbers for every feature, and labels, as FuxiCTR's loaders yield them.

    Returns:
        field -> (rows,), (rows, max_len) of a sequence, (rows, dim) of an ``embedding`` field.
    """
    random = torch.Generator().manual_seed(0)
    batch = {}
    for field, spec in feature_map.features.items():
        shape: tuple[int, ...] = (ROWS,)
        if spec["type"] in ("categorical", "sequence", "meta"):
            if spec["type"] == "sequence":
                shape = (ROWS, spec["max_len"])
            vocab_size = spec.get("vocab_size", 2)
            lowest = min(1, vocab_size - 1)  # 0 is padding
            batch[field] = torch.randint(lowest, vocab_size, shape, generator=random)
        else:
            if spec["type"] == "embedding":
                shape = (ROWS, spec["pretrain_dim"])
            batch[field] = torch.randn(shape, generator=random)
    for label in feature_map.labels:
        batch[label] = (torch.arange(ROWS) % 2).double()
    return batch


def long_sequence_batch(
    feature_map: FeatureMap, max_len: int | None = None
) -> tuple[dict[str, Any], dict[str, Tensor], Tensor]:
    """Make a batch as FuxiCTR's LongCTR models take it: history items and the target in a separate table.

    Args:
        feature_map: its features of the source ``item`` are those of history and target.
        max_len: length of the history; 64 if None or longer.

    Returns:
        field -> (rows,); field of an item -> (rows · (max_len + 1),); mask (rows, max_len).
    """
    random = torch.Generator().manual_seed(0)
    length = min(max_len or LONGEST, LONGEST)
    items = {
        field: torch.randint(1, spec["vocab_size"], (ROWS * (length + 1),), generator=random)
        for field, spec in feature_map.features.items()
        if spec.get("source") == "item"
    }
    others = {field: values for field, values in example_batch(feature_map).items() if field not in items}
    return others, items, torch.ones(ROWS, length)
