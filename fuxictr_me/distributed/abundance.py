"""Information abundance of tables whose columns, the sets, lie on several ranks: no rank ever holds a whole table."""

from dataclasses import dataclass

import torch

from fuxictr_me.callbacks import InformationAbundance
from fuxictr_me.collapse.spectrum import CHUNK_ROWS
from fuxictr_me.collapse.tables import FieldTables, field_tables


class AbundanceOverRanks(InformationAbundance):
    """``InformationAbundance`` of a set-parallel model: the same rows, of all sets; rank 0 writes them.

    Args:
        ranks (Ranks)
        tensorboard (bool): as of ``InformationAbundance``.
    """

    def __init__(self, ranks, tensorboard=False):
        super().__init__(tensorboard)
        self.ranks = ranks

    def on_fit_start(self, model):
        start = super().on_fit_start
        self.ranks.on_first(lambda: start(model))

    def on_fit_end(self, model):
        self._record(model, "best")
        if self.ranks.is_first and self._writer:
            self._writer.close()

    def _record(self, model, event):
        of_all_sets = (factor_of_all_sets(tables, model.all_sets, self.ranks) for tables in field_tables(model))
        self._factors, record = {(tables.layer, tables.field): tables for tables in of_all_sets}, super()._record
        self.ranks.on_first(lambda: record(model, event))

    def _measure(self, tables):
        return super()._measure(self._factors[tables.layer, tables.field])


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


def factor_of_all_sets(tables, num_sets, ranks):
    """R, with RᵀR = EᵀE, of a field's tables of all sets side by side, E = [E¹ ... Eᴹ].

    The rows are dealt out over the ranks, a chunk at a time: a rank gets all sets' columns of its rows, so E passes
    through the network once and lies nowhere; its R factors are joined in the end. As ``triangular_factor``, this does
    not square the condition number, as the Gram matrix would.

    Args:
        tables (FieldTables): of the sets of this rank, r, r + R, ... of the M.
        num_sets (int): M.
        ranks (Ranks)

    Returns:
        FactorOfTables: on all ranks the same; M blocks (min(D, ΣK), K), in the order of the sets.
    """
    size, dim = ranks.size, tables.dims[0]
    widths = [dim * len(range(r, num_sets, size)) for r in range(size)]
    E = tables.sets
    rows, width = len(E[0]), dim * num_sets
    step = max(CHUNK_ROWS, 4 * width)
    R = torch.zeros(0, width, dtype=torch.float64, device=E[0].device)
    for start in range(0, rows, step * size):
        stop = min(start + step * size, rows)
        mine = torch.cat([table[start:stop] for table in E], dim=1)
        mine[[row - start for row in tables.exclude if start <= row < stop]] = 0  # a row of zeros does not count
        parts = mine.tensor_split(size)
        own_rows = len(parts[ranks.rank])
        received = ranks.exchange(parts, [own_rows * of_rank for of_rank in widths])
        chunk = torch.cat([x.view(own_rows, -1) for x in received], dim=1).double()
        R = torch.linalg.qr(torch.cat([R, chunk]), mode="r").R
    square = R.new_zeros(width, width)
    square[: len(R)] = R
    R = torch.linalg.qr(torch.cat(ranks.gather(square)), mode="r").R
    by_rank = [m for r in range(size) for m in range(r, num_sets, size)]  # whose columns these are
    blocks = dict(zip(by_rank, R.split(dim, dim=1), strict=True))
    return FactorOfTables(
        tables.layer,
        tables.field,
        [blocks[m] for m in range(num_sets)],
        (),
        tables.initializer,
        rows=tables.num_ids,
    )
