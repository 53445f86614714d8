"""Random batches of a feature map, as FuxiCTR's loaders yield them."""

import torch


def make_batch(feature_map, rows=32, seed=1):
    """Make a batch as FuxiCTR's loaders yield it."""
    random = torch.Generator().manual_seed(seed)
    batch = {}
    for field, spec in feature_map.features.items():
        if spec["type"] == "numeric":
            batch[field] = torch.randn(rows, generator=random, dtype=torch.float64)
        elif spec["type"] == "categorical":
            batch[field] = torch.randint(1, spec["vocab_size"], (rows,), generator=random)
        elif spec["type"] == "sequence":
            batch[field] = torch.randint(0, spec["vocab_size"], (rows, spec["max_len"]), generator=random)
        elif spec["type"] == "embedding":
            batch[field] = torch.randn(rows, spec["pretrain_dim"], generator=random)
    batch["label"] = torch.randint(0, 2, (rows,), generator=random).double()
    return batch


def inputs_of(feature_map, **more):
    """Make a batch without its labels."""
    batch = make_batch(feature_map, **more)
    return {k: v for k, v in batch.items() if k != "label"}
