"""Old import path of runs, which keeps working. New code imports ``fuxictr_me.runs.experiment``."""

from fuxictr_me.runs.experiment import load_trained, run_expid

__all__ = ["load_trained", "run_expid"]
