"""From raw data to batches."""

from fuxictr_me.data.in_memory import InMemoryLoader
from fuxictr_me.data.prepare import build_dataset

__all__ = ["InMemoryLoader", "build_dataset"]
