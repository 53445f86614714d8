"""The weights from which a model on several ranks starts."""

import gc

import torch

from fuxictr_me.distributed.sharded_table import shards_of
from fuxictr_me.distributed.weights_by_set import of_no_set, of_set


def draw(model, feature_map, get):
    """Draw each set from (seed, set) by way of a model of that set alone; the head is that of set 0.

    So the start depends neither on the number of ranks nor on the engine. Torch's generator is left at the seed.

    Args:
        model (Distributed)
        feature_map (FeatureMap)
        get (Settings): of the whole model.
    """
    seed = 2024 if get("seed") is None else get("seed")
    mine, shards = model.state_dict(), shards_of(model)
    for at, m in enumerate(model.own):
        torch.manual_seed(seed * 1_000_003 + m)
        alone = {**get.given, "callbacks": None, "gpu": -1}  # a set's tables need not fit a GPU
        drawn = type(model)(feature_map, own=range(m, m + 1), **alone).state_dict()
        for name, tensor in of_set(mine, at, len(model.own)).items():
            rows = shards[name].ids(model.grid.member) if name in shards else ...
            tensor.copy_(drawn[name][rows])
        if m == 0:
            for name, tensor in of_no_set(mine).items():
                tensor.copy_(drawn[name])
        del drawn
        gc.collect()  # a model is a circle of references: one set's tables at a time
    for tensor in of_no_set(mine).values():
        model.ranks.broadcast(tensor)
    torch.manual_seed(seed)
