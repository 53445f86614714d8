"""Multi-embedding for any FuxiCTR model, without changes to its class."""

from fuxictr_me.wrap.multi_embedding_of import MultiEmbeddingOf, find_own_keys, wrap_if_configured

__all__ = ["MultiEmbeddingOf", "find_own_keys", "wrap_if_configured"]
