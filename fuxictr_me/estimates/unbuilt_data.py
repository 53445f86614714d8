"""Shape of a data set that is not built yet, from its config and the number of ids of each field."""

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

from fuxictr.features import FeatureMap

from fuxictr_me.config import bundled_datasets
from fuxictr_me.data import feature_maps
from fuxictr_me.data.manifest import read_manifest
from fuxictr_me.errors import UsageError, check_positive_int, missing


@functools.cache
def find_published_folder(dataset_id: str) -> Path | None:
    """Return the bundled config folder of a data set; None if there is none."""
    entry = bundled_datasets().get(dataset_id)
    return None if entry is None else entry[1].parent


def read_vocabulary(path: str | Path) -> dict[str, int]:
    """Read field -> number of ids, the rows of its table, from a JSON file.

    Raises:
        UsageError: there is no such file, or it has other content.
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


def make_feature_map(params: dict[str, Any], vocabulary: dict[str, int]) -> FeatureMap:
    """Return the feature map that the built data set would have, with given vocabulary sizes.

    Args:
        params: settings of a run, with ``feature_cols`` and ``label_col``.
        vocabulary: categorical field -> rows of its table.

    Raises:
        UsageError: the vocabulary lacks a field, or the shape of a field does not follow from the config.
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


def count_rows(params: dict[str, Any], folder: str | Path) -> dict[str, int]:
    """Return split -> rows, if known: from the manifest of the built set, else as published.

    Args:
        params: settings of a run.
        folder: where the data set is, or would be built.
    """
    splits = (read_manifest(folder) or {}).get("splits", {})
    rows = {split: entry.get("rows") for split, entry in splits.items()}
    source = find_published_folder(params["dataset_id"])
    if not rows and source and (source / "files.json").exists():
        files = json.loads((source / "files.json").read_text())["files"]
        names = {split: Path(params.get(f"{split}_data") or "").name for split in ("train", "valid", "test")}
        rows = {split: files.get(name, {}).get("rows") for split, name in names.items()}
    return {split: count for split, count in rows.items() if count}


def _spec(name: str, column: dict[str, Any], vocabulary: dict[str, int]) -> dict[str, Any]:
    if column["type"] == "numeric":
        return {"source": column.get("source", ""), "type": "numeric"}
    if column["type"] != "categorical":
        raise UsageError(
            f"field {name!r} is of type {column['type']}, whose shape is only known once the data set is built"
        )
    if name not in vocabulary:
        raise UsageError(f"the vocabulary does not have the field {name!r} (it has {', '.join(vocabulary) or 'none'})")
    return {
        "source": column.get("source", ""),
        "type": "categorical",
        "padding_idx": 0,
        "vocab_size": vocabulary[name],
        **{key: column[key] for key in ("share_embedding", "embedding_dim") if key in column},
    }


def _as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value] if value else []
