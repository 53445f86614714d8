"""Check a feature map before it is used: it may come from somebody else, and FuxiCTR evaluates text in it."""

from pathlib import Path

from fuxictr_me.config.dataset_options import COLUMN_OPTIONS, FIELD_TYPES, WITH_VOCABULARY
from fuxictr_me.config.names import check_column_name, check_field_name, check_plain_name, check_unique
from fuxictr_me.config.value_kinds import Checked, Choice, Integer, Kind, ListOf, Optional, Text, short_repr
from fuxictr_me.errors import UsageError

COUNT = Integer(0, 2**62)


def _check_file_name(label: str, value: object) -> None:
    check_plain_name(label, value)


KINDS: dict[str, Kind] = {  # of the values in a feature's entry
    "type": Choice(*FIELD_TYPES),
    "source": COLUMN_OPTIONS["source"].kind,
    "vocab_size": Integer(1),
    "max_len": COLUMN_OPTIONS["max_len"].kind,
    "padding_idx": Optional(COUNT),
    "oov_idx": Optional(COUNT),
    "feature_encoder": COLUMN_OPTIONS["feature_encoder"].kind,
    "embedding_dim": Integer(1),
    "emb_output_dim": Integer(1),
    "share_embedding": Text(),
    "pretrained_emb": Checked("a file beside the feature map", _check_file_name),
    "pretrain_dim": Integer(1),
    "pretrain_usage": COLUMN_OPTIONS["pretrain_usage"].kind,
    "freeze_emb": COLUMN_OPTIONS["freeze_emb"].kind,
}
REQUIRED = {
    "categorical": ("vocab_size",),
    "sequence": ("vocab_size", "max_len"),
    "embedding": ("pretrain_dim",),
    "numeric": (),
    "meta": (),
}


def check_feature_map_content(path: Path, content: dict) -> None:
    """Check what is read of a feature map's JSON, in the form of FuxiCTR 2.3.

    Args:
        path: the file, for errors.
        content: its content.

    Raises:
        UsageError: something is missing or wrong. The error names the file and the feature.
    """
    for key in ("dataset_id", "features"):
        if key not in content:
            raise UsageError(f"{path} is not a valid feature map: it has no {key}")
    check_plain_name(f"dataset_id in {path}", content["dataset_id"])
    ListOf(Text(), "a list of names", unique=True, least=0).check(f"labels in {path}", content.get("labels", []))
    for key in ("num_fields", "total_features", "input_length"):
        if key in content:
            COUNT.check(f"{key} in {path}", content[key])
    features = content["features"]
    if not isinstance(features, list) or not all(isinstance(one, dict) and len(one) == 1 for one in features):
        raise UsageError(
            f"features in {path} must be a list of one name and what it is each, got {short_repr(features)}"
        )
    check_unique(f"{path}: feature", [name for one in features for name in one])
    check_features(str(path), {name: spec for one in features for name, spec in one.items()})


def check_features(where: str, features: dict[str, dict]) -> None:
    """Check the features of a feature map: types and ranges, and that text which FuxiCTR evaluates holds no code.

    Args:
        where: the file, for errors.
        features: name -> entry.

    Raises:
        UsageError: something is missing or wrong. The error names the feature.
    """
    for name, spec in features.items():
        of = f" of feature {name!r} in {where}"
        check_column_name(name)
        if not isinstance(spec, dict) or "type" not in spec:
            raise UsageError(f"feature {name!r} in {where} has no type: {short_repr(spec)}")
        for key, kind in KINDS.items():
            if key in spec:
                kind.check(f"{key}{of}", spec[key])
        if lacking := [key for key in REQUIRED[spec["type"]] if key not in spec]:
            raise UsageError(f"{', '.join(lacking)}{of} is missing")
        if spec["type"] != "meta":
            check_field_name(name)
        if spec["type"] in WITH_VOCABULARY:
            _check_table(of, spec)


def _check_table(of: str, spec: dict) -> None:
    """Check that the rows of padding and of unknown ids are in the table, and that pretrained vectors are complete."""
    for key in ("padding_idx", "oov_idx"):
        if (spec.get(key) or 0) >= spec["vocab_size"]:
            raise UsageError(f"{key}{of} is {spec[key]}, but its table has {spec['vocab_size']} rows")
    if "pretrained_emb" in spec and (lacking := [key for key in ("oov_idx", "freeze_emb") if spec.get(key) is None]):
        raise UsageError(f"{', '.join(lacking)}{of} is missing, which its pretrained vectors need")
