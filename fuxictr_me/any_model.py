"""Old import path of multi-embedding for any model, which keeps working. New code imports ``fuxictr_me.wrap``."""

from fuxictr_me.wrap import MultiEmbeddingOf
from fuxictr_me.wrap import find_own_keys as own_keys
from fuxictr_me.wrap import wrap_if_configured as with_configured_sets

__all__ = ["MultiEmbeddingOf", "own_keys", "with_configured_sets"]
