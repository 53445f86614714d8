"""``--engine auto``: the engine of the shortest step, of those that fit, by the simulated step of a rank."""

import copy
from dataclasses import dataclass

from fuxictr_me.data.loaders.h5_loader import free_memory
from fuxictr_me.distributed.engines import ALONE, Engine, possible_groups
from fuxictr_me.distributed.settings import Settings, all_dims, check_class
from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.collectives import NUMBER, PER_NODE, list_collectives
from fuxictr_me.estimates.gpus import GPUS
from fuxictr_me.estimates.simulate import simulate
from fuxictr_me.formatting import format_bytes

NEAR = 0.05  # times that differ by less are taken as equal


@dataclass(frozen=True)
class Estimate:
    """What the fullest rank of an engine takes.

    Attributes:
        engine (Engine)
        memory (float): bytes at the peak of a step, the data set not counted.
        sent (float): bytes that it sends in a step.
        seconds (float): of a step at least: products or memory traffic, the longer, then the links.
    """

    engine: Engine
    memory: float
    sent: float
    seconds: float


def choose(model_class, feature_map, params, num_ranks, gpu=None, ranks_a_node=None):
    """The engine with which a step is estimated to take the least, of those that fit; and why.

    Times that differ by less than ``NEAR`` are taken as equal: of these, that which sends the fewest bytes, then that
    of the fewest members. Links are taken to be those of a DGX H100.

    Args:
        model_class (type): one of our models.
        feature_map (FeatureMap): of FuxiCTR.
        params (dict): settings of the run, ``batch_size`` that of all ranks together.
        num_ranks (int): R.
        gpu (Gpu or None): of each rank; None: processes on CPUs, which share the free memory of a node. Their speeds
            are unknown, so that those of an H100 are taken.
        ranks_a_node (int or None): None: ``PER_NODE``.

    Returns:
        (Engine, str): and a table, an engine a line: memory and bytes sent of its fullest rank, time of a step.

    Raises:
        UsageError: no engine fits, or settings with which a model cannot be on several ranks.
    """
    if num_ranks == 1:
        return ALONE, "one process"
    per_node = min(num_ranks, ranks_a_node or PER_NODE)
    limit = free_memory() / per_node if gpu is None else gpu.memory
    found, refused = estimates(model_class, feature_map, params, num_ranks, gpu, per_node)
    fitting = [estimate for estimate in found if estimate.memory <= limit]
    if not fitting:
        least = min(found, key=lambda estimate: estimate.memory)
        raise UsageError(
            f"no engine fits: the least, {least.engine}, needs {format_bytes(least.memory)} on the fullest of "
            f"{num_ranks} processes, and each has {format_bytes(limit)}"
        )
    chosen = best(fitting)
    speeds = "speeds of an H100 assumed" if gpu is None else f"{gpu.name}, links of a DGX H100 assumed"
    lines = [
        f"{num_ranks} processes of {format_bytes(limit)}, {per_node} a node; {speeds}",
        f"{'engine':<32}{'GB a rank':>12}{'MB sent':>12}{'ms a step':>12}",
    ]
    for estimate in found:
        verdict = "chosen" if estimate is chosen else "" if estimate in fitting else "does not fit"
        lines.append(f"{_figures(estimate)}  {verdict}".rstrip())
    lines += [f"{engine!s:<70}refused: {reason}" for engine, reason in refused.items()]
    lines.append(f"chosen: the shortest step that fits; within {NEAR:.0%} of it, the fewest bytes sent")
    return chosen.engine, "\n".join(lines)


def best(fitting):
    """Of estimates that fit: among those within ``NEAR`` of the least time the one that sends the least."""
    within = (1 + NEAR) * min(estimate.seconds for estimate in fitting)
    near = [estimate for estimate in fitting if estimate.seconds <= within]
    return min(near, key=lambda estimate: (estimate.sent, estimate.engine.members))


def estimates(model_class, feature_map, params, num_ranks, gpu, per_node):
    """What every engine takes.

    Args:
        model_class, feature_map, params, num_ranks, gpu: as of ``choose``.
        per_node (int): ranks of a node.

    Returns:
        (list of Estimate, dict): and engine -> why it is refused.
    """
    check_class(model_class)
    get = Settings(model_class, params)
    num_sets = len(all_dims(get))
    ddp = Engine("ddp", 1, num_ranks)
    # its gradients are added up whole
    whole = simulate(model_class, feature_map, part_of_rank(get, ddp), in_one_pass=False)
    engines = [ddp, Engine("sharded", 1, num_ranks)]
    engines += [Engine("set-parallel", s, num_ranks // s) for s in possible_groups(num_ranks, num_sets)[:0:-1]]
    refused = {engine: reason for engine in engines if (reason := _reason_against(engine, get, whole))}
    found = []
    for engine in engines:
        if engine in refused:
            continue
        step = whole
        if engine != ddp:
            tables = divided(feature_map, whole.tables, engine.members) if engine.shards else feature_map
            settings = part_of_rank(get, engine)  # kernels that update in one pass would take less than is counted
            step = simulate(model_class, tables, settings, on_gpu=gpu is not None, in_one_pass=False)
        found.append(estimate(engine, step, whole.hidden, params, gpu or GPUS["H100"], per_node))
    return found, refused


def part_of_rank(get, engine):
    """The settings of a model of one process that is as large as the part of the fullest rank.

    Args:
        get (Settings): of the whole model.
        engine (Engine)

    Returns:
        dict
    """
    dims, interactions, batch_size = all_dims(get), get("interactions"), get.given.get("batch_size", 32)
    sets, rows = -(-len(dims) // engine.groups), -(-batch_size // engine.members)
    part = {**get.given, "num_sets": sets, "embedding_dim": dims[0], "batch_size": max(rows, 2)}  # for batch norm
    if interactions:
        part["interactions"] = interactions[:sets]
    if sets == 1:  # a model of one set refuses others
        part |= {"aggregation": "mean", "nonlinear_projection": True}
    return part


def divided(feature_map, tables, members):
    """The feature map of a rank that has every G-th row of fused tables.

    Args:
        feature_map (FeatureMap)
        tables (list): fields and shape of each fused table, as of ``Simulation``.
        members (int): G.

    Returns:
        FeatureMap
    """
    part = copy.copy(feature_map)
    part.features = dict(feature_map.features)
    for field in {field for fields, _ in tables for field in fields}:
        spec = feature_map.features[field]
        part.features[field] = {**spec, "vocab_size": -(-spec["vocab_size"] // members), "padding_idx": 0}
    return part


def estimate(engine, step, hidden, params, speeds, per_node):
    """What an engine takes, from the simulated step of its fullest rank.

    Args:
        engine (Engine)
        step (Simulation): with the rank's rows of tables and of the batch.
        hidden (int): H of the whole model.
        params (dict): settings of the run.
        speeds (Gpu)
        per_node (int): ranks of a node.

    Returns:
        Estimate
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
    received = NUMBER * -(-batch_size // engine.members) * width if engine.shards else 0
    products = sum(operation.flops for operation in step.operations)
    traffic = sum(operation.bytes for operation in step.operations)
    compute = max(products / speeds.peak(params.get("precision", "float32")), traffic / speeds.bandwidth)
    links = sum(exchange.seconds_on(per_node) for exchange in exchanges)
    sent = sum(exchange.sent for exchange in exchanges)
    return Estimate(engine, step.memory.peak + received, sent, compute + links)


def _reason_against(engine, get, whole):
    if engine.name == "ddp" and get("embedding_updates") != "dense":
        return f"ddp updates every row, embedding_updates is {get('embedding_updates')}"
    if engine.shards and not whole.tables:
        return "there is no fused table whose rows could be divided"
    return None


def _figures(found):
    figures = found.memory / 1e9, found.sent / 1e6, found.seconds * 1e3
    return f"{found.engine!s:<32}" + "".join(f"{_short(figure):>12}" for figure in figures)


def _short(figure):
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"
