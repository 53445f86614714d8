"""Check what FuxiCTR's own scripts would evaluate as Python, in a config and in a feature map.

A run of this package checks every key and value. A script of FuxiCTR's may read keys of its own, so that here only
those settings are looked at which FuxiCTR hands to ``eval``, or takes the name of a method from.
"""

import re

from fuxictr_me.config.expressions import check_feature_encoder, check_initializer, check_preprocess
from fuxictr_me.config.value_kinds import short_repr
from fuxictr_me.errors import UsageError

DTYPES = ("str", "int", "float", "list")
NAME = r"[A-Za-z_]\w*"
METRIC = rf"{NAME}(\((k=)?\d{{1,4}}\))?"  # AUC, NDCG(k=5)
PARTS = ("feature_cols", "label_col", "feature_specs")  # of a config; each holds columns


def check_evaluated(params: dict) -> None:
    """Check the settings of a run that FuxiCTR's ``load_config`` returned.

    Raises:
        UsageError: one line: what is wrong, what was found, what is allowed.
    """
    for key in PARTS:
        value = params.get(key) or []
        for column in value if isinstance(value, list) else [value]:
            if isinstance(column, dict):
                _check_column(column)
    if (initializer := params.get("embedding_initializer")) is not None:
        check_initializer(initializer)
    for key, pattern in (("loss", NAME), ("metrics", METRIC), ("optimizer", NAME)):
        value = params.get(key) or []
        for one in value if isinstance(value, list | tuple) else [value]:
            if isinstance(one, str) and not re.fullmatch(pattern, one):
                raise UsageError(f"{key} must be a plain name, got {short_repr(one)}")


def check_encoders(path: str, features: dict) -> None:
    """Check ``feature_encoder`` of each feature of a map that FuxiCTR has read from ``path``.

    Raises:
        UsageError: anything but a layer with literal arguments.
    """
    for name, spec in features.items():
        check_feature_encoder(f"feature_encoder of feature {name!r} in {path}", spec.get("feature_encoder"))


def _check_column(column: dict) -> None:
    of = f" of column {short_repr(column.get('name'))}"
    check_feature_encoder(f"feature_encoder{of}", column.get("feature_encoder"))
    check_preprocess(f"preprocess{of}", column.get("preprocess"))
    dtype = column.get("dtype")
    if isinstance(dtype, str) and dtype not in DTYPES:
        raise UsageError(f"dtype{of} must be one of {', '.join(DTYPES)}, got {short_repr(dtype)}")
