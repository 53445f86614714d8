"""Callbacks for any FuxiCTR model, and those that measure collapse during training."""

from fuxictr_me.training.callbacks.base import Callback, attach
from fuxictr_me.training.callbacks.from_config import build
from fuxictr_me.training.callbacks.information_abundance import InformationAbundance
from fuxictr_me.training.callbacks.rank_along_depth import RankAlongDepth

__all__ = ["Callback", "InformationAbundance", "RankAlongDepth", "attach", "build"]
