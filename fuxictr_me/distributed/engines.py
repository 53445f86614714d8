"""How a model is spread over R ranks: sets over S groups of ranks, rows of tables and batches within each group."""

from dataclasses import dataclass

from fuxictr_me.errors import UsageError, unknown

ENGINES = ("set-parallel", "sharded", "ddp")


@dataclass(frozen=True)
class Engine:
    """A way to spread a model over ranks. Rank s·G + g is member g of group s.

    Attributes:
        name: one of ``ENGINES``.
        groups: S. Group s owns the sets s, s + S, ...
        members: G. Member g of a group has every G-th row of the tables of its sets, and trains on the g-th part of
            each batch. With ``ddp`` it has all rows.
    """

    name: str
    groups: int
    members: int

    @property
    def divides_batches(self) -> bool:
        """Whether each rank reads a part of each batch, in the order of ``RankShares``; else each reads all of it."""
        return self.name != "set-parallel" or self.members > 1

    @property
    def shards_tables(self) -> bool:
        """Whether the rows of tables are divided over ranks."""
        return self.members > 1 and self.name != "ddp"

    def __str__(self) -> str:
        if self.name != "set-parallel" or self.members == 1:
            return self.name
        return f"{self.name}, {self.groups} groups of {self.members}"


ONE_PROCESS = Engine("set-parallel", 1, 1)


def make_engine(name: str, num_ranks: int, num_sets: int, groups: int | None = None) -> Engine:
    """Return the engine of a name.

    Args:
        name: ``set-parallel``: one rank per group, or, with more ranks than sets, the number of groups that leaves the
            fullest rank the least; ``sharded``: one group, whose members divide rows; ``ddp``: one group with whole
            tables on every rank.
        num_ranks: R.
        num_sets: M.
        groups: S, for ``set-parallel``.

    Raises:
        UsageError: an unknown engine, or an impossible number of groups.
    """
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    if name != "set-parallel":
        if groups not in (None, 1):
            raise UsageError(f"only set-parallel has set groups; {name} has one group, got {groups}")
        return Engine(name, 1, num_ranks)
    if groups is None:
        groups = num_ranks if num_ranks <= num_sets else _find_evenest_groups(num_ranks, num_sets)
    possible = possible_set_groups(num_ranks, num_sets)
    if groups not in possible:
        raise UsageError(
            f"set groups must divide {num_ranks} processes and be no more than {num_sets} sets: "
            f"{', '.join(map(str, possible))}, got {groups}"
        )
    return Engine(name, groups, num_ranks // groups)


def possible_set_groups(num_ranks: int, num_sets: int) -> list[int]:
    """Return all numbers of groups S that R ranks and M sets can have."""
    return [s for s in range(1, min(num_ranks, num_sets) + 1) if num_ranks % s == 0]


def _find_evenest_groups(num_ranks: int, num_sets: int) -> int:
    """Return the S that leaves the fullest rank the least, ⌈M/S⌉/G, or the largest of several."""
    return min(possible_set_groups(num_ranks, num_sets), key=lambda s: (-(-num_sets // s) * s, -s))
