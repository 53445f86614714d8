"""The engine that a user named, or ``auto``."""

import logging
import os

import torch

from fuxictr_me.distributed.auto_engine import choose
from fuxictr_me.distributed.distributed_model import distribute
from fuxictr_me.distributed.engines import ENGINES
from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.gpus import gpu_of_device


def distribute_as_asked(model_class, feature_map, params, ranks, engine, groups=None):
    """``distribute``, by the engine that is asked for; ``auto`` has rank 0 choose, and log why.

    Args:
        model_class (type): one of our models.
        feature_map (FeatureMap), params (dict): of the run.
        ranks (Ranks): all processes.
        engine (str): of ``ENGINES``, or ``auto``.
        groups (int or None): as ``distribute`` takes them.

    Returns:
        type

    Raises:
        UsageError: as ``distribute`` and ``choose``; groups where the engine is to be chosen.
    """
    if engine == "auto":
        if groups is not None:
            raise UsageError("--set-groups is of --engine set-parallel; auto chooses them")
        engine, groups = _chosen(model_class, feature_map, params, ranks)
    return distribute(model_class, ranks, engine, groups)


def _chosen(model_class, feature_map, params, ranks):
    """What rank 0 chooses, told to all: name, groups."""
    gpu = params.get("gpu", -1)
    told = torch.zeros(2, dtype=torch.int64, device="cpu" if gpu < 0 else f"cuda:{gpu}")

    def choose_and_log():
        device = None if gpu < 0 else gpu_of_device(gpu)
        on_machine = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.size))
        chosen, why = choose(model_class, feature_map, params, ranks.size, device, on_machine)
        logging.info(why)
        told.copy_(torch.tensor([ENGINES.index(chosen.name), chosen.groups]))

    ranks.on_first(choose_and_log)
    name, groups = ranks.broadcast(told).tolist()
    return ENGINES[name], groups if ENGINES[name] == "set-parallel" else None
