"""Check what a study asks for, before anything is written: names, lists without repeats, what must be equal."""

import itertools
import json
import math
from collections.abc import Iterable

from fuxictr_me.config.options import DATASET_OPTIONS
from fuxictr_me.errors import UsageError, check_positive_int

MOST_SCALE = 1000
MOST_RUNS = 10_000
MOST_SEED = 2**32 - 1  # numpy's
SET_BY_STUDY = ("seed", "dataset_id", "model", "model_id", "gpu", "model_root", "debug_mode")
# What makes models comparable -> FuxiCTR's default where a config does not set it.
OF_RUNS = ("use_features", "feature_specs", "group_id")  # keys of a data set that a run may set, too
COMPARED = {
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


def check_title(name: object) -> str:
    """Return the name of a study, which is text of one line without a slash.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(name, str):
        raise UsageError(f"name of a study must be text, got {name!r}" + ("" if name is None else ": put it in quotes"))
    if not name.strip() or name in (".", "..") or len(name) > 100 or not name.isprintable() or "/" in name:
        raise UsageError(f"name of a study must be text of one line, without a slash, got {name[:120]!r}")
    return name


def check_list(key: str, value: object) -> list:
    """Return ``value`` if it is a list of different things, not empty.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(value, list | tuple) or not value:
        raise UsageError(f"{key} must be a list, got {value!r}")
    for i, item in enumerate(value):
        if item in value[:i]:
            raise UsageError(f"{key} has {item!r} twice")
    return list(value)


def check_mapping(key: str, value: object) -> dict:
    """Return ``value`` if it holds settings by name, else raise a UsageError that names ``key``."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"{key} must be settings by name, got {value!r}")
    return value


def check_own_settings(where: str, settings: object, dataset_keys: Iterable[str], sizes: Iterable[str] = ()) -> dict:
    """Return settings of a study's file that it may give; what the study or its data set sets itself is refused.

    Args:
        where: what they are called in the file.
        settings: name -> value.
        dataset_keys: settings of the data set's entry.
        sizes: settings that the study would overwrite or scale here, of ``num_sets`` and ``embedding_dim``.

    Raises:
        UsageError: names the setting, and where it belongs.
    """
    for key in check_mapping(where, settings):
        if key in SET_BY_STUDY:
            raise UsageError(f"{where} sets {key}, which the study sets itself for each run")
        if key in sizes:
            hint = "; that of the base is set for each model, e.g. models: {DNN_ME: {embedding_dim: 10}}"
            hint = hint if key == "embedding_dim" else ": it is the scale"
            raise UsageError(f"{where} sets {key}, which the study sets itself for each size{hint}")
        if key in dataset_keys or (key in DATASET_OPTIONS and key not in OF_RUNS):
            raise UsageError(f"{where} sets {key}, which belongs to the data set: set it in dataset_config.yaml")
    return settings


def check_scales(scales: object) -> list[int]:
    """Return the scales in order, the base's among them."""
    for scale in check_list("scales", scales):
        if check_positive_int("a scale", scale) > MOST_SCALE:
            raise UsageError(f"a scale is {MOST_SCALE} at most, got {scale}")
    return sorted({1, *scales})


def check_number_of_runs(num_seeds: int, grids: Iterable[dict]) -> None:
    """Refuse a study of more runs than FuxiCTR's autotuner could list.

    Args:
        num_seeds: of each cell.
        grids: of each cell, setting -> values.
    """
    total = sum(num_seeds * math.prod(map(len, grid.values())) for grid in grids)
    if total > MOST_RUNS:
        raise UsageError(f"the study would list {total:,} runs (cells x grid x seeds); {MOST_RUNS:,} are allowed")


def check_comparable(cells: Iterable, keys: Iterable[str] = tuple(COMPARED)) -> None:
    """Refuse cells that early stopping, training length or the choice would treat differently.

    Args:
        cells (iterable of Cell)
        keys: settings of ``COMPARED``.

    Raises:
        UsageError: a setting that two cells have differently.
    """
    first, *others = cells
    for cell, key in itertools.product(others, keys):
        here, there = (_comparable(of.settings.get(key), COMPARED[key]) for of in (first, cell))
        if here != there:
            raise UsageError(
                f"{key} must be equal for all models of a study: it is {here!r} for {first.name} and {there!r} for "
                f"{cell.name}; set it under settings, for every run"
            )


def check_monitor(settings: dict, prefix: str = "") -> None:
    """Refuse a ``monitor`` of which a part is not among ``metrics``: a run would not record its value."""
    monitor, metrics = settings.get("monitor") or "AUC", settings.get("metrics") or COMPARED["metrics"]
    for name in [monitor] if isinstance(monitor, str) else list(monitor):
        if name not in metrics:
            raise UsageError(
                f"{prefix}monitor {name!r} is not among metrics {list(metrics)}, so that no run would record what the "
                f"study chooses by: add it to metrics"
            )


def _comparable(value: object, default: object) -> object:
    value = default if value is None else value
    return sorted(value, key=json.dumps) if isinstance(value, list) else value
