"""JSON schemas (draft 2020-12) of ``model_config.yaml`` and ``dataset_config.yaml``, made from the option table.

An editor with a YAML language server completes and checks configs by them. Commands check more than a schema can, for
example that files exist and that settings fit each other.
"""

import re
from collections.abc import Iterable

from fuxictr_me.config.callback_specs import CALLBACK_ARGUMENTS, find_required_arguments
from fuxictr_me.config.dataset_options import (
    COLUMN_OPTIONS,
    DATASET_OPTIONS,
    FIELD_TYPES,
    LABEL_OPTIONS,
    LEGACY_OPTIONS,
    READING_OPTIONS,
    SPEC_OPTIONS,
)
from fuxictr_me.config.datasets import NAMED_ELSEWHERE
from fuxictr_me.config.family_options import FAMILY_OPTIONS
from fuxictr_me.config.model_options import MODEL_OPTIONS, WRAPPING_OPTIONS
from fuxictr_me.config.options import UNSET, Option
from fuxictr_me.config.training_options import MULTI_TASK_OPTIONS, TRAINING_OPTIONS

Schema = dict[str, object]
DRAFT = "https://json-schema.org/draft/2020-12/schema"
HOST_OPTIONS = TRAINING_OPTIONS | READING_OPTIONS | DATASET_OPTIONS | LEGACY_OPTIONS
ALL_OPTIONS = WRAPPING_OPTIONS | MULTI_TASK_OPTIONS | MODEL_OPTIONS | HOST_OPTIONS
SHORTEST_TYPO = 6  # characters; shorter keys are near too many other words
# Keys of FuxiCTR's models that differ from one of fuxictr-me's by one character.
FUXICTR_KEYS = ("dcn_hidden_units", "hidden_activation", "mlp_batch_norm", "mlp_hidden_activations", "mlp_hidden_units")


def make_model_config_schema() -> Schema:
    """Return the schema of ``model_config.yaml``.

    Keys of FuxiCTR's own models are allowed, because a schema cannot know them. Near misses of known keys are refused.
    An experiment that names a fuxictr-me model may have only the keys of that model.
    """
    models = {model for option in FAMILY_OPTIONS.values() for model in option.models}
    known = [*ALL_OPTIONS, *FUXICTR_KEYS]
    experiment: Schema = {
        "type": "object",
        "properties": _properties(ALL_OPTIONS),
        "patternProperties": {
            _typo_pattern(key, known): {"not": {}, "errorMessage": f"unknown key; did you mean {key}?"}
            for key in sorted(ALL_OPTIONS)
            if len(key) >= SHORTEST_TYPO
        },
        "allOf": [_keys_of_model(model) for model in sorted(models)],
    }
    return {
        "$schema": DRAFT,
        "title": "model_config.yaml of FuxiCTR and fuxictr-me",
        "description": "Experiments by name. An experiment starts from the settings of Base.",
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/experiment"},
        "$defs": {"experiment": experiment, "key": {"enum": sorted(MODEL_OPTIONS | HOST_OPTIONS)}, **_definitions()},
    }


def make_dataset_config_schema() -> Schema:
    """Return the schema of ``dataset_config.yaml``, which allows no unknown keys."""
    options = {key: option for key, option in ALL_OPTIONS.items() if key not in NAMED_ELSEWHERE}
    dataset: Schema = {
        "type": "object",
        "properties": _properties(options),
        "additionalProperties": False,
        "required": ["data_root", "data_format", "train_data"],
        "anyOf": [{"required": ["valid_data"]}, {"required": ["valid_size"]}],
    }
    return {
        "$schema": DRAFT,
        "title": "dataset_config.yaml of FuxiCTR and fuxictr-me",
        "description": "Data sets by name.",
        "type": "object",
        "additionalProperties": {"$ref": "#/$defs/dataset"},
        "$defs": {"dataset": dataset, **_definitions()},
    }


SCHEMAS = {"model_config": make_model_config_schema, "dataset_config": make_dataset_config_schema}


def _definitions() -> Schema:
    """Return the schemas of columns, labels, ``feature_specs`` and callbacks, to which properties refer."""
    column = _object(COLUMN_OPTIONS, required=("name", "dtype", "type"))
    column["allOf"] = [
        {
            "if": {"properties": {"type": {"const": kind}}, "required": ["type"]},
            "then": {"properties": dict.fromkeys(_keys_without(kind), False)},
        }
        for kind in FIELD_TYPES
    ]
    needs = {name: find_required_arguments(name) for name in CALLBACK_ARGUMENTS}
    names = [{"const": name} for name, required in needs.items() if not required] + [
        {"type": "string", "pattern": r"^\w+(\.\w+)+$"}
    ]
    built_in = {
        name: _object(options, needs[name]) if needs[name] else {"anyOf": [{"type": "null"}, _object(options)]}
        for name, options in CALLBACK_ARGUMENTS.items()
    }
    callback = {
        "type": "object",
        "properties": built_in,
        "patternProperties": {r"^\w+(\.\w+)+$": {"type": ["object", "null"]}},
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    return {
        "column": column,
        "label": _object(LABEL_OPTIONS, required=("name", "dtype")),
        "spec": _object(SPEC_OPTIONS, required=("name",)),
        "callback": {"anyOf": [*names, callback]},
    }


REFERENCES: dict[str, Schema] = {
    "feature_cols": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/column"}}]},
    "label_col": {
        "anyOf": [
            {"type": "null"},
            {"$ref": "#/$defs/label"},
            {"type": "array", "items": {"$ref": "#/$defs/label"}, "minItems": 1},
        ]
    },
    "feature_specs": {"anyOf": [{"type": "null"}, {"type": "array", "items": {"$ref": "#/$defs/spec"}}]},
    "callbacks": {
        "anyOf": [
            {"type": "null"},
            {"$ref": "#/$defs/callback"},
            {"type": "array", "items": {"$ref": "#/$defs/callback"}},
        ]
    },
}


def _object(options: dict[str, Option], required: Iterable[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": _properties(options),
        "additionalProperties": False,
        "required": list(required),
    }


def _properties(options: dict[str, Option]) -> dict[str, Schema]:
    return {key: _property(option) for key, option in options.items()}


def _property(option: Option) -> Schema:
    """Return the schema of one setting, with its description in plain text and its default."""
    text = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", option.doc)
    models = f" ({', '.join(sorted(option.models))})" if option.models else ""
    schema: Schema = {"description": text.replace("`", "").replace("**", "") + models}
    if option.default is not UNSET:
        schema["default"] = option.default
    return schema | (REFERENCES.get(option.name) or option.kind.schema)


def _keys_without(kind: str) -> list[str]:
    """Return the keys that a column of this type does not use."""
    return [key for key, option in COLUMN_OPTIONS.items() if option.column_types and kind not in option.column_types]


def _keys_of_model(model: str) -> Schema:
    """Return the rule that an experiment of a fuxictr-me model has only keys that the model knows."""
    others = [key for key, option in FAMILY_OPTIONS.items() if model not in option.models]
    return {
        "if": {"properties": {"model": {"const": model}}, "required": ["model"]},
        "then": {"propertyNames": {"$ref": "#/$defs/key"}, "properties": dict.fromkeys(others, False)},
    }


def _typo_pattern(key: str, known: Iterable[str]) -> str:
    """Return a pattern of the keys that differ from ``key`` by one character, or by two neighbours that are swapped.

    Keys in ``known`` do not match.
    """
    near = [rf"{key[:i]}.{{0,2}}{key[i + 1 :]}" for i in range(len(key))]  # deleted, replaced or inserted
    near += [key[:i] + key[i + 1] + key[i] + key[i + 2 :] for i in range(len(key) - 1) if key[i] != key[i + 1]]
    pattern = "|".join(near)
    allowed = "|".join(sorted(other for other in known if re.fullmatch(pattern, other)))
    return f"^(?!(?:{allowed})$)(?:{pattern})$"
