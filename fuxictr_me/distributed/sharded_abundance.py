"""Information abundance of tables whose columns (the sets) and rows lie on several ranks. No rank has a whole table."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch

from fuxictr_me.collapse.spectrum import CHUNK_ROWS
from fuxictr_me.compat import BaseModel
from fuxictr_me.distributed.grid import Grid
from fuxictr_me.distributed.sharded_table import Shard, find_shards
from fuxictr_me.tables import FieldTables, find_tables
from fuxictr_me.training.callbacks import InformationAbundance


class AbundanceOverRanks(InformationAbundance):
    """``InformationAbundance`` of a model on several ranks: rank 0 writes the same rows, for all sets."""

    def __init__(self, grid: Grid, tensorboard: bool = False):
        super().__init__(tensorboard)
        self.grid = grid

    def on_fit_start(self, model: BaseModel) -> None:
        start = super().on_fit_start
        self.grid.all.run_on_first(lambda: start(model))

    def on_fit_end(self, model: BaseModel) -> None:
        self._record(model, "best")
        if self.grid.all.is_first and self._writer:
            self._writer.close()

    def _record(self, model: BaseModel, event: str) -> None:
        shards, record = find_shards(model), super()._record
        layer_path = "{}.sets.0.embedding_layer.embedding_layers.{}.weight"
        self._factors: list[FieldTables] = [
            compute_factor(tables, model.all_sets, self.grid, shards.get(layer_path.format(tables.layer, tables.field)))
            for tables in find_tables(model)
        ]
        self.grid.all.run_on_first(lambda: record(model, event))

    def _find_tables(self, model: BaseModel) -> list[FieldTables]:
        return self._factors


@dataclass(frozen=True)
class FactorOfTables(FieldTables):
    """R of [E¹ ... Eᴹ] in place of the tables: its column blocks have their singular values.

    Attributes:
        rows: D of the tables, without the rows that are no ids.
    """

    rows: int = 0

    @property
    def num_ids(self) -> int:
        return self.rows


def compute_factor(tables: FieldTables, num_sets: int, grid: Grid, shard: Shard | None = None) -> FactorOfTables:
    """Compute R, with RᵀR = EᵀE, of a field's tables of all sets side by side, E = [E¹ ... Eᴹ].

    The rows are distributed over the groups' ranks, a chunk at a time. A rank gets all sets' columns of its rows, so E
    passes through the network once and is stored nowhere. The R factors are joined at the end. Like
    ``triangular_factor``, this does not square the condition number, as the Gram matrix would.

    Args:
        tables: of the sets of this rank, s, s + S, ... of the M; of its rows, if they are divided.
        num_sets: M.
        grid: the processes.
        shard: how the rows are divided over the members of a group; None if each has all.

    Returns:
        The same on all ranks: M blocks (min(D, ΣK), K), in the order of the sets.
    """
    ranks, dim, E = grid.across, tables.dims[0], tables.sets
    widths = [dim * len(range(r, num_sets, ranks.size)) for r in range(ranks.size)]
    rows, width, exclude = len(E[0]), dim * num_sets, _find_own_rows(tables.exclude, shard, grid.member)
    step = max(CHUNK_ROWS, 4 * width)
    R = torch.zeros(0, width, dtype=torch.float64, device=E[0].device)
    for start in range(0, rows, step * ranks.size):
        stop = min(start + step * ranks.size, rows)
        columns = torch.cat([table[start:stop] for table in E], dim=1)
        columns[[row - start for row in exclude if start <= row < stop]] = 0  # a row of zeros does not count
        parts = list(columns.tensor_split(ranks.size))
        num_rows = len(parts[ranks.rank])
        received = ranks.exchange(parts, [num_rows * of_rank for of_rank in widths])
        chunk = torch.cat([x.view(num_rows, -1) for x in received], dim=1).double()
        R = torch.linalg.qr(torch.cat([R, chunk]), mode="r").R
    square = R.new_zeros(width, width)
    square[: len(R)] = R
    R = torch.linalg.qr(torch.cat((grid.all if shard else ranks).gather(square)), mode="r").R
    by_rank = [m for r in range(ranks.size) for m in range(r, num_sets, ranks.size)]  # the sets, in order of columns
    blocks = dict(zip(by_rank, R.split(dim, dim=1), strict=True))
    return FactorOfTables(
        tables.layer,
        tables.field,
        [blocks[m] for m in range(num_sets)],
        (),
        tables.initializer,
        rows=shard.size - len(tables.exclude) if shard else tables.num_ids,
    )


def _find_own_rows(ids: Iterable[int], shard: Shard | None, member: int) -> Iterable[int]:
    """Return where ids lie in the rows of a member. Ids of other members are left out."""
    if shard is None:
        return ids
    held = range(*shard.ids(member).indices(shard.size))
    return [held.index(i) for i in ids if i in held]
