"""Former home of multi-embedding for any model; scripts and configs that import it from here keep working."""

from fuxictr_me.wrap import MultiEmbeddingOf
from fuxictr_me.wrap import find_own_keys as own_keys
from fuxictr_me.wrap import wrap_if_configured as with_configured_sets

__all__ = ["MultiEmbeddingOf", "own_keys", "with_configured_sets"]
