"""``--engine``: distribute a model by the engine of a name, or, with ``auto``, by that of the shortest step that fits.

The step of each engine's fullest rank is simulated.
"""

import copy
import logging
import os
from dataclasses import dataclass
from typing import Any

import torch
from fuxictr.features import FeatureMap

from fuxictr_me.distributed.distributed_model import DistributedModel, distribute
from fuxictr_me.distributed.engines import ENGINES, ONE_PROCESS, Engine, possible_set_groups
from fuxictr_me.distributed.ranks import Ranks
from fuxictr_me.distributed.settings import Settings, check_class, find_dims
from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.collectives import NUMBER, PER_NODE, list_collectives
from fuxictr_me.estimates.gpus import GPUS, Gpu, gpu_of_device
from fuxictr_me.estimates.simulate import Simulation, simulate
from fuxictr_me.io.free_memory import free_memory
from fuxictr_me.models import MultiEmbeddingModel

NEAR = 0.05  # times that differ by less count as equal


@dataclass(frozen=True)
class Estimate:
    """What a step costs on the fullest rank of an engine.

    Attributes:
        engine: the engine.
        memory: bytes at the peak of a step, without the data set.
        sent: bytes that the rank sends in a step.
        seconds: a lower bound of the step's time: products or memory traffic, whichever takes longer, then the links.
    """

    engine: Engine
    memory: float
    sent: float
    seconds: float


def distribute_by_engine(
    model_class: type[MultiEmbeddingModel],
    feature_map: FeatureMap,
    params: dict[str, Any],
    ranks: Ranks,
    engine: str,
    groups: int | None = None,
) -> type[DistributedModel]:
    """Call ``distribute`` with the engine of a name. For ``auto`` rank 0 chooses one, and logs why.

    Args:
        model_class: a fuxictr-me model.
        feature_map, params: of the run.
        ranks: all processes.
        engine: one of ``ENGINES``, or ``auto``.
        groups: see ``distribute``.

    Raises:
        UsageError: see ``distribute`` and ``choose_engine``; or ``groups`` is given with ``auto``.
    """
    if engine == "auto":
        if groups is not None:
            raise UsageError("--set-groups is an option of --engine set-parallel; auto chooses the groups")
        engine, groups = _choose_on_first(model_class, feature_map, params, ranks)
    return distribute(model_class, ranks, engine, groups)


def _choose_on_first(
    model_class: type[MultiEmbeddingModel], feature_map: FeatureMap, params: dict[str, Any], ranks: Ranks
) -> tuple[str, int | None]:
    """Let rank 0 choose an engine, and return its name and groups on all ranks."""
    gpu = params.get("gpu", -1)
    choice = torch.zeros(2, dtype=torch.int64, device="cpu" if gpu < 0 else f"cuda:{gpu}")

    def choose_and_log() -> None:
        device = None if gpu < 0 else gpu_of_device(gpu)
        ranks_per_node = int(os.environ.get("LOCAL_WORLD_SIZE", ranks.size))
        engine, why = choose_engine(model_class, feature_map, params, ranks.size, device, ranks_per_node)
        logging.info(why)
        choice.copy_(torch.tensor([ENGINES.index(engine.name), engine.groups]))

    ranks.run_on_first(choose_and_log)
    index, groups = ranks.broadcast(choice).tolist()
    return ENGINES[index], groups if ENGINES[index] == "set-parallel" else None


def choose_engine(
    model_class: type[MultiEmbeddingModel],
    feature_map: FeatureMap,
    params: dict[str, Any],
    num_ranks: int,
    gpu: Gpu | None = None,
    ranks_per_node: int | None = None,
) -> tuple[Engine, str]:
    """Choose the engine with the shortest estimated step among those that fit.

    Times that differ by less than ``NEAR`` count as equal. Of these, the engine that sends the fewest bytes is chosen,
    then the one with the fewest members. The links are assumed to be those of a DGX H100.

    Args:
        model_class: a fuxictr-me model.
        feature_map: of the run.
        params: settings of the run, with the ``batch_size`` of all ranks together.
        num_ranks: R.
        gpu: of each rank; None for processes on CPUs, which share the free memory of a node. Their speeds are unknown,
            so those of an H100 are used.
        ranks_per_node: None for ``PER_NODE``.

    Returns:
        The engine, and a table with one line per engine: memory and bytes sent of its fullest rank, time of a step.

    Raises:
        UsageError: no engine fits, or the model cannot be distributed with these settings.
    """
    if num_ranks == 1:
        return ONE_PROCESS, "one process"
    per_node = min(num_ranks, ranks_per_node or PER_NODE)
    limit = free_memory() / per_node if gpu is None else gpu.memory
    estimates, refused = estimate_engines(model_class, feature_map, params, num_ranks, gpu, per_node)
    fitting = [estimate for estimate in estimates if estimate.memory <= limit]
    if not fitting:
        least = min(estimates, key=lambda estimate: estimate.memory)
        raise UsageError(
            f"no engine fits: the least, {least.engine}, needs {_format(least.memory / 1e9)} GB on the fullest of "
            f"{num_ranks} processes, and each has {_format(limit / 1e9)} GB"
        )
    chosen = pick_best(fitting)
    speeds = "speeds of an H100 assumed" if gpu is None else f"{gpu.name}, links of a DGX H100 assumed"
    lines = [
        f"{num_ranks} processes of {_format(limit / 1e9)} GB, {per_node} per node; {speeds}",
        f"{'engine':<32}{'GB per rank':>12}{'MB sent':>12}{'ms per step':>12}",
    ]
    for estimate in estimates:
        verdict = "chosen" if estimate is chosen else "" if estimate in fitting else "does not fit"
        figures = estimate.memory / 1e9, estimate.sent / 1e6, estimate.seconds * 1e3
        row = f"{estimate.engine!s:<32}" + "".join(f"{_format(figure):>12}" for figure in figures)
        lines.append(f"{row}  {verdict}".rstrip())
    lines += [f"{engine!s:<70}refused: {reason}" for engine, reason in refused.items()]
    lines.append(f"chosen: the shortest step that fits; within {NEAR:.0%} of it, the fewest bytes sent")
    return chosen.engine, "\n".join(lines)


def pick_best(fitting: list[Estimate]) -> Estimate:
    """Return the estimate that sends the least among those within ``NEAR`` of the shortest time."""
    limit = (1 + NEAR) * min(estimate.seconds for estimate in fitting)
    near = [estimate for estimate in fitting if estimate.seconds <= limit]
    return min(near, key=lambda estimate: (estimate.sent, estimate.engine.members))


def estimate_engines(
    model_class: type[MultiEmbeddingModel],
    feature_map: FeatureMap,
    params: dict[str, Any],
    num_ranks: int,
    gpu: Gpu | None,
    per_node: int,
) -> tuple[list[Estimate], dict[Engine, str]]:
    """Estimate the step of every engine.

    Args:
        model_class, feature_map, params, num_ranks, gpu: see ``choose_engine``.
        per_node: ranks of a node.

    Returns:
        The estimates, and engine -> why it is refused.
    """
    check_class(model_class)
    settings = Settings(model_class, params)
    num_sets = len(find_dims(settings))
    ddp = Engine("ddp", 1, num_ranks)
    # ddp sums gradients of whole tables, so they are not updated in one pass
    whole = simulate(model_class, feature_map, settings_of_fullest_rank(settings, ddp), in_one_pass=False)
    engines = [ddp, Engine("sharded", 1, num_ranks)]
    engines += [Engine("set-parallel", s, num_ranks // s) for s in possible_set_groups(num_ranks, num_sets)[:0:-1]]
    refused = {engine: reason for engine in engines if (reason := _find_obstacle(engine, settings, whole))}
    estimates = []
    for engine in engines:
        if engine in refused:
            continue
        step = whole
        if engine != ddp:
            fields = feature_map
            if engine.shards_tables:
                fields = shard_feature_map(feature_map, whole.tables, engine.members)
            of_rank = settings_of_fullest_rank(settings, engine)
            # kernels that update in one pass would take less than is counted
            step = simulate(model_class, fields, of_rank, on_gpu=gpu is not None, in_one_pass=False)
        estimates.append(estimate_engine(engine, step, whole.hidden or 0, params, gpu or GPUS["H100"], per_node))
    return estimates, refused


def settings_of_fullest_rank(settings: Settings, engine: Engine) -> dict[str, Any]:
    """Return the settings of a model of one process that is as large as the part of the fullest rank.

    Args:
        settings: of the whole model.
        engine: how it is divided.
    """
    dims, interactions, batch_size = find_dims(settings), settings("interactions"), settings.given.get("batch_size", 32)
    sets, rows = -(-len(dims) // engine.groups), -(-batch_size // engine.members)
    part = {**settings.given, "num_sets": sets, "embedding_dim": dims[0], "batch_size": max(rows, 2)}  # for batch norm
    if interactions:
        part["interactions"] = interactions[:sets]
    if sets == 1:  # a model of one set refuses other values
        part |= {"aggregation": "mean", "nonlinear_projection": True}
    return part


def shard_feature_map(feature_map: FeatureMap, tables: list[tuple[list[str], Any]], members: int) -> FeatureMap:
    """Return the feature map of a rank that has every G-th row of fused tables.

    Args:
        feature_map: of the run.
        tables: fields and shape of each fused table, see ``Simulation``.
        members: G.
    """
    part = copy.copy(feature_map)
    part.features = dict(feature_map.features)
    for field in {field for fields, _ in tables for field in fields}:
        spec = feature_map.features[field]
        part.features[field] = {**spec, "vocab_size": -(-spec["vocab_size"] // members), "padding_idx": 0}
    return part


def estimate_engine(
    engine: Engine, step: Simulation, hidden: int, params: dict[str, Any], speeds: Gpu, per_node: int
) -> Estimate:
    """Estimate the costs of an engine from the simulated step of its fullest rank.

    Args:
        engine: the engine.
        step: with the rank's rows of tables and of the batch.
        hidden: H of the whole model.
        params: settings of the run.
        speeds: those of the device.
        per_node: ranks of a node.
    """
    batch_size = params.get("batch_size", 32)
    entries = sum(rows * width for _, (rows, width) in step.tables)
    width = sum(len(fields) * width for fields, (_, width) in step.tables)
    exchanges = list_collectives(
        engine,
        batch=batch_size,
        ids=sum(len(fields) for fields, _ in step.tables),
        width=width,
        hidden=hidden,
        dense=step.parameters - entries,
        entries=entries,
    )
    received = NUMBER * -(-batch_size // engine.members) * width if engine.shards_tables else 0
    products = sum(operation.flops for operation in step.operations)
    traffic = sum(operation.bytes for operation in step.operations)
    compute = max(products / speeds.peak(params.get("precision", "float32")), traffic / speeds.bandwidth)
    links = sum(exchange.seconds_on(per_node) for exchange in exchanges)
    sent = sum(exchange.sent for exchange in exchanges)
    return Estimate(engine, step.memory.peak + received, sent, compute + links)


def _find_obstacle(engine: Engine, settings: Settings, whole: Simulation) -> str | None:
    """Return why an engine cannot train a model; None if it can."""
    if engine.name == "ddp" and settings("embedding_updates") != "dense":
        return f"ddp updates every row, embedding_updates is {settings('embedding_updates')}"
    if engine.shards_tables and not whole.tables:
        return "there is no fused table whose rows could be divided"
    return None


def _format(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
