"""Former home of the bridge into FuxiCTR"s scripts; scripts and configs that import it from here keep working."""

from fuxictr_me.zoo.host import register, run_script

__all__ = ["register", "run_script"]
