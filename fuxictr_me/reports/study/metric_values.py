"""Numbers that a study compares: one value per seed of each cell, of the test split or of the embeddings."""

import math
from statistics import fmean

from fuxictr_me.study.results import CellResult, RunResult, StudyResults

IA, IA_RATIO, IA_RANDOM = "IA", "IA / min(K, D)", "IA, random"
ABUNDANCE = {IA: "ia", IA_RATIO: "ia_ratio", IA_RANDOM: "ia_random"}
LOSSES = ("logloss", "binary_crossentropy")


def is_lower_better(metric: str) -> bool:
    """Return whether a metric is a loss; ``<label>_<metric>`` is a metric of one of several tasks."""
    return metric.endswith(LOSSES)


def values_by_seed(cell: CellResult, metric: str) -> dict[int, float]:
    """Return seed -> value of a metric, for the runs of a cell with a finite value.

    Args:
        cell: whose runs are read.
        metric: of the test split, or one of ``ABUNDANCE``, which is averaged over the fields.
    """
    found = {
        run.seed: _mean_abundance(run, metric) if metric in ABUNDANCE else run.test.get(metric) for run in cell.runs
    }
    return {seed: float(value) for seed, value in found.items() if value is not None and math.isfinite(value)}


def list_test_metrics(results: StudyResults) -> list[str]:
    """Return the test metrics that any run of a study has, the monitored one first."""
    found = dict.fromkeys(metric for cell in results.cells for run in cell.runs for metric in run.test)
    return sorted(found, key=lambda metric: metric != results.monitor)


def main_metric(results: StudyResults) -> str:
    """Return the first test metric, or the monitored metric if no run has finished."""
    return next(iter(list_test_metrics(results)), results.monitor)


def has_abundance(results: StudyResults) -> bool:
    """Return whether any run recorded information abundance."""
    return any(run.abundance for cell in results.cells for run in cell.runs)


def _mean_abundance(run: RunResult, metric: str) -> float | None:
    known = [field[ABUNDANCE[metric]] for field in run.abundance if field[ABUNDANCE[metric]] is not None]
    return fmean(known) if known else None
