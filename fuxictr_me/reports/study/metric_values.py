"""What is compared: a number a seed of each cell, of the test set or of the embeddings."""

import math
from statistics import fmean

IA, IA_RATIO, IA_RANDOM = "IA", "IA / min(K, D)", "IA, random"
ABUNDANCE = {IA: "ia", IA_RATIO: "ia_ratio", IA_RANDOM: "ia_random"}
LOSSES = ("logloss", "binary_crossentropy")


def lower_is_better(metric):
    """Of a metric, or of ``<label>_<metric>`` of one of several tasks."""
    return metric.endswith(LOSSES)


def values(cell, metric):
    """A metric of a cell's runs.

    Args:
        cell (CellResult)
        metric (str): of the test set, or one of ``ABUNDANCE``: its mean over the fields.

    Returns:
        dict: seed -> value, of the runs that have a finite one.
    """
    found = {run.seed: _abundance(run, metric) if metric in ABUNDANCE else run.test.get(metric) for run in cell.runs}
    return {seed: float(value) for seed, value in found.items() if value is not None and math.isfinite(value)}


def metrics(results):
    """The metrics of the test set that any run of a study has, the monitored one first."""
    found = dict.fromkeys(metric for cell in results.cells for run in cell.runs for metric in run.test)
    return sorted(found, key=lambda metric: metric != results.monitor)


def _abundance(run, metric):
    of_fields = [field[ABUNDANCE[metric]] for field in run.abundance]
    of_fields = [value for value in of_fields if value is not None]
    return fmean(of_fields) if of_fields else None
