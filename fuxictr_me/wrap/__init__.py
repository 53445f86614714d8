"""Multi-embedding for any FuxiCTR model: its class is left as it is."""

from fuxictr_me.wrap.multi_embedding_of import MultiEmbeddingOf, own_keys, with_configured_sets

__all__ = ["MultiEmbeddingOf", "own_keys", "with_configured_sets"]
