"""Fused tables split by field, for exported graphs."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fuxictr_me.nn.embedding_sets import MultiEmbedding
from fuxictr_me.nn.fused_table import FusedTable


class PerFieldTables(nn.Module):
    """A ``FusedTable`` split into one table per field, which holds the embeddings of all sets.

    A graph cannot raise the fused table's error for an id outside its field. In a table of its field such an id is out
    of range, which every runtime notices. In the fused table it would be a row of the next field.

    Args:
        table: its memory is shared, not copied.
    """

    def __init__(self, table: FusedTable) -> None:
        super().__init__()
        self.fields, self.columns = table.fields, table.columns
        weight = table.settle().detach()
        self.tables = nn.ParameterList(nn.Parameter(weight[rows], requires_grad=False) for rows in table.rows)

    def forward(self, X: dict[str, Tensor]) -> Tensor:
        """Map field -> ids (B,), of some or all fields, to embeddings (B, F, ΣK)."""
        pairs = zip(self.fields, self.tables, strict=True)
        return torch.stack([F.embedding(X[field].long(), table) for field, table in pairs if field in X], dim=1)


def split_fused_tables(model: nn.Module) -> None:
    """Replace every fused table of a model by ``PerFieldTables``. The model can then be evaluated, but not trained."""
    for module in list(model.modules()):
        if isinstance(module, MultiEmbedding) and module.table is not None:
            sets: Any = module.sets
            for embedding in sets:
                for field in module.table.fields:
                    del embedding.embedding_layer.embedding_layers[field]  # a view into the table
            module.table = PerFieldTables(module.table)  # type: ignore[assignment]  # it is read alike
