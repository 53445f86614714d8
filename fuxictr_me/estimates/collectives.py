"""The collective operations of a distributed training step: bytes sent, and a lower bound of their time."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

NUMBER, ID = 4, 8  # bytes of a float32, and of an id, which H5DataLoader feeds as int64
PER_NODE = 8
NVLINK = 450e9  # bytes/s of a GPU in each direction: half of the 900 GB/s in NVIDIA's H100 SXM data sheet
NETWORK = 50e9  # the same between nodes: a DGX H100 has one 400 Gb/s ConnectX-7 per GPU (NVIDIA's user guide)
ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL = "all-reduce", "all-gather", "reduce-scatter", "all-to-all"


@dataclass(frozen=True)
class Collective:
    """A collective operation that several groups of ranks do at the same time.

    Attributes:
        what: what is exchanged.
        kind: ``ALL_REDUCE``, …
        payload: bytes on one rank; after an all-gather, before a reduce-scatter.
        groups: ranks of each group.
    """

    what: str
    kind: str
    payload: float
    groups: tuple[range, ...]

    @property
    def sent(self) -> float:
        """Bytes that a rank sends. It receives as many."""
        return sent(self.kind, self.payload, len(self.groups[0]))

    @property
    def seconds(self) -> float:
        """Time of the slowest group, on nodes of ``PER_NODE`` ranks."""
        return self.seconds_on(PER_NODE)

    def seconds_on(self, per_node: int) -> float:
        """Return the time of the slowest group, on nodes of ``per_node`` ranks."""
        return max(link_seconds(self.kind, self.payload, group, per_node) for group in self.groups)


def sent(kind: str, payload: float, ranks: int) -> float:
    """Return the bytes that each of R ranks sends: (R - 1)/R of the payload, or twice that in a ring all-reduce."""
    return (2 if kind == ALL_REDUCE else 1) * payload * (ranks - 1) / ranks


def link_seconds(kind: str, payload: float, group: range, per_node: int = PER_NODE) -> float:
    """Return a lower bound of the time of a collective: bytes over the speed of the links, without latency.

    In an all-to-all, bytes for ranks of the same node use NVLink, and the others the network at the same time. All
    others use rings, as many as the group has ranks in a node, so that all their network cards are used.

    Args:
        kind: kind of the collective.
        payload: bytes on one rank.
        group: ranks; with 8 per node, rank r is GPU r mod 8 of node r div 8.
        per_node: ranks per node.
    """
    ranks, in_node = len(group), Counter(rank // per_node for rank in group).values()
    if kind == ALL_TO_ALL:
        each = payload / ranks
        return max(max((here - 1) * each / NVLINK, (ranks - here) * each / NETWORK) for here in in_node)
    speed = NVLINK if len(in_node) == 1 else min(NVLINK, NETWORK * min(in_node))
    return sent(kind, payload, ranks) / speed


def list_collectives(
    engine: Any, batch: int, ids: int, width: int, hidden: int, dense: int, entries: int
) -> tuple[Collective, ...]:
    """Return the collectives of a training step, in their order, without those of a rank with itself.

    With ``ddp`` the gradients of all parameters are all-reduced. Otherwise rank s·G + g is member g of group s. It
    sends the ids of its B/G rows to the members that have their embeddings and receives these; the gradients return
    later. The members g of all groups sum h, and each of them computes the head.

    Args:
        engine (Engine): S groups of G members.
        batch: B, rows of a step on all ranks together.
        ids: F, looked up in fused tables per row of the batch.
        width: ΣK, numbers in these embeddings, in all sets of the rank.
        hidden: H of h.
        dense: parameters of a rank that are not in fused tables.
        entries: numbers in all rows of the fused tables of the rank's sets.
    """
    groups, members = engine.groups, engine.members
    if engine.name == "ddp":
        return _between_ranks(Collective("gradients", ALL_REDUCE, NUMBER * (entries + dense), (range(members),)))
    rows = -(-batch // members)
    within = tuple(range(s * members, (s + 1) * members) for s in range(groups))
    across = tuple(range(g, groups * members, members) for g in range(members))
    return _between_ranks(
        Collective("ids", ALL_TO_ALL, ID * ids * rows, within),
        Collective("embeddings", ALL_TO_ALL, NUMBER * rows * width, within),
        Collective("h", ALL_REDUCE, NUMBER * rows * hidden, across),
        Collective("embeddings' gradients", ALL_TO_ALL, NUMBER * rows * width, within),
        Collective("dense gradients", ALL_REDUCE, NUMBER * dense, within),
        norm_and_penalty(groups * members),
    )


def norm_and_penalty(ranks: int) -> Collective:
    """Return the all-reduce of gradient norm and penalty, of which each rank has a part."""
    return Collective("norm and penalty", ALL_REDUCE, 2 * NUMBER, (range(ranks),))


def _between_ranks(*collectives: Collective) -> tuple[Collective, ...]:
    return tuple(collective for collective in collectives if len(collective.groups[0]) > 1)
