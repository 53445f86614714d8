"""Measures of embedding collapse: functions of tables, without files or logs."""

from fuxictr_me.collapse.between_sets import principal_angles, table_space_similarity, variance_of_norms
from fuxictr_me.collapse.collapse_law import Association, InteractionCollapse, interaction_collapse
from fuxictr_me.collapse.gradient import fm_gradient, gradient_coefficients
from fuxictr_me.collapse.measures import alpha_req, effective_rank, participation_ratio, stable_rank, uniformity
from fuxictr_me.collapse.random_tables import random_abundance, random_reference
from fuxictr_me.collapse.spectrum import abundance, information_abundance, singular_values, triangular_factor
from fuxictr_me.collapse.sub_embeddings import (
    block_norms,
    cross_blocks,
    ffm_blocks,
    fmfm_blocks,
    fwfm_blocks,
    low_rank_cross_weight,
    sub_embedding_abundance,
)
from fuxictr_me.collapse.weighted import (
    id_counts,
    weighted_abundance,
    weighted_singular_values,
    weighted_triangular_factor,
)
from fuxictr_me.tables.model_tables import FieldTables, abundance_of_fields, abundance_of_sets, field_tables

__all__ = [
    "Association",
    "FieldTables",
    "InteractionCollapse",
    "abundance",
    "abundance_of_fields",
    "abundance_of_sets",
    "alpha_req",
    "block_norms",
    "cross_blocks",
    "effective_rank",
    "ffm_blocks",
    "field_tables",
    "fm_gradient",
    "fmfm_blocks",
    "fwfm_blocks",
    "gradient_coefficients",
    "id_counts",
    "information_abundance",
    "interaction_collapse",
    "low_rank_cross_weight",
    "participation_ratio",
    "principal_angles",
    "random_abundance",
    "random_reference",
    "singular_values",
    "stable_rank",
    "sub_embedding_abundance",
    "table_space_similarity",
    "triangular_factor",
    "uniformity",
    "variance_of_norms",
    "weighted_abundance",
    "weighted_singular_values",
    "weighted_triangular_factor",
]
