"""The processes of a run as S groups of G members."""

from collections.abc import Sequence

import torch.distributed as dist

from fuxictr_me.distributed.engines import Engine
from fuxictr_me.distributed.ranks import TIMEOUT, Ranks


class Grid:
    """The place of a process among S·G of them: rank s·G + g is member g of group s.

    The constructor is a collective of all processes.

    Attributes:
        all: all processes.
        within: the G members of this group, which own the same sets and divide rows.
        across: the members g of all S groups, which have the same rows of a batch and divide sets.
        group, member: s and g.
    """

    def __init__(self, ranks: Ranks, engine: Engine):
        self.all, G = ranks, engine.members
        self.group, self.member = divmod(ranks.rank, G)
        self.within = _make_groups(ranks, [range(s * G, (s + 1) * G) for s in range(engine.groups)])
        self.across = _make_groups(ranks, [range(g, engine.groups * G, G) for g in range(G)])


def _make_groups(ranks: Ranks, groups: Sequence[range]) -> Ranks:
    """Make process groups, in the same order on every rank, and return that of this process."""
    if len(groups) == 1:
        return ranks
    made = [dist.new_group(list(group), timeout=TIMEOUT) for group in groups]
    return Ranks(next(group for group, members in zip(made, groups, strict=True) if ranks.rank in members))
