"""Old import path of multi-embedding for any model, which keeps working. New code imports ``fuxictr_me.wrap``."""

from fuxictr_me.wrap import MultiEmbeddingOf, own_keys, with_configured_sets

__all__ = ["MultiEmbeddingOf", "own_keys", "with_configured_sets"]
