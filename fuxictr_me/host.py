"""The former home of the bridge into FuxiCTR's scripts. Imports from here keep working."""

from fuxictr_me.zoo.host import run_script
from fuxictr_me.zoo.zoo_import import register

__all__ = ["register", "run_script"]
