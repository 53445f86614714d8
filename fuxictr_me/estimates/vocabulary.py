"""The shape of a data set that is not built yet: from its config and the number of ids of each field."""

import json
import tempfile
from pathlib import Path

from fuxictr_me.config import bundled_datasets
from fuxictr_me.data import feature_maps
from fuxictr_me.data.manifest import read_manifest
from fuxictr_me.errors import UsageError, check_positive_int, missing


def published(dataset_id):
    """Return the bundled folder of a data set, None where no bundled config has it."""
    entry = bundled_datasets().get(dataset_id)
    return None if entry is None else entry[1].parent


def read_vocabulary(path):
    """Field -> rows of its table, from a JSON file.

    Raises:
        UsageError: not such a file.
    """
    try:
        content = json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise missing("vocabulary file", path) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a JSON file of field: number of ids: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold field: number of ids, got {type(content).__name__}")
    return {
        field: check_positive_int(f"the number of ids of field {field!r} in {path}", n) for field, n in content.items()
    }


def feature_map_of(params, vocabulary):
    """The feature map that building would give, but for the vocabularies, which are given.

    Args:
        params (dict): settings of a run, ``feature_cols`` and ``label_col`` among them.
        vocabulary (dict): categorical field -> rows of its table.

    Returns:
        FeatureMap

    Raises:
        UsageError: a field whose ids are not given, or of a type whose shape no config tells.
    """
    features = []
    for column in _as_list(params.get("feature_cols")):
        names = _as_list(column["name"]) if column.get("active", True) else []
        features += [{name: _spec(name, column, vocabulary)} for name in names]
    labels = [column["name"] for column in _as_list(params["label_col"])]
    content = {"dataset_id": params["dataset_id"], "labels": labels, "features": features}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "feature_map.json").write_text(json.dumps(content))
        return feature_maps.load(folder, params["dataset_id"], params)


def rows_of(params, folder):
    """Rows of each split: of a built set by its manifest, else as published; those that are known.

    Args:
        params (dict): settings of a run.
        folder (Path): where the set is, or would be.

    Returns:
        dict: ``train``, ``valid``, ``test`` -> rows.
    """
    splits = (read_manifest(folder) or {}).get("splits", {})
    rows = {split: entry.get("rows") for split, entry in splits.items()}
    source = published(params["dataset_id"])
    if not rows and source and (source / "files.json").exists():
        files = json.loads((source / "files.json").read_text())["files"]
        names = {split: Path(params.get(f"{split}_data") or "").name for split in ("train", "valid", "test")}
        rows = {split: files.get(name, {}).get("rows") for split, name in names.items()}
    return {split: count for split, count in rows.items() if count}


def _spec(name, column, vocabulary):
    if column["type"] == "numeric":
        return {"source": column.get("source", ""), "type": "numeric"}
    if column["type"] != "categorical":
        raise UsageError(f"field {name!r} is of type {column['type']}, whose shape is known once the data set is built")
    if name not in vocabulary:
        raise UsageError(f"the vocabulary says nothing of field {name!r} (it has {', '.join(vocabulary) or 'none'})")
    return {
        "source": column.get("source", ""),
        "type": "categorical",
        "padding_idx": 0,
        "vocab_size": vocabulary[name],
        **{key: column[key] for key in ("share_embedding", "embedding_dim") if key in column},
    }


def _as_list(value):
    return value if isinstance(value, list) else [value] if value else []
