"""What ranks send each other in a step, and how long their links take at least."""

from collections import Counter
from dataclasses import dataclass

NUMBER, ID = 4, 8  # bytes of a float32, and of an id as H5DataLoader feeds it, an int64
PER_NODE = 8
NVLINK = 450e9  # bytes a second each way, of a GPU: NVIDIA's H100 SXM data sheet has 900 GB/s for both ways together
NETWORK = 50e9  # the same between nodes: DGX H100 has a 400 Gb/s ConnectX-7 a GPU, by NVIDIA's user guide
ALL_REDUCE, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL = "all-reduce", "all-gather", "reduce-scatter", "all-to-all"


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
        """Of the slowest group, on nodes of ``PER_NODE`` ranks."""
        return self.seconds_on(PER_NODE)

    def seconds_on(self, per_node):
        """Of the slowest group, on nodes of so many ranks."""
        return max(link_seconds(self.kind, self.payload, group, per_node) for group in self.groups)


def sent(kind, payload, ranks):
    """Bytes that each of R ranks sends: (R - 1)/R of the payload, by a ring's all-reduce twice that."""
    return (2 if kind == ALL_REDUCE else 1) * payload * (ranks - 1) / ranks


def link_seconds(kind, payload, group, per_node=PER_NODE):
    """The least seconds of a collective: bytes over the speed of the links, no latency.

    All-to-all: bytes for the node's own ranks take NVLink, the others the network, both at a time. All else: rings, as
    many as the group has ranks in a node, so that all their network cards are used.

    Args:
        kind (str): of the collective.
        payload (float): bytes on one rank.
        group (range): ranks; with 8 a node rank r is GPU r mod 8 of node r div 8.
        per_node (int): ranks of a node.
    """
    ranks, in_node = len(group), Counter(rank // per_node for rank in group).values()
    if kind == ALL_TO_ALL:
        each = payload / ranks
        return max(max((here - 1) * each / NVLINK, (ranks - here) * each / NETWORK) for here in in_node)
    speed = NVLINK if len(in_node) == 1 else min(NVLINK, NETWORK * min(in_node))
    return sent(kind, payload, ranks) / speed


def exchanges_of(engine, batch, ids, width, hidden, dense, entries):
    """The exchanges of a step, in their order; those of a rank with itself left out.

    With ``ddp`` gradients of all parameters are all-reduced. Else rank s·G + g is member g of group s. It sends the
    ids of its B/G rows to the members that have them and gets their embeddings; later their gradients return. The
    members g of all groups add up h, and each computes the head.

    Args:
        engine (Engine): of S groups of G members.
        batch (int): B, rows of a step, of all ranks together.
        ids (int): F, looked up in fused tables for a row of the batch.
        width (int): ΣK, numbers that these are, in all sets of the rank.
        hidden (int): H of h.
        dense (int): parameters of a rank that no other member has a part of: all but those of fused tables.
        entries (int): numbers in the fused tables of the rank's sets, all rows.

    Returns:
        tuple of Exchange
    """
    groups, members = engine.groups, engine.members
    if engine.name == "ddp":
        return _between_ranks(Exchange("gradients", ALL_REDUCE, NUMBER * (entries + dense), (range(members),)))
    rows = -(-batch // members)
    within = tuple(range(s * members, (s + 1) * members) for s in range(groups))
    across = tuple(range(g, groups * members, members) for g in range(members))
    return _between_ranks(
        Exchange("ids", ALL_TO_ALL, ID * ids * rows, within),
        Exchange("embeddings", ALL_TO_ALL, NUMBER * rows * width, within),
        Exchange("h", ALL_REDUCE, NUMBER * rows * hidden, across),
        Exchange("embeddings' gradients", ALL_TO_ALL, NUMBER * rows * width, within),
        Exchange("dense gradients", ALL_REDUCE, NUMBER * dense, within),
        norm_and_penalty(groups * members),
    )


def norm_and_penalty(ranks):
    """Two numbers, of which no rank has all parts."""
    return Exchange("norm and penalty", ALL_REDUCE, 2 * NUMBER, (range(ranks),))


def _between_ranks(*exchanges):
    return tuple(exchange for exchange in exchanges if len(exchange.groups[0]) > 1)
