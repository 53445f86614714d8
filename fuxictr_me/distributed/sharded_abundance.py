"""Information abundance of tables whose columns, the sets, and rows lie on several ranks: none has a whole table."""

from dataclasses import dataclass

import torch

from fuxictr_me.collapse.spectrum import CHUNK_ROWS
from fuxictr_me.distributed.sharded_table import shards_of
from fuxictr_me.tables import FieldTables, find_tables
from fuxictr_me.training.callbacks import InformationAbundance


class AbundanceOverRanks(InformationAbundance):
    """``InformationAbundance`` of a model on several ranks: the same lines, of all sets; rank 0 writes them.

    Args:
        grid (Grid)
        tensorboard (bool): as of ``InformationAbundance``.
    """

    def __init__(self, grid, tensorboard=False):
        super().__init__(tensorboard)
        self.grid = grid

    def on_fit_start(self, model):
        start = super().on_fit_start
        self.grid.all.on_first(lambda: start(model))

    def on_fit_end(self, model):
        self._record(model, "best")
        if self.grid.all.is_first and self._writer:
            self._writer.close()

    def _record(self, model, event):
        shards, record = shards_of(model), super()._record
        self._factors = [
            factor_of_all_sets(
                tables,
                model.all_sets,
                self.grid,
                shards.get(f"{tables.layer}.sets.0.embedding_layer.embedding_layers.{tables.field}.weight"),
            )
            for tables in find_tables(model)
        ]
        self.grid.all.on_first(lambda: record(model, event))

    def _tables(self, model):
        return self._factors


@dataclass(frozen=True)
class FactorOfTables(FieldTables):
    """R of [E¹ ... Eᴹ] in place of the tables: its column blocks have their singular values.

    Attributes:
        rows (int): D of the tables, without the rows that are no ids.
    """

    rows: int = 0

    @property
    def num_ids(self):
        return self.rows


def factor_of_all_sets(tables, num_sets, grid, shard=None):
    """R, with RᵀR = EᵀE, of a field's tables of all sets side by side, E = [E¹ ... Eᴹ].

    The rows are dealt out over the groups' ranks, a chunk at a time: a rank gets all sets' columns of its rows, so E
    passes through the network once and lies nowhere; its R factors are joined in the end. As ``triangular_factor``,
    this does not square the condition number, as the Gram matrix would.

    Args:
        tables (FieldTables): of the sets of this rank, s, s + S, ... of the M; of its rows, where they are divided.
        num_sets (int): M.
        grid (Grid)
        shard (Shard or None): how the rows are divided over the members of a group; None: each has all.

    Returns:
        FactorOfTables: on all ranks the same; M blocks (min(D, ΣK), K), in the order of the sets.
    """
    ranks, dim, E = grid.across, tables.dims[0], tables.sets
    widths = [dim * len(range(r, num_sets, ranks.size)) for r in range(ranks.size)]
    rows, width, exclude = len(E[0]), dim * num_sets, _own_rows(tables.exclude, shard, grid.member)
    step = max(CHUNK_ROWS, 4 * width)
    R = torch.zeros(0, width, dtype=torch.float64, device=E[0].device)
    for start in range(0, rows, step * ranks.size):
        stop = min(start + step * ranks.size, rows)
        mine = torch.cat([table[start:stop] for table in E], dim=1)
        mine[[row - start for row in exclude if start <= row < stop]] = 0  # a row of zeros does not count
        parts = mine.tensor_split(ranks.size)
        own_rows = len(parts[ranks.rank])
        received = ranks.exchange(parts, [own_rows * of_rank for of_rank in widths])
        chunk = torch.cat([x.view(own_rows, -1) for x in received], dim=1).double()
        R = torch.linalg.qr(torch.cat([R, chunk]), mode="r").R
    square = R.new_zeros(width, width)
    square[: len(R)] = R
    R = torch.linalg.qr(torch.cat((grid.all if shard else ranks).gather(square)), mode="r").R
    by_rank = [m for r in range(ranks.size) for m in range(r, num_sets, ranks.size)]  # whose columns these are
    blocks = dict(zip(by_rank, R.split(dim, dim=1), strict=True))
    return FactorOfTables(
        tables.layer,
        tables.field,
        [blocks[m] for m in range(num_sets)],
        (),
        tables.initializer,
        rows=shard.size - len(tables.exclude) if shard else tables.num_ids,
    )


def _own_rows(ids, shard, member):
    """Where ids lie in the rows of a member."""
    if shard is None:
        return ids
    own = range(*shard.ids(member).indices(shard.size))
    return [own.index(i) for i in ids if i in own]
