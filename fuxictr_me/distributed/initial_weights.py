"""The weights from which a model on several ranks starts."""

import gc
from typing import TYPE_CHECKING

import torch
from fuxictr.features import FeatureMap

from fuxictr_me.distributed.sharded_table import find_shards
from fuxictr_me.distributed.weights_by_set import select_shared, slice_set

if TYPE_CHECKING:
    from fuxictr_me.distributed.distributed_model import DistributedModel
    from fuxictr_me.distributed.settings import Settings


def initialise_sets(model: "DistributedModel", feature_map: FeatureMap, settings: "Settings") -> None:
    """Initialise each set with a seed made of (seed, set), and the head as that of set 0.

    The start then depends neither on the number of ranks nor on the engine. Each set is copied from a model of that
    set alone. Torch's generator is left at the seed.

    Args:
        model: all ranks call this for theirs.
        feature_map: of the data set.
        settings: of the whole model.
    """
    seed = 2024 if settings("seed") is None else settings("seed")
    weights, shards = model.state_dict(), find_shards(model)
    for i, m in enumerate(model.own_sets):
        torch.manual_seed(seed * 1_000_003 + m)
        on_cpu = {**settings.given, "callbacks": None, "gpu": -1}  # a set's whole tables need not fit a GPU
        initial = type(model)(feature_map, own_sets=range(m, m + 1), **on_cpu).state_dict()
        for name, tensor in slice_set(weights, i, len(model.own_sets)).items():
            rows = shards[name].ids(model.grid.member) if name in shards else ...
            tensor.copy_(initial[name][rows])
        if m == 0:
            for name, tensor in select_shared(weights).items():
                tensor.copy_(initial[name])
        del initial
        gc.collect()  # a model is a cycle of references; without this, the tables of several sets would be in memory
    for tensor in select_shared(weights).values():
        model.ranks.broadcast(tensor)
    torch.manual_seed(seed)
