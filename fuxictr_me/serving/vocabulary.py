"""``vocabulary.json``: how a raw row becomes what a model takes, for a server that has no FuxiCTR."""

import polars as pl

from fuxictr_me.errors import UsageError
from fuxictr_me.serving.compare import inputs_of
from fuxictr_me.serving.export_embeddings import VOCABULARY, read_vocabulary
from fuxictr_me.serving.origin import raw_columns

OOV, PAD = "__OOV__", "__PAD__"


def make_vocabulary(feature_map, origin):
    """All that ``predict.py`` asks for.

    Args:
        feature_map (FeatureMap): of a run.
        origin (Origin): of its data set.

    Returns:
        dict: ``fields``: name -> how its raw value is encoded; ``vocabularies``: name -> {raw value as text: id}, once
        for fields that share one; ``sep``: of csv.

    Raises:
        UsageError: what it takes is not there, with the reason.
    """
    tokens, columns, dtypes = read_vocabulary(origin.folder), origin.columns, inputs_of(feature_map)
    if tokens is None:
        raise UsageError(f"{origin.folder} has no {VOCABULARY}")
    raw, normalizers = raw_columns(columns), normalizer_numbers(feature_map, origin)
    fields, vocabularies = {}, {}
    for name, (dtype, shape) in dtypes.items():
        spec = feature_map.features[name]
        if name not in columns:
            raise UsageError(f"field {name!r} is not among the feature_cols that {origin.folder} was made from")
        field = {"type": spec["type"], "column": raw[name].name, "dtype": raw[name].dtype, "fill": raw[name].fill}
        field["input"] = str(dtype).removeprefix("torch.")
        if spec["type"] in ("categorical", "sequence"):
            base = shared_name(name, feature_map.features, tokens)
            vocabularies[base] = known = tokens[base]
            field["dtype"] = raw[name].dtype or text_dtype(known)
            field |= {"vocabulary": base, "oov": known[OOV], "padding_id": known[PAD], "size": spec["vocab_size"]}
        if spec["type"] == "sequence":
            own = {"splitter": columns[name].get("splitter", "^"), "padding": columns[name].get("padding", "post")}
            field |= {**own, "max_len": shape[0]}
        if spec["type"] == "embedding":
            field["dim"] = shape[0]
        fields[name] = field | normalizers.get(name, {})
    return {"fields": fields, "vocabularies": vocabularies, "sep": origin.sep}


def shared_name(name, features, tokens):
    """The field whose vocabulary ``name`` reads: the last that its ``share_embedding`` leads to.

    Raises:
        UsageError: a field without a vocabulary.
    """
    if name not in tokens or not {OOV, PAD} <= tokens[name].keys():
        raise UsageError(f"{VOCABULARY} has no vocabulary of field {name!r}")
    base = features[name].get("share_embedding")
    if base in features and base in tokens and tokens[base] == tokens[name]:
        return shared_name(base, features, tokens)
    return name


def text_dtype(tokens):
    """``int`` where all raw values are whole numbers as text, else ``str``: of what ``preprocess`` has made."""
    numbers = (token.removeprefix("-").isdigit() for token in tokens if token not in (OOV, PAD))
    return "int" if all(numbers) else "str"


def normalizer_numbers(feature_map, origin):
    """What normalised fields are made of: (x - shift) / scale.

    FuxiCTR keeps these numbers in a pickle alone, which could run code: they are computed once more, as it does, from
    the raw training data.

    Returns:
        dict: field -> {"normalizer", "shift", "scale"}.

    Raises:
        UsageError: raw training data that are gone or have changed.
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
    rows = origin.preprocessed("train").select(bounds).collect(engine="streaming").row(0, named=True)
    return {
        name: {"normalizer": kind, "shift": float(rows[f"{name} shift"]), "scale": float(rows[f"{name} scale"]) or 1.0}
        for name, kind in kinds.items()
    }
