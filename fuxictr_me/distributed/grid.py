"""The processes of a run as S groups of G members."""

import torch.distributed as dist

from fuxictr_me.distributed.ranks import TIMEOUT, Ranks


class Grid:
    """The place of a process among S·G of them: rank s·G + g is member g of group s.

    Its constructor is a collective of all processes.

    Args:
        ranks (Ranks): all processes.
        engine (Engine)

    Attributes:
        all (Ranks): all processes.
        within (Ranks): the G members of this group, who own the same sets and divide rows.
        across (Ranks): the members g of all S groups, who have the same rows of a batch and divide sets.
        group, member (int): s and g.
    """

    def __init__(self, ranks, engine):
        self.all, G = ranks, engine.members
        self.group, self.member = divmod(ranks.rank, G)
        groups = [range(s * G, (s + 1) * G) for s in range(engine.groups)]
        self.within = _own(ranks, groups)
        self.across = _own(ranks, [range(g, engine.groups * G, G) for g in range(G)])


def _own(ranks, groups):
    """Make process groups, in the same order everywhere; that of this process."""
    if len(groups) == 1:
        return ranks
    own = None
    for group in groups:
        made = dist.new_group(list(group), timeout=TIMEOUT)
        if ranks.rank in group:
            own = Ranks(made)
    return own
