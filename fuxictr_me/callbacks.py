"""Old import path of callbacks, which keeps working. New code imports ``fuxictr_me.training.callbacks``."""

from fuxictr_me.training.callbacks import Callback, InformationAbundance, attach, build

__all__ = ["Callback", "InformationAbundance", "attach", "build"]
