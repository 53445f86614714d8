"""What a rank of each engine holds, sends and waits for: formulas, and a simulation of its networks (``scale.py``)."""

import functools
from collections import Counter
from dataclasses import dataclass

from memory import feature_map_of

from fuxictr_me import DCNv2_ME
from fuxictr_me.config import load_settings
from fuxictr_me.planning import GPUS, simulate
from fuxictr_me.resources import zoo_configs

IDS, DIMS, SETS, BATCHES = (33_800_000, 100_000_000, 1_000_000_000), (10, 16), (1, 4, 10), (4096, 10_000, 65_536)
FIELDS, HIDDEN, CROSS_LAYERS = 39, 400, 4
NUMBER, ID = 4, 8  # bytes of a float32, and of an id as H5DataLoader feeds it, an int64
SWEEP = 40  # bytes a number of a table in a dense step: gradient zeroed 4 and scaled 8, fused Adam 28
GPU = GPUS["H100"]
SIMULATED_ROWS, LARGE = (1024, 8192), IDS[-1]
NEAR = 0.05  # floors that differ by less are taken as equal
PER_NODE = 8
NVLINK = 450e9  # bytes a second each way, of a GPU: NVIDIA's H100 SXM data sheet has 900 GB/s for both ways together
NETWORK = 50e9  # the same between nodes: DGX H100 has a 400 Gb/s ConnectX-7 a GPU, by NVIDIA's user guide
ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL = "all-reduce", "all-gather", "reduce-scatter", "all-to-all"


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
class Exchange:
    """A collective, the same in each of several groups of ranks.

    Attributes:
        what (str): is exchanged.
        kind (str): ``ALL_REDUCE``, …
        payload (float): bytes on one rank; of an all-gather after it, of a reduce-scatter before it.
        groups (tuple of range): ranks.
    """

    what: str
    kind: str
    payload: float
    groups: tuple

    @property
    def sent(self):
        """Bytes that a rank sends, and as many are received."""
        return sent(self.kind, self.payload, len(self.groups[0]))

    @property
    def seconds(self):
        """Of the slowest group."""
        return max(link_seconds(self.kind, self.payload, group) for group in self.groups)


@dataclass(frozen=True)
class Share:
    """What falls to the fullest rank.

    Attributes:
        sets (int), rows (int): that go through its networks.
        entries (float): numbers in its part of the tables.
        gradient (float): numbers in its gradient of tables, dense.
        buffer (float): bytes into which embeddings are received.
        exchanges (tuple of Exchange): of a step, in their order.
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


def sent(kind, payload, ranks):
    """Bytes that each of R ranks sends: (R - 1)/R of the payload, by a ring's all-reduce twice that."""
    return (2 if kind == ALL_REDUCE else 1) * payload * (ranks - 1) / ranks


def link_seconds(kind, payload, group):
    """The least seconds of a collective: bytes over the speed of the links, no latency.

    All-to-all: bytes for the node's own ranks take NVLink, the others the network, both at a time. All else: rings, as
    many as the group has ranks in a node, so that all their network cards are used.

    Args:
        kind (str): of the collective.
        payload (float): bytes on one rank.
        group (range): ranks; rank r is GPU r mod 8 of node r div 8.
    """
    ranks, in_node = len(group), Counter(rank // PER_NODE for rank in group).values()
    if kind == ALL_TO_ALL:
        each = payload / ranks
        return max(max((here - 1) * each / NVLINK, (ranks - here) * each / NETWORK) for here in in_node)
    speed = NVLINK if len(in_node) == 1 else min(NVLINK, NETWORK * min(in_node))
    return sent(kind, payload, ranks) / speed


def dense_parameters(sets, dim):
    """Parameters beside the tables: of a set cross layers and projection, of the head two layers; batch norms."""
    width = FIELDS * dim
    of_set = CROSS_LAYERS * (width * width + width) + width * HIDDEN + 3 * HIDDEN
    return sets * of_set + HIDDEN * HIDDEN + 3 * HIDDEN + HIDDEN + 1


# --- engines: Case -> Share ----------------------------------------------------------------------------


def ddp(case):
    """Everything on every rank, a share of the batch each; gradients of all parameters are all-reduced."""
    gradients = NUMBER * (case.entries + dense_parameters(case.sets, case.dim))
    exchange = Exchange("gradients", ALL_REDUCE, gradients, (range(case.ranks),))
    return Share(case.sets, up(case.batch, case.ranks), case.entries, case.entries, 0, (exchange,))


def mesh(case, groups, shards):
    """Sets over S groups of ranks, the rows of each set's tables and of the batch over the G shards of a group.

    Rank s·G + g is shard g of group s. It sends the ids of its B/G rows to the shards that have them and gets their
    embeddings, later their gradients return. The ranks g of all groups add up h, and each computes the head.
    """
    sets, rows = up(case.sets, groups), up(case.batch, shards)
    entries = case.ids * case.dim * sets / shards
    embeddings = NUMBER * rows * FIELDS * case.dim * sets
    of_set = tuple(range(s * shards, (s + 1) * shards) for s in range(groups))
    across = tuple(range(g, groups * shards, shards) for g in range(shards))
    exchanges = [
        Exchange("ids", ALL_TO_ALL, ID * FIELDS * rows, of_set),
        Exchange("embeddings", ALL_TO_ALL, embeddings, of_set),
        Exchange("h", ALL_REDUCE, NUMBER * rows * HIDDEN, across),
        Exchange("embeddings' gradients", ALL_TO_ALL, embeddings, of_set),
        Exchange("dense gradients", ALL_REDUCE, NUMBER * dense_parameters(sets, case.dim), of_set),
        norm_and_penalty(groups * shards),
    ]
    buffer = embeddings if shards > 1 else 0
    return Share(sets, rows, entries, entries, buffer, tuple(e for e in exchanges if len(e.groups[0]) > 1))


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
        Exchange("embeddings", ALL_TO_ALL, embeddings, everyone),
        Exchange("embeddings' gradients", ALL_TO_ALL, embeddings, everyone),
        Exchange("dense gradients", ALL_REDUCE, NUMBER * dense_parameters(case.sets, case.dim), everyone),
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
        Exchange("embeddings", REDUCE_SCATTER, embeddings, everyone),
        Exchange("embeddings' gradients", ALL_GATHER, embeddings, everyone),
        *(e for e in share.exchanges if e.kind == ALL_REDUCE),
    )
    return Share(share.sets, share.rows, share.entries, case.entries, embeddings, exchanges)


def norm_and_penalty(ranks):
    """Two numbers, of which no rank has all parts."""
    return Exchange("norm and penalty", ALL_REDUCE, 2 * NUMBER, (range(ranks),))


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
    paper = load_settings(zoo_configs()["DCNv2_ME"], "DCNv2_ME_criteo_base", find_data=False)
    changed = {"embedding_dim": dim, "num_sets": sets, "batch_size": rows, "embedding_updates": updates}
    if updates != "dense":
        changed["weight_decay"] = 0
    return simulate(DCNv2_ME, feature_map_of(FIELDS, ids), paper | changed)


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
