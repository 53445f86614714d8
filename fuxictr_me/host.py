"""Old import path of the bridge to FuxiCTR's scripts, which keeps working. New code imports ``fuxictr_me.zoo.host``."""

from fuxictr_me.zoo.host import run_script
from fuxictr_me.zoo.zoo_import import register

__all__ = ["register", "run_script"]
