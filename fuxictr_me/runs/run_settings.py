"""The settings of a run: its config, checked against the model that it names."""

from collections.abc import Mapping
from pathlib import Path

from fuxictr_me.config.columns import check_label_columns
from fuxictr_me.config.datasets import check_dataset
from fuxictr_me.config.known_keys import WRAPPING_KEYS, find_known_keys
from fuxictr_me.config.lookup import read_params
from fuxictr_me.config.model_registry import get_backbone, is_fuxictr_me_model
from fuxictr_me.config.overrides import check_override_keys
from fuxictr_me.config.training_settings import check_gpu, check_labels, check_model_settings, list_computed_metrics
from fuxictr_me.config.yaml_files import LoaderName
from fuxictr_me.data import H5DataLoader
from fuxictr_me.zoo.find_model import find_model

DEFAULTS = {"model_root": "./checkpoints/", "metrics": ["AUC", "logloss"], "verbose": 1}  # FuxiCTR has no defaults


def load_settings(
    config: str | Path,
    expid: str,
    gpu: int = -1,
    find_data: bool = True,
    overrides: Mapping[str, object] | None = None,
) -> dict:
    """Return the merged settings of an experiment, with every key, value, name and path in them checked.

    A path of raw data that does not exist from the working directory is searched from the parent of the config folder,
    to which FuxiCTR's scripts would have changed. ``metrics`` also contains what ``monitor`` watches.

    Args:
        config: the folder.
        expid: experiment id.
        gpu: CUDA device, -1 for the CPU.
        find_data: whether the raw data must exist.
        overrides: settings in place of those of the config, see ``config.overrides``.

    Returns:
        The settings, with ``gpu`` and ``model_id``.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    params = read_params(config, expid, overrides)
    if isinstance(params.get("data_loader"), LoaderName):
        params["data_loader"] = H5DataLoader  # the only loader that ``read_yaml`` accepts
    params["gpu"] = gpu
    check_gpu(gpu)
    model_class = find_model(params.get("model"), Path(config).resolve().parent)
    if not is_fuxictr_me_model(model_class):
        if overrides:
            in_config = read_params(config, expid).keys()
            known = {*in_config, *find_known_keys(model_class), *WRAPPING_KEYS}
            check_override_keys(overrides, known, f"setting of {get_backbone(model_class).__name__}")
        params = DEFAULTS | params
    check_model_settings(model_class, params)
    if params.get("label_col"):
        check_labels(model_class, params, [column["name"] for column in check_label_columns(params["label_col"])])
    params["metrics"] = list_computed_metrics(params)
    if find_data:
        check_dataset(params, Path(config))
    return params
