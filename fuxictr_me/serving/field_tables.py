"""The tables of all sets as one for each field: what an exported graph looks ids up in."""

import torch
from torch import nn
from torch.nn import functional as F

from fuxictr_me.nn.embedding_sets import MultiEmbedding


class FieldTables(nn.Module):
    """A ``FusedTable`` cut into its fields: one look-up a field for all sets, and no look at the ids.

    A graph cannot raise the fused table's error of an id past its field's table. In a table of its own such an id is
    out of range, which every runtime notices; in the fused one it would be a row of the next field.

    Args:
        table (FusedTable): its memory is shared, not copied.
    """

    def __init__(self, table):
        super().__init__()
        self.fields, self.columns = table.fields, table.columns
        weight = table.settle().detach()
        self.tables = nn.ParameterList(nn.Parameter(weight[rows], requires_grad=False) for rows in table.rows)

    def forward(self, X):
        """field -> ids (B,), of all fields or some -> embeddings (B, F, ΣK)."""
        pairs = zip(self.fields, self.tables, strict=True)
        return torch.stack([F.embedding(X[field].long(), table) for field, table in pairs if field in X], dim=1)


def use_field_tables(model):
    """Put ``FieldTables`` in the place of every fused table of a model, which can be evaluated afterwards, no more."""
    for module in list(model.modules()):
        if isinstance(module, MultiEmbedding) and module.table is not None:
            for embedding in module.sets:
                for field in module.table.fields:
                    del embedding.embedding_layer.embedding_layers[field]  # a view into the table
            module.table = FieldTables(module.table)
