"""Reading of FuxiCTR's feature maps, of every version since 1.0."""

import json
import logging
from pathlib import Path

from fuxictr.features import FeatureMap

from fuxictr_me.config.columns import check_feature_specs
from fuxictr_me.config.feature_map import check_feature_map_content, check_features
from fuxictr_me.data.manifest_checks import check_listed_file
from fuxictr_me.errors import UsageError


def load(folder: str | Path, dataset_id: str | None = None, params: dict | None = None) -> FeatureMap:
    """Load the feature map of a built data set.

    Args:
        folder: of the data set.
        dataset_id: that the feature map must have; None accepts any.
        params: settings of a run: ``use_features``, ``feature_specs``, ``group_id``, ``label_col``.

    Raises:
        UsageError: there is no feature map, it is damaged, or the settings name a feature that it does not have.
    """
    path, params = Path(folder) / "feature_map.json", params or {}
    check_listed_file(path)
    content = read_content(path)
    check_feature_specs(params.get("feature_specs"))
    is_version_1 = "feature_specs" in content
    if is_version_1:
        logging.info(f"{path} was written by FuxiCTR 1.x")
        try:
            content = _convert_version_1(content, params.get("label_col"))
        except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
            raise UsageError(f"{path} is not a valid feature map of FuxiCTR 1.x: {error!r}") from error
    check_feature_map_content(path, content)
    feature_map = FeatureMap(dataset_id or content["dataset_id"], str(folder))
    try:
        if is_version_1:
            _fill_feature_map(feature_map, content, params)
        else:
            feature_map.load(str(path), params)
    except KeyError as error:
        raise UsageError(f"{path} has no feature {error}, which use_features or feature_specs names") from error
    except RuntimeError as error:
        raise UsageError(f"{path} is of another data set: {error}") from error
    if params.get("feature_specs"):
        check_features(f"{path} as feature_specs changes it", feature_map.features)
    return feature_map


def read_content(path: Path) -> dict:
    """Return the unchecked content of a feature map's file.

    Raises:
        UsageError: the file does not exist, or holds no JSON mapping.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UsageError(f"no feature map at {path}: is data_root right, has the data set been built?") from error
    except (ValueError, RecursionError) as error:  # JSON and Unicode errors are ValueErrors
        raise UsageError(f"{path} is not a valid feature map: {error}") from error
    if not isinstance(content, dict):
        raise UsageError(f"{path} is not a valid feature map: it holds a {type(content).__name__}")
    return content


def _convert_version_1(content: dict, label_col: object) -> dict:
    """Return a feature map of FuxiCTR 1.x in today's form: columns in the order of its ``index``, the label last.

    Args:
        content: of the JSON file.
        label_col: of the config, since a feature map of 1.x does not name its label; ``label`` if None.
    """

    def first_index(spec: dict) -> int:
        index = spec.get("index", 0)
        return index[0] if isinstance(index, list) else index

    specs = sorted(content["feature_specs"].items(), key=lambda item: first_index(item[1]))
    features = []
    for name, old in specs:
        spec = {key: value for key, value in old.items() if key not in ("index", "min_categr_count", "encoder")}
        if old["type"] == "sequence" and old.get("encoder"):
            spec["feature_encoder"] = f"layers.{old['encoder']}()"
        features.append({name: spec})
    label = label_col["name"] if isinstance(label_col, dict) else "label"
    return {
        "dataset_id": content["dataset_id"],
        "num_fields": content["num_fields"],
        "total_features": content.get("num_features", 0),
        "input_length": content.get("input_length", 0),
        "labels": [label],
        "features": features,
    }


def _fill_feature_map(feature_map: FeatureMap, content: dict, params: dict) -> None:
    """Do what ``FeatureMap.load`` does with the content of a file."""
    if content["dataset_id"] != feature_map.dataset_id:
        raise RuntimeError(f"dataset_id={feature_map.dataset_id} does not match feature_map!")
    feature_map.labels = content["labels"]
    feature_map.total_features = content["total_features"]
    feature_map.input_length = content["input_length"]
    feature_map.group_id = params.get("group_id")
    feature_map.default_emb_dim = params.get("embedding_dim")
    features = {name: spec for entry in content["features"] for name, spec in entry.items()}
    feature_map.features.update({name: features[name] for name in params.get("use_features") or features})
    feature_map.num_fields = feature_map.get_num_fields()
    if params.get("feature_specs"):
        feature_map.update_feature_specs(params["feature_specs"])
    feature_map.set_column_index()
