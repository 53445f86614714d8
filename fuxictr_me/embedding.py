"""Old import path of the embedding sets, which keeps working. New code imports ``fuxictr_me.nn.embedding_sets``."""

from fuxictr_me.nn.embedding_sets import MultiEmbedding

__all__ = ["MultiEmbedding"]
