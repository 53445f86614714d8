"""Former home of the embedding sets; scripts and configs that import it from here keep working."""

from fuxictr_me.nn.embedding_sets import MultiEmbedding

__all__ = ["MultiEmbedding"]
