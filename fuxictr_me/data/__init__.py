"""From raw data to batches."""

from fuxictr_me.data.build import build_h5
from fuxictr_me.data.h5_loader import H5DataLoader
from fuxictr_me.data.in_memory import InMemoryLoader
from fuxictr_me.data.lanes import Lanes
from fuxictr_me.data.prepare import build_dataset

__all__ = ["H5DataLoader", "InMemoryLoader", "Lanes", "build_dataset", "build_h5"]
