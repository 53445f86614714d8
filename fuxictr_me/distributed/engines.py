"""How a model lies on R ranks: its sets over S groups of them, rows of tables and of batches over a group's G."""

from dataclasses import dataclass

from fuxictr_me.errors import UsageError, unknown

ENGINES = ("set-parallel", "sharded", "ddp")


@dataclass(frozen=True)
class Engine:
    """Where what lies. Rank s·G + g is member g of group s.

    Attributes:
        name (str): of ``ENGINES``.
        groups (int): S; group s owns the sets s, s + S, ...
        members (int): G; member g of a group has every G-th row of the tables of its sets, and takes every batch's
            g-th part. With ``ddp`` it has all rows.
    """

    name: str
    groups: int
    members: int

    @property
    def divides(self):
        """Whether ranks take parts of a batch, in the order of ``RankShares``; else each takes all of it."""
        return self.name != "set-parallel" or self.members > 1

    @property
    def shards(self):
        """Whether tables are divided by rows."""
        return self.members > 1 and self.name != "ddp"

    def __str__(self):
        if self.name != "set-parallel" or self.members == 1:
            return self.name
        return f"{self.name}, {self.groups} groups of {self.members}"


ALONE = Engine("set-parallel", 1, 1)


def engine_of(name, num_ranks, num_sets, groups=None):
    """An engine by its name.

    Args:
        name (str): ``set-parallel``: a group a rank, or, with more ranks than sets, as many as leave the fullest rank
            the least; ``sharded``: one group, whose rows are divided; ``ddp``: one group, tables whole on every rank.
        num_ranks (int): R.
        num_sets (int): M.
        groups (int or None): S, of ``set-parallel``.

    Returns:
        Engine

    Raises:
        UsageError: no such engine, or groups that cannot be.
    """
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    if name != "set-parallel":
        if groups not in (None, 1):
            raise UsageError(f"set groups are of set-parallel; {name} has one, got {groups}")
        return Engine(name, 1, num_ranks)
    if groups is None:
        groups = num_ranks if num_ranks <= num_sets else _evenest(num_ranks, num_sets)
    if groups not in possible_groups(num_ranks, num_sets):
        raise UsageError(
            f"set groups must divide {num_ranks} processes and be no more than {num_sets} sets: "
            f"{', '.join(map(str, possible_groups(num_ranks, num_sets)))}, got {groups}"
        )
    return Engine(name, groups, num_ranks // groups)


def possible_groups(num_ranks, num_sets):
    """All S that R ranks and M sets can have."""
    return [s for s in range(1, min(num_ranks, num_sets) + 1) if num_ranks % s == 0]


def _evenest(num_ranks, num_sets):
    """The S with which the fullest rank has the least, ⌈M/S⌉/G; of equal ones the largest."""
    return min(possible_groups(num_ranks, num_sets), key=lambda s: (-(-num_sets // s) * s, -s))
