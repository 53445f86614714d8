"""Read the parts of a study's design as they are given: title, models, kinds, scales, seeds, grids."""

import re
from collections.abc import Container, Iterable, Sequence
from typing import Any

from fuxictr_me.bars import SEEDS as BARS_SEEDS
from fuxictr_me.config.dataset_options import DATASET_OPTIONS
from fuxictr_me.errors import UsageError, check_positive_int, unknown
from fuxictr_me.study.results import BASE, ENSEMBLE, MULTI, SINGLE

CONTROLS: dict[str, dict] = {
    ENSEMBLE: {"aggregation": "ensemble"},
    "ME-linear": {"nonlinear_projection": False},
    "ME-SI": {"shared_interaction": True},
}  # changes of ME
EQUAL = {"metrics", "monitor", "monitor_mode", "early_stop_patience", "epochs", "batch_size", "eval_steps", "shuffle"}
EQUAL |= {"save_best_only", "reduce_lr_on_plateau", "dataset_id", "model", "seed", "task", "loss", "group_id"}
SIZE = {"num_sets", "embedding_dim"}
SET_BY_STUDY = ("seed", "dataset_id", "model", "model_id", "gpu", "model_root", "debug_mode")
DATASET_KEYS_OF_RUNS = ("use_features", "feature_specs", "group_id")  # keys of a data set that a run may set, too
MOST_SCALE = 1000
MOST_SEED = 2**32 - 1  # numpy's limit


def check_title(name: object) -> str:
    """Return the name of a study if it is one line of text without a slash.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(name, str):
        raise UsageError(f"name of a study must be text, got {name!r}" + ("" if name is None else ": put it in quotes"))
    if not name.strip() or name in (".", "..") or len(name) > 100 or not name.isprintable() or "/" in name:
        raise UsageError(f"name of a study must be text of one line, without a slash, got {name[:120]!r}")
    return name


def read_models(models: object) -> dict[str, dict | None]:
    """Return model -> settings of its own, or None."""
    names = models if isinstance(models, dict) else _check_list("models", models)
    for name in names:
        if not isinstance(name, str) or not name:
            raise UsageError(f"models must be names such as DCNv2_ME, or names with settings, got {name!r}")
    return models if isinstance(models, dict) else dict.fromkeys(names)


def read_seeds(seeds: object) -> tuple[int, ...]:
    """Return the seeds: a number takes the first of BARS' five seeds."""
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if not 1 <= seeds <= len(BARS_SEEDS):
            raise UsageError(f"seeds: {seeds} is not 1 to {len(BARS_SEEDS)}, of BARS' seeds; give a list to use others")
        return BARS_SEEDS[:seeds]
    listed = _check_list("seeds", seeds)
    for seed in listed:
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= MOST_SEED:
            raise UsageError(f"a seed must be an integer of 0 to {MOST_SEED}, got {seed!r}")
    return tuple(listed)


def check_tuning_seeds(number: object, seeds: Sequence[int]) -> None:
    """Check how many seeds, the first ones, try each value of a grid.

    Raises:
        UsageError: it is not a number of 1 to that of the seeds.
    """
    if check_positive_int("tuning_seeds", number) > len(seeds):
        raise UsageError(f"tuning_seeds is {number}, more than the study's {len(seeds)} seeds")


def read_scales(scales: object) -> list[int]:
    """Return the scales in ascending order; 1, the scale of base, is always among them."""
    listed = _check_list("scales", scales)
    for scale in listed:
        if check_positive_int("a scale", scale) > MOST_SCALE:
            raise UsageError(f"a scale is {MOST_SCALE} at most, got {scale}")
    return sorted({1, *listed})


def read_kinds(kinds: object, dataset: Container[str]) -> dict[str, dict]:
    """Return kind -> the settings that it changes; ``dataset`` has the keys of the data set's entry."""
    known: dict[str, dict] = {SINGLE: {"like": SINGLE}, MULTI: {}, **CONTROLS}
    found: dict[str, dict] = {}
    for kind in _check_list("kinds", kinds):
        if isinstance(kind, dict) and kind:
            for name, changes in kind.items():
                found[_check_own_kind(name, changes, {*known, BASE, *found}, dataset)] = changes
        elif isinstance(kind, str) and kind in known:
            found[kind] = known[kind]
        else:
            raise unknown("kind", kind, known)
    return found


def read_grids(grid: object, kinds: Iterable[str], dataset: Container[str]) -> dict[str, dict[str, list]]:
    """Return kind -> setting -> values to try. SE and all kinds must tune the same settings."""
    grid = check_mapping("grid", grid)
    kinds = {*kinds, SINGLE, MULTI}
    is_by_kind = bool(grid) and set(grid) <= kinds
    if is_by_kind and not {SINGLE, MULTI} <= set(grid):
        raise UsageError(f"a grid for each kind needs SE and ME, got {', '.join(grid)}: both are tuned or none")
    grids = {kind: grid.get(kind, grid[MULTI]) if is_by_kind else grid for kind in kinds}
    for kind, settings in grids.items():
        check_mapping(f"the grid of {kind}", settings)
        if fixed := (EQUAL | SIZE) & settings.keys():
            raise UsageError(f"{', '.join(sorted(fixed))} cannot be tuned: it must be equal for all kinds")
        if other := settings.keys() ^ grids[SINGLE].keys():
            raise UsageError(f"{', '.join(sorted(other))} is tuned for one of SE and {kind} alone: tune it for both")
        for key, values in settings.items():
            _check_list(f"{key} in the grid", values)
        check_own_settings(f"the grid of {kind}", settings, dataset)
    return grids


def check_mapping(key: str, value: object) -> dict:
    """Return ``value`` if it holds settings by name, else raise a UsageError that names ``key``."""
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise UsageError(f"{key} must be settings by name, got {value!r}")
    return value


def check_own_settings(where: str, settings: object, dataset: Container[str], sizes: Iterable[str] = ()) -> dict:
    """Return settings that a study may give; those that the study or its data set must set are refused.

    Args:
        where: their place in the study's file.
        settings: name -> value.
        dataset: keys of the data set's entry.
        sizes: settings that the study scales here, of ``num_sets`` and ``embedding_dim``.

    Raises:
        UsageError: names the setting, and where it belongs.
    """
    settings = check_mapping(where, settings)
    for key in settings:
        if key in SET_BY_STUDY:
            raise UsageError(f"{where} sets {key}, which the study sets itself for each run")
        if key in sizes:
            hint = "; that of the base is set for each model, e.g. models: {DNN_ME: {embedding_dim: 10}}"
            hint = hint if key == "embedding_dim" else ": it is the scale"
            raise UsageError(f"{where} sets {key}, which the study sets itself for each size{hint}")
        if key in dataset or (key in DATASET_OPTIONS and key not in DATASET_KEYS_OF_RUNS):
            raise UsageError(f"{where} sets {key}, which belongs to the data set: set it in dataset_config.yaml")
    return settings


def _check_own_kind(name: object, changes: Any, reserved: Container, dataset: Container[str]) -> str:
    """Return the name of a kind that the user defines, after checking its settings."""
    is_new = isinstance(name, str) and name not in reserved and re.fullmatch(r"\w[\w.+-]{0,99}", name)  # it names files
    if not isinstance(name, str) or not is_new or not isinstance(changes, dict):
        raise UsageError(f"a kind of your own needs a new name without spaces, and settings, got {name}: {changes!r}")
    if fixed := EQUAL & changes.keys():
        raise UsageError(f"{', '.join(sorted(fixed))} must be equal for all kinds; kind {name!r} changes it")
    if changes.get("like", MULTI) not in (SINGLE, MULTI):
        raise unknown(f"kind that {name!r} is like", changes["like"], (SINGLE, MULTI))
    check_own_settings(f"kind {name!r}", changes, dataset)
    return name


def _check_list(key: str, value: object) -> list:
    """Return ``value`` as a list if it is a list of different items, and not empty.

    Raises:
        UsageError: it is not.
    """
    if not isinstance(value, list | tuple) or not value:
        raise UsageError(f"{key} must be a list, got {value!r}")
    for i, item in enumerate(value):
        if item in value[:i]:
            raise UsageError(f"{key} has {item!r} twice")
    return list(value)
