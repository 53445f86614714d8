"""Callbacks for any FuxiCTR model: logs of collapse and of training, and new embeddings in each epoch."""

from fuxictr_me.training.callbacks.base import Callback, attach
from fuxictr_me.training.callbacks.from_config import build
from fuxictr_me.training.callbacks.information_abundance import InformationAbundance
from fuxictr_me.training.callbacks.log import Log
from fuxictr_me.training.callbacks.rank_along_depth import RankAlongDepth
from fuxictr_me.training.callbacks.reinitialise_embeddings import ReinitialiseEmbeddings

__all__ = [
    "Callback",
    "InformationAbundance",
    "Log",
    "RankAlongDepth",
    "ReinitialiseEmbeddings",
    "attach",
    "build",
]
