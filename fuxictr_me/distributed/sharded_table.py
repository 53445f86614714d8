"""A fused table whose rows lie on several ranks."""

from dataclasses import dataclass

import torch

from fuxictr_me.nn.fused_table import FusedTable


@dataclass(frozen=True)
class Shard:
    """Which ids of a field a member of a group has: those whose row in the fused table is g modulo G.

    Ids are in the order of their frequency, so every G-th goes to a member, and each is asked for about as often.

    Attributes:
        start (int): the field's first row in the whole table.
        size (int): D of the field.
        members (int): G.
    """

    start: int
    size: int
    members: int

    def ids(self, member):
        """slice of the ids that member g has, as its rows follow one another."""
        return slice((member - self.start) % self.members, self.size, self.members)

    def rows(self, member):
        """How many these are."""
        return len(range(*self.ids(member).indices(self.size)))


def copy_common(mine, my_ids, theirs, their_ids):
    """Fill the rows of a shard that are in another too, of the same field but another number of members.

    Args:
        mine, theirs (Tensor): (rows, ...).
        my_ids, their_ids (slice): whose rows these are; both end at D.
    """
    ids = torch.arange(their_ids.start, max(their_ids.start, their_ids.stop), their_ids.step, device=theirs.device)
    common = (ids - my_ids.start) % my_ids.step == 0
    mine[(ids[common] - my_ids.start) // my_ids.step] = theirs[common]


class ShardedTable(FusedTable):
    """Row i of the whole (ΣD, ΣK) lies on rank i mod G, as its row i div G.

    A rank asks for the rows of its part of a batch: their numbers go to the ranks that have them, embeddings come
    back, later their gradients go there, where the update is made. So B/G · F rows of ΣK numbers pass twice, and no
    gradient of the whole table is anywhere. All ranks must call ``forward`` together, and ``backward``.

    Args:
        fields, sizes, dims: as ``FusedTable`` takes them, of the whole table.
        ranks (Ranks): the G members.

    Attributes:
        weight (Parameter): (about ΣD/G, ΣK).
        shards (dict): field -> Shard.
    """

    def __init__(self, fields, sizes, dims, *, ranks):
        starts = [sum(sizes[:f]) for f in range(len(sizes))]
        shards = [Shard(start, size, ranks.size) for start, size in zip(starts, sizes, strict=True)]
        super().__init__(fields, [shard.rows(ranks.rank) for shard in shards], dims)
        self.sizes.copy_(torch.tensor(sizes))
        self.first_rows.copy_(torch.tensor(starts))
        self.ranks, self.shards = ranks, dict(zip(fields, shards, strict=True))

    def _select_rows(self, f, weight):
        return weight[self.shards[self.fields[f]].ids(self.ranks.rank)]

    def _read(self, rows, padded):
        G, rank, flat = self.ranks.size, self.ranks.rank, rows.flatten()
        owners = flat % G
        order = owners.argsort(stable=True)
        counts = torch.stack(self.ranks.gather(torch.bincount(owners, minlength=G))).tolist()  # [who asks][who has]
        asked, got = counts[rank], [of_rank[rank] for of_rank in counts]
        mine = self.ranks.exchange_rows(flat[order] // G, asked, got).unsqueeze(1)  # (n, 1): rows that others ask for
        no_padding = self.padding_ids < 0
        padding_rows = (self.first_rows + self.padding_ids).masked_fill(no_padding, -1)
        e = super()._read(mine, torch.isin(mine * G + rank, padding_rows))
        e = RowsOfOthers.apply(e.squeeze(1), got, asked, self.ranks)
        return torch.empty_like(e).index_copy(0, order, e).view(*rows.shape, self.weight.shape[1])


class RowsOfOthers(torch.autograd.Function):
    """Rows (n, ...) to the ranks that asked for them; their gradients come back."""

    @staticmethod
    def forward(ctx, x, sent, got, ranks):
        ctx.way_back = got, sent, ranks
        return ranks.exchange_rows(x, sent, got)

    @staticmethod
    def backward(ctx, gradient):
        sent, got, ranks = ctx.way_back
        return ranks.exchange_rows(gradient, sent, got), None, None, None


def sharded_tables(model):
    """path -> ShardedTable, of all in a model."""
    return {path: module for path, module in model.named_modules() if isinstance(module, ShardedTable)}


def shards_of(model):
    """name of a weight in the state dict of a model of one set -> Shard, of all weights whose rows are divided."""
    return {name: shard for name, shard in rows_of(model).items() if shard.members > 1}


def rows_of(model):
    """As ``shards_of``, of all fields of fused tables, of one member where they lie whole on this rank."""
    found = {}
    for path, table in model.named_modules():
        if isinstance(table, FusedTable):
            whole = {f: Shard(r.start, r.stop - r.start, 1) for f, r in zip(table.fields, table.rows, strict=True)}
            prefix = f"{path.removesuffix('table')}sets.0.embedding_layer.embedding_layers"
            shards = table.shards if isinstance(table, ShardedTable) else whole
            found |= {f"{prefix}.{field}.weight": shard for field, shard in shards.items()}
    return found
