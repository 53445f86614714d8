"""The data of a run: the feature map of its built data set, and the batches of its splits."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fuxictr.features import FeatureMap
from fuxictr.utils import print_to_json

from fuxictr_me.compat.loaders import make_rank_loaders
from fuxictr_me.data import H5DataLoader, InMemoryLoader, feature_maps
from fuxictr_me.data.group_column import check_group_column
from fuxictr_me.data.npz_files import check_npz
from fuxictr_me.data.row_checks import BINARY
from fuxictr_me.errors import UsageError, unknown


def load_feature_map(data_dir: Path, params: dict) -> FeatureMap:
    """Return FuxiCTR's feature map of a built data set.

    Raises:
        UsageError: it is missing, incomplete, or lacks a feature that the settings name; or a ``group_id`` would merge
            groups.
    """
    feature_map = feature_maps.load(data_dir, params["dataset_id"], params)
    if feature_map.group_id and feature_map.group_id not in feature_map.features:
        raise unknown("group_id (a feature of type meta)", feature_map.group_id, feature_map.features)
    check_group_column(feature_map.group_id, feature_map.features, params)
    logging.info("Feature specs: " + print_to_json(feature_map.features))
    return feature_map


def load_split(feature_map: FeatureMap, params: dict, split: str, share: tuple[int, int] | None = None) -> Iterable:
    """Return the batches of a split.

    H5 and parquet files are read by this package's loaders, npz files and a ``data_loader`` of the config by FuxiCTR.

    Args:
        feature_map: of the built data set.
        params: settings of the run.
        split: ``train``, ``valid`` or ``test``.
        share: of H5, the part of this process: see ``H5DataLoader``.

    Raises:
        UsageError: see ``H5DataLoader`` and ``InMemoryLoader``.
    """
    path = params.get(f"{split}_data")
    if not path:
        raise UsageError(f"{split}_data is not set: a run needs training and validation data")
    shuffle = split == "train" and params.get("shuffle", True)
    if params["data_format"] == "npz" or params.get("data_loader") or params.get("streaming"):
        _check_loader(params.get("data_loader"))
        if params["data_format"] == "npz":
            check_npz(path, feature_map, params.get("task"))
        settings = {key: value for key, value in params.items() if not key.endswith("_data")} | {"shuffle": shuffle}
        stage, key = ("test", "test_data") if split == "test" else ("train", "train_data")
        loaders: Any = make_rank_loaders(feature_map, stage=stage, **settings, **{key: path})
        return loaders if split == "test" else loaders[0]
    common = {"split": split, "batch_size": params.get("batch_size", 32), "shuffle": shuffle}
    common |= {"seed": params.get("seed", 2024), "task": params.get("task", BINARY)}
    if params["data_format"] == "h5":
        settings = {key: params[key] for key in ("gpu", "data_placement", "window_rows") if key in params}
        return H5DataLoader(feature_map, path, **common, **settings, share=share)
    return InMemoryLoader(feature_map, path, **common)


def _check_loader(loader: object) -> None:
    """Refuse what yields no batches: YAML's ``!!python/name:`` can name any function of an imported module."""
    if loader is not None and not (isinstance(loader, type) and hasattr(loader, "__iter__")):
        wanted = "data_loader must be a class that gives batches, e.g. fuxictr_me.data.H5DataLoader"
        raise UsageError(f"{wanted}, got {loader!r}")
