"""A batch to trace a model with, made from its feature map."""

import torch

ROWS = 4
LONGEST = 64


def example_batch(feature_map):
    """Random ids and numbers of every feature, and labels, as FuxiCTR's loaders give them.

    Args:
        feature_map (FeatureMap): of FuxiCTR.

    Returns:
        dict: field -> Tensor (rows,), (rows, max_len) of a sequence, (rows, dim) of an ``embedding`` field.
    """
    random = torch.Generator().manual_seed(0)
    batch = {}
    for field, spec in feature_map.features.items():
        if spec["type"] in ("categorical", "sequence", "meta"):
            shape = (ROWS, spec["max_len"]) if spec["type"] == "sequence" else (ROWS,)
            vocab_size = spec.get("vocab_size", 2)
            lowest = min(1, vocab_size - 1)  # 0 is padding
            batch[field] = torch.randint(lowest, vocab_size, shape, generator=random)
        else:
            shape = (ROWS, spec["pretrain_dim"]) if spec["type"] == "embedding" else (ROWS,)
            batch[field] = torch.randn(shape, generator=random)
    for label in feature_map.labels:
        batch[label] = (torch.arange(ROWS) % 2).double()
    return batch


def long_sequence_batch(feature_map, max_len=None):
    """The same as FuxiCTR's LongCTR models take it: the items of the history, then the target, in a table of their own.

    Args:
        feature_map (FeatureMap): features of the source ``item`` are those of history and target.
        max_len (int or None): length of the history; 64 if None, or if longer.

    Returns:
        (dict, dict, Tensor): field -> (rows,); field of an item -> (rows · (max_len + 1),); mask (rows, max_len).
    """
    random = torch.Generator().manual_seed(0)
    length = min(max_len or LONGEST, LONGEST)
    whole = example_batch(feature_map)
    items = {
        field: torch.randint(1, spec["vocab_size"], (ROWS * (length + 1),), generator=random)
        for field, spec in feature_map.features.items()
        if spec.get("source") == "item"
    }
    return {field: values for field, values in whole.items() if field not in items}, items, torch.ones(ROWS, length)
