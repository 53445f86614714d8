"""Representations inside a model: which outputs its layers give for a batch, and how many directions they use."""

from fuxictr_me.representations.rank_along_depth import ALL, MOST_ROWS, measure_rank_along_depth

__all__ = ["ALL", "MOST_ROWS", "measure_rank_along_depth"]
