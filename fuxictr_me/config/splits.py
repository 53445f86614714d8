"""Names of the splits of a data set, the settings that hold their paths, and those that divide one file into splits."""

from typing import Any

SPLITS = ("train", "valid", "test")
DATA_KEYS = tuple(f"{split}_data" for split in SPLITS)
SPLIT_TYPES = ("sequential", "random", "time")
SPLIT_SEED = 2024
DIVIDING_KEYS = ("valid_size", "test_size", "split_type", "split_by", "split_seed")


def is_divided(params: dict) -> bool:
    """Return whether rows of ``train_data`` become validation and test rows, by ``valid_size`` and ``test_size``."""
    return bool(params.get("valid_size") or params.get("test_size"))


def get_split_names(params: dict) -> list[str]:
    """Return the splits that a data set with these settings has."""
    return [split for split in SPLITS if params.get(f"{split}_data") or params.get(f"{split}_size")]


def get_dividing_settings(params: dict) -> dict[str, Any]:
    """Return the settings on which the division into splits depends, defaults filled in; {} if nothing is divided."""
    if not is_divided(params):
        return {}
    kind = params.get("split_type") or "sequential"
    settings = {"valid_size": params.get("valid_size") or 0, "test_size": params.get("test_size") or 0}
    settings["split_type"] = kind
    if kind == "random":
        settings["split_seed"] = SPLIT_SEED if params.get("split_seed") is None else params["split_seed"]
    if kind == "time":
        settings["split_by"] = params["split_by"]
    return settings
