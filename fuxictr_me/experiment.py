"""Former home of runs; scripts and configs that import it from here keep working."""

from fuxictr_me.runs.experiment import run_expid
from fuxictr_me.runs.finished_run import load_trained

__all__ = ["load_trained", "run_expid"]
