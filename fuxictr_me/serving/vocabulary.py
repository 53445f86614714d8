"""``vocabulary.json``: how raw rows become inputs of a model, for a server without FuxiCTR."""

from typing import Any

import polars as pl
from fuxictr.features import FeatureMap

from fuxictr_me.errors import UsageError
from fuxictr_me.serving.compare_predictions import model_inputs
from fuxictr_me.serving.data_origin import DataOrigin, find_raw_columns
from fuxictr_me.serving.export_embeddings import VOCABULARY, read_vocabulary

OOV, PAD = "__OOV__", "__PAD__"


def make_vocabulary(feature_map: FeatureMap, origin: DataOrigin) -> dict[str, Any]:
    """Return the content of ``vocabulary.json``.

    Args:
        feature_map: of a run.
        origin: of its data set.

    Returns:
        ``fields``: name -> how its raw value is encoded; ``vocabularies``: name -> {raw value as text: id}, one for
        all fields that share it; ``sep``: separator of csv columns.

    Raises:
        UsageError: something that is needed is missing.
    """
    tokens, columns, dtypes = read_vocabulary(origin.folder), origin.columns, model_inputs(feature_map)
    if tokens is None:
        raise UsageError(f"{origin.folder} has no {VOCABULARY}")
    raw, normalizers = find_raw_columns(columns), compute_normalizers(feature_map, origin)
    fields: dict[str, Any] = {}
    vocabularies: dict[str, dict[str, int]] = {}
    for name, (dtype, shape) in dtypes.items():
        spec = feature_map.features[name]
        if name not in columns:
            raise UsageError(f"field {name!r} is not among the feature_cols from which {origin.folder} was built")
        field = {"type": spec["type"], "column": raw[name].name, "dtype": raw[name].dtype, "fill": raw[name].fill}
        field["input"] = str(dtype).removeprefix("torch.")
        if spec["type"] in ("categorical", "sequence"):
            base = _find_base_field(name, feature_map.features, tokens)
            vocabularies[base] = known = tokens[base]
            field["dtype"] = raw[name].dtype or _guess_dtype(known)
            field |= {"vocabulary": base, "oov": known[OOV], "padding_id": known[PAD], "size": spec["vocab_size"]}
        if spec["type"] == "sequence":
            field |= {"splitter": columns[name].get("splitter", "^"), "padding": columns[name].get("padding", "post")}
            field["max_len"] = shape[0]
        if spec["type"] == "embedding":
            field["dim"] = shape[0]
        fields[name] = field | normalizers.get(name, {})
    return {"fields": fields, "vocabularies": vocabularies, "sep": origin.sep}


def _find_base_field(name: str, features: dict[str, Any], tokens: dict[str, dict[str, int]]) -> str:
    """Return the field whose vocabulary ``name`` uses: the end of its chain of ``share_embedding``.

    Raises:
        UsageError: the field has no vocabulary.
    """
    if name not in tokens or not {OOV, PAD} <= tokens[name].keys():
        raise UsageError(f"{VOCABULARY} has no vocabulary of field {name!r}")
    base = features[name].get("share_embedding")
    if base in features and base in tokens and tokens[base] == tokens[name]:
        return _find_base_field(base, features, tokens)
    return name


def _guess_dtype(tokens: dict[str, int]) -> str:
    """Return ``int`` if all raw values (which ``preprocess`` computed) are whole numbers, else ``str``."""
    numbers = (token.removeprefix("-").isdigit() for token in tokens if token not in (OOV, PAD))
    return "int" if all(numbers) else "str"


def compute_normalizers(feature_map: FeatureMap, origin: DataOrigin) -> dict[str, dict[str, Any]]:
    """Return the numbers of normalised fields, (x - shift) / scale: field -> {"normalizer", "shift", "scale"}.

    FuxiCTR only keeps these numbers in a pickle, which could run code. They are computed again, as FuxiCTR does, from
    the raw training data.

    Raises:
        UsageError: raw training data are missing or have changed.
    """
    columns = {name: column for name, column in origin.columns.items() if name in feature_map.features}
    kinds = {n: c["normalizer"] for n, c in columns.items() if c["type"] == "numeric" and c.get("normalizer")}
    if not kinds:
        return {}
    bounds = []
    for name, kind in kinds.items():
        x = pl.col(name).drop_nulls()
        low, width = (x.mean(), x.std(ddof=0)) if kind == "StandardScaler" else (x.min(), x.max() - x.min())
        bounds += [low.alias(f"{name} shift"), width.alias(f"{name} scale")]
    rows = origin.preprocess("train").select(bounds).collect(engine="streaming").row(0, named=True)
    return {
        name: {"normalizer": kind, "shift": float(rows[f"{name} shift"]), "scale": float(rows[f"{name} scale"]) or 1.0}
        for name, kind in kinds.items()
    }
