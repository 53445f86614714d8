"""Checks of a designed study: its cells can be compared, its metric is recorded, its runs are not too many."""

import itertools
import json
import math
from collections.abc import Iterable
from typing import Any

from fuxictr_me.errors import UsageError

MOST_RUNS = 10_000
COMPARED: dict[str, Any] = {  # settings that make models comparable -> FuxiCTR's default if a config does not set them
    "metrics": ["AUC", "logloss"],
    "monitor": "AUC",
    "monitor_mode": "max",
    "early_stop_patience": 2,
    "epochs": 1,
    "batch_size": 32,
    "eval_steps": None,
    "shuffle": True,
    "save_best_only": True,
    "reduce_lr_on_plateau": True,
    "group_id": None,
}


def check_number_of_runs(num_seeds: int, grids: Iterable[dict]) -> None:
    """Refuse a study of more runs than FuxiCTR's autotuner can list; ``grids`` has the grid of each cell."""
    total = sum(num_seeds * math.prod(map(len, grid.values())) for grid in grids)
    if total > MOST_RUNS:
        raise UsageError(f"the study would list {total:,} runs (cells x grid x seeds); {MOST_RUNS:,} are allowed")


def check_comparable(cells: Iterable[Any], keys: Iterable[str] = tuple(COMPARED)) -> None:
    """Refuse cells that differ in early stopping, training length or how the best weights are chosen.

    Args:
        cells: of a study, see ``fuxictr_me.study.design.Cell``.
        keys: settings of ``COMPARED``.

    Raises:
        UsageError: two cells have different values of a setting.
    """
    first, *others = cells
    for cell, key in itertools.product(others, keys):
        value, other = (_normalise(of.settings.get(key), COMPARED[key]) for of in (first, cell))
        if value != other:
            raise UsageError(
                f"{key} must be equal for all models of a study: it is {value!r} for {first.name} and {other!r} for "
                f"{cell.name}; set it under settings, for every run"
            )


def check_monitor(settings: dict, prefix: str = "") -> None:
    """Refuse a ``monitor`` that is not among ``metrics``: a run would not record its value."""
    monitor, metrics = settings.get("monitor") or "AUC", settings.get("metrics") or COMPARED["metrics"]
    for name in [monitor] if isinstance(monitor, str) else list(monitor):
        if name not in metrics:
            raise UsageError(
                f"{prefix}monitor {name!r} is not among metrics {list(metrics)}, so runs would not record the value by "
                "which the study chooses: add it to metrics"
            )


def _normalise(value: object, default: object) -> object:
    value = default if value is None else value
    return sorted(value, key=json.dumps) if isinstance(value, list) else value
