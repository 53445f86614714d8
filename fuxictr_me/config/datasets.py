"""Check the settings of a data set, and find its raw files."""

import re
from pathlib import Path

from fuxictr_me.config.columns import check_columns, check_feature_specs, check_label_columns, get_column_names
from fuxictr_me.config.dataset_options import DATASET_OPTIONS, READING_OPTIONS
from fuxictr_me.config.divided_data import check_division
from fuxictr_me.config.pretrained import check_pretrained
from fuxictr_me.config.raw_endings import CSV, PARQUET, ending
from fuxictr_me.config.splits import DATA_KEYS, is_divided
from fuxictr_me.config.value_kinds import short_repr
from fuxictr_me.errors import UsageError, missing, unknown

NAMED_ELSEWHERE = ("dataset_id", "model_id", "model", "expid")  # an entry is named by its key


def check_entry_keys(dataset_id: str, entry: dict, known: set[str]) -> None:
    """Raise a UsageError for a key of an entry of ``dataset_config.yaml`` that is not among ``known``."""
    for key in entry:
        if key == "dataset_id" and _is_autotuner_copy(dataset_id, entry[key]):
            continue
        if key not in known or key in NAMED_ELSEWHERE:
            raise unknown(f"key of data set {dataset_id!r}", key, known - set(NAMED_ELSEWHERE))


def _is_autotuner_copy(dataset_id: str, name_inside: object) -> bool:
    """Return whether FuxiCTR's autotuner may have written an entry that has a ``dataset_id``.

    It copies an entry under its name, with or without a hash behind it, and its scripts use the name inside.
    """
    is_text = isinstance(name_inside, str) and bool(name_inside)
    return is_text and re.fullmatch(rf"{re.escape(str(name_inside))}(_[0-9a-f]{{8}})?", dataset_id) is not None


def check_dataset_values(params: dict) -> None:
    """Check every value of a data set's settings and columns, without looking for files.

    Args:
        params: merged settings of a run, or of a data set with its ``dataset_id``. If a column of ``feature_cols``
            leaves out ``active``, it is filled in here.

    Raises:
        UsageError: a value is wrong or missing.
    """
    dataset_id = params["dataset_id"]
    for key in ("data_root", "data_format"):
        if params.get(key) is None:
            raise UsageError(f"{key} must be set for data set {dataset_id!r}, got {params.get(key)!r}")
    for key, option in (DATASET_OPTIONS | READING_OPTIONS).items():
        if key in params:
            option.check(params[key])
    check_division(params, is_built(params))
    for key in ("train_data",) if is_divided(params) else ("train_data", "valid_data"):
        if not params.get(key):
            raise UsageError(f"{key} of data set {dataset_id!r} is not set")
    check_feature_specs(params.get("feature_specs"))
    columns, labels = params.get("feature_cols"), params.get("label_col")
    if (params["data_format"] == "csv" or (columns and not labels)) and not (columns and labels):
        needs = "to read csv" if params["data_format"] == "csv" else "to build it"
        if params["data_format"] == "csv" or not is_built(params):
            raise UsageError(f"feature_cols and label_col of data set {dataset_id!r} must be set {needs}")
    if columns and labels:
        params["feature_cols"] = check_columns(columns, labels)
        if not is_built(params):
            _check_used_fields(params)
    elif labels:
        check_label_columns(labels)
    elif columns is not None and not isinstance(columns, list):
        raise UsageError(f"feature_cols must be a list of columns, got {short_repr(columns)}")


def check_dataset(params: dict, folder: Path = Path("config")) -> None:
    """Check the settings of a data set, and find its files.

    Args:
        params: settings; the paths in them are completed in place.
        folder: the config folder; paths may also be relative to the folder that holds it.

    Raises:
        UsageError: a value is wrong or missing, or a file does not exist.
    """
    check_dataset_values(params)
    for key in DATA_KEYS:
        if params.get(key):
            params[key] = _locate(key, params[key], folder)
    csv = not is_built(params) and _is_csv(params["train_data"])
    for column in params.get("feature_cols") or []:
        if csv and column["type"] == "embedding" and column["active"]:
            raise UsageError(
                f"column {column['name']!r} of type embedding holds vectors, which csv cannot: use parquet"
            )
        if csv and column["type"] == "sequence" and column.get("fill_na", "") is None:
            raise UsageError(f"fill_na of column {column['name']!r} must be text: null leaves a sequence without items")
        if "pretrained_emb" in column:
            column["pretrained_emb"] = _locate("pretrained_emb", column["pretrained_emb"], folder)
            check_pretrained(column, params.get("embedding_dim"))


def _check_used_fields(params: dict) -> None:
    """Check that ``use_features``, ``feature_specs`` and ``group_id`` name columns that are built."""
    fields = [name for column in params["feature_cols"] if column["active"] for name in get_column_names(column)]
    specs = [name for spec in params.get("feature_specs") or [] for name in get_column_names(spec)]
    for key, names in (("use_features", params.get("use_features") or []), ("feature_specs", specs)):
        for name in names:
            if name not in fields:
                raise unknown(f"field in {key}", name, fields)
    if params.get("group_id") and params["group_id"] not in fields:
        raise unknown("group_id (a feature of type meta)", params["group_id"], fields)


def is_built(params: dict) -> bool:
    """Return whether the settings of a data set name files of ids, so that nothing has to be built."""
    raw = params.get("feature_cols") and params.get("rebuild_dataset", True)
    return params["data_format"] != "csv" and not raw


def _is_csv(path: str) -> bool:
    """Return whether the raw files of a split are csv; ``.txt`` files beside parquet are notes."""
    place = Path(path)
    files = place.iterdir() if place.is_dir() else [place, *_matches(place, place.name)]
    endings = {ending(file) for file in files}
    return not endings.isdisjoint(CSV) and endings.isdisjoint(PARQUET)


def _locate(key: str, value: str, folder: Path) -> str:
    """Return a path as it is, or relative to the folder that holds the config folder."""
    tried = [Path(value), folder.resolve().parent / value]
    for path in tried:
        names = (path.name, *(f"{path.name}.{kind}" for kind in ("parquet", "npz", "h5")))  # as FuxiCTR does
        exists = any((path.parent / name).exists() for name in names)  # first, because a name may look like a pattern
        if path.is_dir() or exists or any(_matches(path, name) for name in names):
            return str(path if path == tried[0] else path.resolve())
    from_entry = value.startswith("..") and not Path(value).parent.is_dir()  # as the bundled test data are named
    raise missing(key, tried[1] if from_entry else tried[0])


def _matches(path: Path, name: str) -> list[Path]:
    try:
        return list(path.parent.glob(name))
    except (ValueError, NotImplementedError, OSError):  # not a valid pattern: ``**x``, or an absolute path
        return []
