"""What a rank of each engine holds, sends and waits for: formulas, and a simulation of its networks (``scale.py``)."""

import functools
from dataclasses import dataclass

from memory import feature_map_of

from fuxictr_me import DCNv2_ME
from fuxictr_me.distributed.engines import Engine
from fuxictr_me.estimates import GPUS, simulate
from fuxictr_me.estimates.collectives import (
    ALL_GATHER,
    ALL_REDUCE,
    ALL_TO_ALL,
    NUMBER,
    REDUCE_SCATTER,
    Collective,
    list_collectives,
    norm_and_penalty,
)
from fuxictr_me.io.resources import find_zoo_configs
from fuxictr_me.runs.run_settings import load_settings

IDS, DIMS, SETS, BATCHES = (33_800_000, 100_000_000, 1_000_000_000), (10, 16), (1, 4, 10), (4096, 10_000, 65_536)
FIELDS, HIDDEN, CROSS_LAYERS = 39, 400, 4
SWEEP = 40  # bytes a number of a table in a dense step: gradient zeroed 4 and scaled 8, fused Adam 28
GPU = GPUS["H100"]
SIMULATED_ROWS, LARGE = (1024, 8192), IDS[-1]


@dataclass(frozen=True)
class Case:
    """What is trained, and on how many GPUs.

    Attributes:
        ids (int): D, rows of the tables of one set.
        dim (int): K of one set.
        sets (int): M.
        batch (int): rows of a step, of all ranks together.
        ranks (int): R.
    """

    ids: int
    dim: int
    sets: int
    batch: int
    ranks: int

    @property
    def entries(self):
        """Numbers in all tables, D·M·K."""
        return self.ids * self.sets * self.dim


@dataclass(frozen=True)
class Share:
    """What falls to the fullest rank.

    Attributes:
        sets (int), rows (int): that go through its networks.
        entries (float): numbers in its part of the tables.
        gradient (float): numbers in its gradient of tables, dense.
        buffer (float): bytes into which embeddings are received.
        exchanges (tuple of Collective): of a step, in their order.
    """

    sets: int
    rows: int
    entries: float
    gradient: float
    buffer: float
    exchanges: tuple

    @property
    def sent(self):
        """Bytes that the rank sends in a step."""
        return sum(exchange.sent for exchange in self.exchanges)


def dense_parameters(sets, dim):
    """Parameters beside the tables: of a set cross layers and projection, of the head two layers; batch norms."""
    width = FIELDS * dim
    of_set = CROSS_LAYERS * (width * width + width) + width * HIDDEN + 3 * HIDDEN
    return sets * of_set + HIDDEN * HIDDEN + 3 * HIDDEN + HIDDEN + 1


# --- engines: Case -> Share ----------------------------------------------------------------------------


def ddp(case):
    """Everything on every rank, a share of the batch each."""
    exchanged = exchanges(case, "ddp", 1, case.ranks)
    return Share(case.sets, up(case.batch, case.ranks), case.entries, case.entries, 0, exchanged)


def mesh(case, groups, shards):
    """Sets over S groups of ranks, the rows of each set's tables and of the batch over the G shards of a group."""
    sets, rows = up(case.sets, groups), up(case.batch, shards)
    entries = case.ids * case.dim * sets / shards
    buffer = NUMBER * rows * FIELDS * case.dim * sets if shards > 1 else 0
    return Share(sets, rows, entries, entries, buffer, exchanges(case, "set-parallel", groups, shards))


def exchanges(case, name, groups, shards):
    """What the ranks of an engine of the package exchange in a step."""
    sets = up(case.sets, groups)
    width, dense = sets * case.dim, dense_parameters(sets, case.dim)
    return list_collectives(
        Engine(name, groups, shards), case.batch, FIELDS, FIELDS * width, HIDDEN, dense, entries=case.ids * width
    )


def set_parallel(case):
    """Rank r owns sets r, r + R, …; with more ranks than sets R div M ranks a set, its rows over them."""
    return mesh(case, min(case.sets, case.ranks), max(1, case.ranks // case.sets))


def by_rows(case):
    """Rows of all tables over the ranks, the networks data-parallel."""
    return mesh(case, 1, case.ranks)


def by_columns(case):
    """Columns of all tables over the ranks, ⌈M·K/R⌉ each, the networks data-parallel; each rank reads all ids."""
    everyone, columns = (range(case.ranks),), up(case.sets * case.dim, case.ranks)
    embeddings = NUMBER * case.batch * FIELDS * columns
    exchanges = (
        Collective("embeddings", ALL_TO_ALL, embeddings, everyone),
        Collective("embeddings' gradients", ALL_TO_ALL, embeddings, everyone),
        Collective("dense gradients", ALL_REDUCE, NUMBER * dense_parameters(case.sets, case.dim), everyone),
        norm_and_penalty(case.ranks),
    )
    entries = case.ids * columns
    return Share(case.sets, up(case.batch, case.ranks), entries, entries, embeddings, exchanges)


def dtensor_rows(case):
    """``by_rows`` as DTensor does it: each rank looks up the whole batch in its rows, and what it lacks is 0.

    A reduce-scatter adds these up, an all-gather brings all gradients to all ranks; there the gradient of the whole
    table is made, on every rank (torch 2.13).
    """
    share, everyone = by_rows(case), (range(case.ranks),)
    embeddings = NUMBER * case.batch * FIELDS * case.dim * case.sets
    exchanges = (
        Collective("embeddings", REDUCE_SCATTER, embeddings, everyone),
        Collective("embeddings' gradients", ALL_GATHER, embeddings, everyone),
        *(e for e in share.exchanges if e.kind == ALL_REDUCE),
    )
    return Share(share.sets, share.rows, share.entries, case.entries, embeddings, exchanges)


ENGINES = {"ddp": ddp, "set-parallel": set_parallel, "rows": by_rows, "columns": by_columns}


def up(count, parts):
    """The largest of equal parts."""
    return -(-count // parts)


# --- what the networks take, by simulation -------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """start + slope · rows."""

    slope: float
    start: float

    def __call__(self, rows):
        return self.start + self.slope * rows


def line(measure):
    """The line through ``measure(rows)`` at two batch sizes."""
    low, high = (measure(rows) for rows in SIMULATED_ROWS)
    slope = (high - low) / (SIMULATED_ROWS[1] - SIMULATED_ROWS[0])
    return Line(slope, low - slope * SIMULATED_ROWS[0])


@functools.cache
def simulated(ids, dim, sets, rows, updates="dense"):
    """A step of one GPU (``planning.simulate``); by rows without the paper's weight decay, which moves every row."""
    paper = load_settings(find_zoo_configs()["DCNv2_ME"], "DCNv2_ME_criteo_base", find_data=False)
    changed = {"embedding_dim": dim, "num_sets": sets, "batch_size": rows, "embedding_updates": updates}
    if updates != "dense":
        changed["weight_decay"] = 0
    return simulate(DCNv2_ME, feature_map_of(FIELDS, ids), paper | changed, in_one_pass=False)


@functools.cache
def work(sets, dim, updates="dense"):
    """FLOP and bytes of memory traffic of a step, the dense sweep over the tables left out (Line, Line)."""
    sweep = SWEEP * LARGE * dim * sets if updates == "dense" else 0

    def operations(rows):
        return simulated(LARGE, dim, sets, rows, updates).operations

    flops = line(lambda rows: sum(operation.flops for operation in operations(rows)))
    return flops, line(lambda rows: sum(operation.bytes for operation in operations(rows)) - sweep)


@functools.cache
def activations(sets, dim):
    """Bytes of activations and dense gradients at the two times in a step at which most may be held (Line, Line).

    The end of the backward pass, when tables have no gradient yet, found with tables of hardly a row; and the
    update, when they have, found with tables that outweigh all else.
    """
    tables, dense = LARGE * dim * sets, dense_parameters(sets, dim)

    def backward(rows):
        found = simulated(10 * FIELDS, dim, sets, rows)
        return found.memory.peak - 3 * NUMBER * found.parameters

    def update(rows):
        return simulated(LARGE, dim, sets, rows).memory.peak - 4 * NUMBER * tables - 3 * NUMBER * dense

    return line(backward), line(update)


def memory(case, share):
    """Bytes of a rank at the peak of a step with dense updates.

    Weights and moments are 12 B a parameter; a table's gradient, 4 B a number, is there in the update.
    """
    backward, update = activations(share.sets, case.dim)
    parameters = share.entries + dense_parameters(share.sets, case.dim)
    most = max(backward(share.rows), NUMBER * share.gradient + update(share.rows))
    return 3 * NUMBER * parameters + most + share.buffer


def floor(case, share, updates="dense"):
    """Seconds of a step at the data sheets' speeds.

    Returns:
        dict: ``p`` of matrix products, ``m`` of memory traffic, ``l`` of links.
    """
    flops, traffic = work(share.sets, case.dim, updates)
    sweep = SWEEP * share.entries if updates == "dense" else 0
    return {
        "p": flops(share.rows) / GPU.peak("float32"),
        "m": (sweep + traffic(share.rows)) / GPU.bandwidth,
        "l": sum(exchange.seconds for exchange in share.exchanges),
    }


def total(parts):
    """Seconds: products or memory traffic, the longer, then the links."""
    return max(parts["p"], parts["m"]) + parts["l"]
