"""Former home of callbacks; scripts and configs that import it from here keep working."""

from fuxictr_me.training.callbacks import Callback, InformationAbundance, attach, build

__all__ = ["Callback", "InformationAbundance", "attach", "build"]
