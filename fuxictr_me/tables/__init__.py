"""Embedding tables of models and checkpoints: finding them by one rule, measuring them, writing them to files."""

from fuxictr_me.tables.find_tables import (
    EmbeddingLayer,
    FieldTables,
    find_checkpoint_layers,
    find_model_layers,
    find_tables,
)
from fuxictr_me.tables.table_abundance import abundance_of_fields, abundance_of_sets

__all__ = [
    "EmbeddingLayer",
    "FieldTables",
    "abundance_of_fields",
    "abundance_of_sets",
    "find_checkpoint_layers",
    "find_model_layers",
    "find_tables",
]
