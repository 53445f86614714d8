"""Former home of runs; scripts and configs that import it from here keep working."""

from fuxictr_me.runs.experiment import load_trained, run_expid

__all__ = ["load_trained", "run_expid"]
