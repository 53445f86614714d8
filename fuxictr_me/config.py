"""A run's settings, from FuxiCTR's YAML files."""

from pathlib import Path

import yaml
from fuxictr.utils import load_config

from fuxictr_me.errors import UsageError, missing, unknown
from fuxictr_me.find_model import find_model, is_ours
from fuxictr_me.resources import zoo_configs
from fuxictr_me.settings import check_gpu, check_model_settings

RAW_DTYPES = ("str", "int", "float")
FIELD_TYPES = ("categorical", "numeric", "sequence", "embedding", "meta")
DEFAULTS = {"model_root": "./checkpoints/", "metrics": ["AUC", "logloss"], "verbose": 1}  # ours; FuxiCTR has none
DATA_FORMATS = ("csv", "parquet", "npz", "h5")


def find_config(expid):
    """The config folder in the bundled model zoo that has ``expid``.

    Raises:
        UsageError: none has.
    """
    expids = {}
    for folder in zoo_configs().values():
        expids |= dict.fromkeys(read_entries(folder, "model_config"), folder)
    if expid not in expids:
        raise unknown("expid (of the bundled model zoo; --config names another folder)", expid, _runnable(expids))
    return expids[expid]


def load_settings(config, expid, gpu=-1, find_data=True):
    """FuxiCTR's ``load_config``, with every name and path in it checked.

    A path of raw data that does not exist as seen from the working directory is looked for from the folder
    that holds the config folder, where FuxiCTR's scripts would have changed to.

    Args:
        config (str): the folder.
        expid (str): experiment id.
        gpu (int): device.
        find_data (bool): whether the raw data must be there.

    Returns:
        dict: the merged settings, ``gpu`` and ``model_id`` included.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    params = read_params(config, expid)
    params["gpu"] = gpu
    check_gpu(gpu)
    model_class = find_model(params.get("model"), Path(config).resolve().parent)
    if not is_ours(model_class):
        params = DEFAULTS | params
    check_model_settings(model_class, params)
    if find_data:
        check_dataset(params, Path(config))
    return params


def read_params(config, expid):
    """The merged settings of an experiment of any model.

    Args:
        config (str): the folder.
        expid (str): experiment id.

    Returns:
        dict: as FuxiCTR's ``load_config`` gives them.

    Raises:
        UsageError: no such folder, expid or dataset_id.
    """
    folder = Path(config)
    if not folder.is_dir():
        raise missing("config folder", config)
    experiments = read_entries(folder, "model_config")
    if expid not in experiments or expid == "Base":
        raise unknown(f"expid in {config}", expid, _runnable(experiments))
    merged = {**experiments.get("Base", {}), **experiments[expid]}
    dataset_id, datasets = merged.get("dataset_id"), read_entries(folder, "dataset_config")
    if dataset_id == "TBD":
        raise UsageError(f"{expid} is a template: copy it and set its dataset_id (known: {', '.join(datasets)})")
    if dataset_id not in datasets:
        raise unknown(f"dataset_id in {config}", dataset_id, datasets)
    return load_config(str(folder), expid)


def check_dataset(params, folder=Path("config")):
    """Check the settings of a data set, and find its files.

    Args:
        params (dict): its paths are completed in place.
        folder (Path): the config folder; paths are also looked for from the folder that holds it.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    for key in ("data_root", "data_format", "model_root"):
        if not isinstance(params.get(key, "./checkpoints/" if key == "model_root" else None), str):
            raise UsageError(f"{key} must be set for data set {params['dataset_id']!r}, got {params.get(key)!r}")
    if not isinstance(params.get("use_features") or [], list):
        raise UsageError(f"use_features must be a list of fields, got {params['use_features']!r}")
    if params["data_format"] not in DATA_FORMATS:
        raise unknown("data_format", params["data_format"], DATA_FORMATS)
    columns = _as_list(params.get("feature_cols"))
    if params["data_format"] == "csv" and not (columns and params.get("label_col")):
        raise UsageError(f"feature_cols and label_col of data set {params['dataset_id']!r} must be set to read csv")
    names = {name for column in columns if isinstance(column, dict) for name in _as_list(column.get("name"))}
    for column in columns:
        _check_column(column, ("name", "active", "dtype", "type"))
        if column["type"] not in FIELD_TYPES:
            raise unknown(f"type of column {column['name']!r}", column["type"], FIELD_TYPES)
        if "share_embedding" in column and column["share_embedding"] not in names:
            raise unknown(f"share_embedding of column {column['name']!r}", column["share_embedding"], names)
        if "pretrained_emb" in column:
            column["pretrained_emb"] = _locate("pretrained_emb", column["pretrained_emb"], folder)
    for column in _as_list(params.get("label_col")):
        _check_column(column, ("name", "dtype"))
    for key in ("train_data", "valid_data", "test_data"):
        if params.get(key):
            params[key] = _locate(key, params[key], folder)
    for key in ("train_data", "valid_data"):
        if not params.get(key):
            raise UsageError(f"{key} of data set {params['dataset_id']!r} is not set")
    for key in ("valid_size", "test_size"):
        if params.get(key):
            raise UsageError(f"{key}: FuxiCTR 2.3.10 fails to split by size; give a file of its own to each split")


def is_built(params):
    """Whether the settings of a data set name ids, which nothing has to be built from."""
    raw = params.get("feature_cols") and params.get("rebuild_dataset", True)
    return params["data_format"] != "csv" and not raw


def _check_column(column, keys):
    if not isinstance(column, dict) or (absent := [key for key in keys if key not in column]):
        lacks = f"lacks {', '.join(absent)}" if isinstance(column, dict) else "is none"
        raise UsageError(f"a column needs {', '.join(keys)}; {column!r} {lacks}")
    if column["dtype"] not in RAW_DTYPES:  # FuxiCTR evaluates it as Python
        raise unknown(f"dtype of column {column['name']!r}", column["dtype"], RAW_DTYPES)


def _locate(key, value, folder):
    """The path as it is, or as seen from the entry that holds the config folder."""
    tried = [Path(value), folder.resolve().parent / value]
    for path in tried:
        names = (path.name, *(f"{path.name}.{kind}" for kind in ("parquet", "npz", "h5")))  # FuxiCTR completes names so
        if path.exists() or any(True for name in names for _ in path.parent.glob(name)):
            return str(path if path == tried[0] else path.resolve())
    from_entry = value.startswith("..") and not Path(value).parent.is_dir()  # as the bundled test data are named
    raise missing(key, tried[1] if from_entry else tried[0])


def read_entries(folder, name):
    """All entries of ``<name>.yaml``, or of the files in ``<name>/``, as FuxiCTR looks for them."""
    files = [folder / f"{name}.yaml"] if (folder / f"{name}.yaml").is_file() else sorted((folder / name).glob("*.yaml"))
    if not files:
        raise UsageError(f"no {name}.yaml in {folder}")
    entries = {}
    for file in files:
        try:
            content = yaml.load(file.read_text(), Loader=yaml.FullLoader)  # noqa: S506 - FuxiCTR's own choice
        except yaml.YAMLError as error:
            raise UsageError(f"{file} is not valid YAML: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise UsageError(f"{file} must hold entries by name, got {type(content).__name__}")
        for key, entry in content.items():
            if not isinstance(entry, dict):
                raise UsageError(f"{key} in {file} must hold settings by name, got {entry!r}")
        entries |= content
    return entries


def _runnable(experiments):
    return [name for name in experiments if name != "Base"]


def _as_list(value):
    return value if isinstance(value, list) else [value] if value else []
