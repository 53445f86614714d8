"""Old import path of runs, which keeps working. New code imports ``fuxictr_me.runs.experiment``."""

from fuxictr_me.runs.experiment import run_expid
from fuxictr_me.runs.finished_run import load_trained

__all__ = ["load_trained", "run_expid"]
