"""Find the keys of a config that FuxiCTR, fuxictr-me or a model's constructor reads."""

import difflib
import inspect
import re
from collections.abc import Callable
from inspect import Parameter

import torch

from fuxictr_me.config.dataset_options import DATASET_OPTIONS, LEGACY_OPTIONS, READING_OPTIONS
from fuxictr_me.config.model_options import MODEL_OPTIONS, WRAPPING_OPTIONS
from fuxictr_me.config.model_registry import get_backbone
from fuxictr_me.config.training_options import TRAINING_OPTIONS

# Keys that FuxiCTR and fuxictr-me read outside of a model's constructor.
HOST_KEYS = {*DATASET_OPTIONS, *READING_OPTIONS, *TRAINING_OPTIONS, *LEGACY_OPTIONS}
WRAPPING_KEYS = set(WRAPPING_OPTIONS)  # arguments of MultiEmbeddingOf
DATASET_KEYS = HOST_KEYS | WRAPPING_KEYS | set(MODEL_OPTIONS)  # FuxiCTR merges a data set's entry over a model's
NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
NOT_KEYS = {"self", "feature_map"}


def find_known_keys(model_class: type) -> set[str]:
    """Return every key that FuxiCTR or a constructor of ``model_class`` reads.

    Constructors read keys as arguments. Those of other packages also take them out of their ``**kwargs``, which is
    found in their source text.
    """
    keys = set(HOST_KEYS)
    for init in _constructors(model_class):
        keys |= {name for name, argument in inspect.signature(init).parameters.items() if argument.kind in NAMED}
        if not _is_from_fuxictr_me(init):
            keys |= _keys_from_kwargs(init)
    return keys - NOT_KEYS


def find_required_keys(model_class: type) -> list[str]:
    """Return the keys without which a FuxiCTR model from another package cannot be constructed.

    These are the arguments of its own constructor that have no default, and the keys that it or a base class reads as
    ``kwargs["key"]``, unless a class below passes them.
    """
    inits = [init for init in _constructors(model_class) if not _is_from_fuxictr_me(init)]
    arguments = inspect.signature(inits[0]).parameters if inits else {}
    required = {name: None for name, a in arguments.items() if a.kind in NAMED and a.default is Parameter.empty}
    passed_below = ""
    for init in inits:
        keys = _keys_from_kwargs(init, only_required=True)
        required |= {key: None for key in sorted(keys) if not re.search(rf"\b{key}\s*=", passed_below)}
        passed_below += _source(init)
    return [key for key in required if key not in NOT_KEYS]


def describe_unread_keys(model_class: type, settings: dict) -> str:
    """Name the keys of ``settings`` that nothing reads, for a warning. Return an empty text if all are read.

    FuxiCTR's own configs have such keys, so they are no error for models from other packages.
    """
    known = find_known_keys(model_class) | WRAPPING_KEYS
    name = get_backbone(model_class).__name__
    unread = []
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
            unread.append(repr(key) + (f" (did you mean {near[0]!r}?)" if near else ""))
    return f"settings that neither FuxiCTR nor {name} reads: {', '.join(unread)}" if unread else ""


def _constructors(model_class: type) -> list[Callable]:
    classes = [cls for cls in model_class.__mro__ if "__init__" in vars(cls) and cls not in (torch.nn.Module, object)]
    return [vars(cls)["__init__"] for cls in classes]


def _is_from_fuxictr_me(init: Callable) -> bool:
    return init.__module__.startswith("fuxictr_me.")


def _keys_from_kwargs(init: Callable, only_required: bool = False) -> set[str]:
    """Return the keys that a constructor's source takes out of its ``**kwargs``, or those that have no default."""
    parameters = inspect.signature(init).parameters.items()
    kwargs = [name for name, argument in parameters if argument.kind is Parameter.VAR_KEYWORD]
    access = r"\[" if only_required else r"(?:\[|\.get\(|\.pop\()"
    return set(re.findall(rf"\b{kwargs[0]}{access}\s*[\"'](\w+)[\"']", _source(init))) if kwargs else set()


def _source(function: Callable) -> str:
    try:
        return inspect.getsource(function)
    except OSError:  # defined in an interactive session
        return ""
