"""Callbacks for any FuxiCTR model: hooks, and the one that measures collapse while it trains."""

from fuxictr_me.callbacks.base import Callback, attach
from fuxictr_me.callbacks.config import build
from fuxictr_me.callbacks.information_abundance import InformationAbundance

__all__ = ["Callback", "InformationAbundance", "attach", "build"]
