"""Callbacks for any FuxiCTR model, and the one that measures information abundance during training."""

from fuxictr_me.training.callbacks.base import Callback, attach
from fuxictr_me.training.callbacks.from_config import build
from fuxictr_me.training.callbacks.information_abundance import InformationAbundance

__all__ = ["Callback", "InformationAbundance", "attach", "build"]
