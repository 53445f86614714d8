"""The model zoo: a class here, by its name, is what ``model:`` in a config means."""

from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.models.dcnv2 import DCNv2_ME
from fuxictr_me.models.dnn import DNN_ME

__all__ = ["DNN_ME", "DCNv2_ME", "MultiEmbeddingModel"]
