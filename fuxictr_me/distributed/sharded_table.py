"""A fused table whose rows lie on several ranks."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fuxictr_me.distributed.ranks import Ranks
from fuxictr_me.nn.fused_table import FusedTable


@dataclass(frozen=True)
class Shard:
    """The ids of a field whose rows a member of a group holds: those whose row in the fused table is g modulo G.

    Ids are in the order of their frequency. Each member gets every G-th, so all members are read about as often.

    Attributes:
        start: the field's first row in the whole table.
        size: D of the field.
        members: G.
    """

    start: int
    size: int
    members: int

    def ids(self, member: int) -> slice:
        """Return the ids that member g holds, in the order of its rows."""
        return slice((member - self.start) % self.members, self.size, self.members)

    def rows(self, member: int) -> int:
        """Return how many rows member g holds."""
        return len(range(*self.ids(member).indices(self.size)))


def copy_common_rows(target: Tensor, target_ids: slice, source: Tensor, source_ids: slice) -> None:
    """Copy the rows that two shards of a field have in common, where they are of different numbers of members.

    Args:
        target, source: (rows, ...).
        target_ids, source_ids: the ids of their rows; both slices end at D.
    """
    ids = torch.arange(source_ids.start, max(source_ids.start, source_ids.stop), source_ids.step, device=source.device)
    common = (ids - target_ids.start) % target_ids.step == 0
    target[(ids[common] - target_ids.start) // target_ids.step] = source[common]


class ShardedTable(FusedTable):
    """A fused table (ΣD, ΣK) of which row i lies on rank i mod G, as its row i div G.

    A rank needs the rows of its part of a batch. Their numbers go to the ranks that hold them, embeddings come back,
    and later their gradients go there and update the rows. So B/G · F rows of ΣK numbers are sent twice, and no rank
    has a gradient of the whole table. All ranks must call ``forward`` together, and ``backward``.

    Args:
        fields, sizes, dims: of the whole table, see ``FusedTable``.
        ranks: the G members.

    Attributes:
        weight: (about ΣD/G, ΣK).
        shards: field -> Shard.
    """

    sizes: Tensor
    first_rows: Tensor
    padding_ids: Tensor

    def __init__(self, fields: list[str], sizes: list[int], dims: list[int], *, ranks: Ranks):
        starts = [sum(sizes[:f]) for f in range(len(sizes))]
        shards = [Shard(start, size, ranks.size) for start, size in zip(starts, sizes, strict=True)]
        super().__init__(fields, [shard.rows(ranks.rank) for shard in shards], dims)
        self.sizes.copy_(torch.tensor(sizes))
        self.first_rows.copy_(torch.tensor(starts))
        self.ranks, self.shards = ranks, dict(zip(fields, shards, strict=True))

    def _select_rows(self, f: int, weight: Tensor) -> Tensor:
        return weight[self.shards[self.fields[f]].ids(self.ranks.rank)]

    def _read(self, rows: Tensor, padded: Tensor) -> Tensor:
        G, rank, flat = self.ranks.size, self.ranks.rank, rows.flatten()
        owners = flat % G
        order = owners.argsort(stable=True)
        counts = torch.stack(self.ranks.gather(torch.bincount(owners, minlength=G))).tolist()  # [reader][owner]
        num_needed, num_served = counts[rank], [of_reader[rank] for of_reader in counts]
        served = self.ranks.exchange_rows(flat[order] // G, num_needed, num_served).unsqueeze(1)  # (n, 1), own rows
        no_padding = self.padding_ids < 0
        padding_rows = (self.first_rows + self.padding_ids).masked_fill(no_padding, -1)
        e = super()._read(served, torch.isin(served * G + rank, padding_rows))
        e = ExchangeRows.apply(e.squeeze(1), num_served, num_needed, self.ranks)
        return torch.empty_like(e).index_copy(0, order, e).view(*rows.shape, self.weight.shape[1])


class ExchangeRows(torch.autograd.Function):
    """Rows (n, ...) go to the ranks that need them; their gradients come back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, num_sent: list[int], num_received: list[int], ranks: Ranks) -> Tensor:
        ctx.way_back = num_received, num_sent, ranks
        return ranks.exchange_rows(x, num_sent, num_received)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        num_sent, num_received, ranks = ctx.way_back
        return ranks.exchange_rows(gradient, num_sent, num_received), None, None, None


def find_sharded_tables(model: nn.Module) -> dict[str, ShardedTable]:
    """Return path -> table for all sharded tables of a model."""
    return {path: module for path, module in model.named_modules() if isinstance(module, ShardedTable)}


def find_shards(model: nn.Module) -> dict[str, Shard]:
    """Return name -> Shard of all weights whose rows are divided; names are those in a model of one set."""
    return {name: shard for name, shard in find_table_rows(model).items() if shard.members > 1}


def find_table_rows(model: nn.Module) -> dict[str, Shard]:
    """Do what ``find_shards`` does for all fields of fused tables; with one member for tables that are not divided."""
    found: dict[str, Shard] = {}
    for path, table in model.named_modules():
        if isinstance(table, FusedTable):
            whole = {f: Shard(r.start, r.stop - r.start, 1) for f, r in zip(table.fields, table.rows, strict=True)}
            prefix = f"{path.removesuffix('table')}sets.0.embedding_layer.embedding_layers"
            shards = table.shards if isinstance(table, ShardedTable) else whole
            found |= {f"{prefix}.{field}.weight": shard for field, shard in shards.items()}
    return found
