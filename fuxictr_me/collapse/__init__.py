"""Measures of embedding collapse. All are pure functions of arrays: no FuxiCTR, no files, no logging."""

from fuxictr_me.collapse.between_sets import principal_angles, table_space_similarity, variance_of_norms
from fuxictr_me.collapse.collapse_law import Association, InteractionCollapse, interaction_collapse
from fuxictr_me.collapse.measures import alpha_req, effective_rank, participation_ratio, stable_rank
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
from fuxictr_me.collapse.weighted import id_counts, weighted_abundance, weighted_triangular_factor

__all__ = [
    "Association",
    "InteractionCollapse",
    "abundance",
    "alpha_req",
    "block_norms",
    "cross_blocks",
    "effective_rank",
    "ffm_blocks",
    "fmfm_blocks",
    "fwfm_blocks",
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
    "variance_of_norms",
    "weighted_abundance",
    "weighted_triangular_factor",
]
