"""From raw data to batches."""

from fuxictr_me.data.build_h5 import build_h5
from fuxictr_me.data.build_parquet import build_dataset
from fuxictr_me.data.h5_loader import H5DataLoader
from fuxictr_me.data.parquet_loader import InMemoryLoader
from fuxictr_me.data.rank_shares import RankShares

__all__ = ["H5DataLoader", "InMemoryLoader", "RankShares", "build_dataset", "build_h5"]
