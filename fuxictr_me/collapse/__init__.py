"""Measures of embedding collapse: functions of tables, without files or logs."""

from fuxictr_me.collapse.spectrum import abundance, information_abundance, singular_values, triangular_factor
from fuxictr_me.collapse.tables import FieldTables, abundance_of_sets, field_tables, random_abundance

__all__ = [
    "FieldTables",
    "abundance",
    "abundance_of_sets",
    "field_tables",
    "information_abundance",
    "random_abundance",
    "singular_values",
    "triangular_factor",
]
