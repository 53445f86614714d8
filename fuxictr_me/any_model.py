"""Former home of multi-embedding for any model; scripts and configs that import it from here keep working."""

from fuxictr_me.wrap import MultiEmbeddingOf, own_keys, with_configured_sets

__all__ = ["MultiEmbeddingOf", "own_keys", "with_configured_sets"]
