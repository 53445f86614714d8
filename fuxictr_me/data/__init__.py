"""Data sets: from raw files to ids, and from ids to batches."""

from fuxictr_me.data.building.build_ids import build_dataset, build_h5
from fuxictr_me.data.loaders.h5_loader import H5DataLoader
from fuxictr_me.data.loaders.parquet_loader import InMemoryLoader
from fuxictr_me.data.loaders.rank_shares import RankShares

__all__ = ["H5DataLoader", "InMemoryLoader", "RankShares", "build_dataset", "build_h5"]
