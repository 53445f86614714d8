"""Old import path of the bridge to FuxiCTR's scripts, which keeps working. New code imports ``fuxictr_me.zoo.host``."""

from fuxictr_me.zoo.host import register, run_script

__all__ = ["register", "run_script"]
