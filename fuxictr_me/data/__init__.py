"""From raw data to batches."""

from fuxictr_me.data.building.build_h5 import build_h5
from fuxictr_me.data.building.build_parquet import build_dataset
from fuxictr_me.data.loaders.h5_loader import H5DataLoader
from fuxictr_me.data.loaders.parquet_loader import InMemoryLoader
from fuxictr_me.data.loaders.rank_shares import Lanes

__all__ = ["H5DataLoader", "InMemoryLoader", "Lanes", "build_dataset", "build_h5"]
