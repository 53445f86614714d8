"""Which keys of a config somebody reads: FuxiCTR, or a constructor of the model."""

import difflib
import inspect
import re
from inspect import Parameter

import torch

from fuxictr_me.config.model_options import MODEL_OPTIONS, WRAPPING_OPTIONS
from fuxictr_me.config.options import DATASET_OPTIONS, OLD_OPTIONS, READING_OPTIONS
from fuxictr_me.config.training_options import TRAINING_OPTIONS

# What FuxiCTR and this package read elsewhere than in a model's constructor.
HOST_KEYS = set(DATASET_OPTIONS) | set(READING_OPTIONS) | set(TRAINING_OPTIONS) | set(OLD_OPTIONS)
WRAPPING_KEYS = set(WRAPPING_OPTIONS)  # of MultiEmbeddingOf
DATASET_KEYS = HOST_KEYS | WRAPPING_KEYS | set(MODEL_OPTIONS)  # FuxiCTR merges a data set's entry over a model's
VAR_KEYWORD, NAMED = Parameter.VAR_KEYWORD, (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def find_known_keys(model_class):
    """Every key that FuxiCTR or a constructor of ``model_class`` reads, as an argument or out of its ``**kwargs``."""
    keys = set(HOST_KEYS)
    for init in _constructors(model_class):
        keys |= {name for name, argument in inspect.signature(init).parameters.items() if argument.kind in NAMED}
        keys |= _read_from_kwargs(init)
    return keys - {"self", "feature_map"}


def find_required_keys(model_class):
    """The keys without which a FuxiCTR model of another's cannot be made, by the sources of its constructors.

    Args:
        model_class (type)

    Returns:
        list of str: those that its own constructor has no default for, and those that it or a base class reads as
        ``kwargs["key"]`` and no class below gives.
    """
    inits = [init for init in _constructors(model_class) if not init.__module__.startswith("fuxictr_me.")]
    arguments = inspect.signature(inits[0]).parameters if inits else {}
    needed = {name: None for name, a in arguments.items() if a.kind in NAMED and a.default is Parameter.empty}
    given_below = ""
    for init in inits:
        read = _read_from_kwargs(init, needed=True)
        needed |= {key: None for key in sorted(read) if not re.search(rf"\b{key}\s*=", given_below)}
        given_below += _source(init)
    return [key for key in needed if key not in ("self", "feature_map")]


def describe_unread_keys(model_class, settings):
    """What nobody reads of a model that is not ours, in words; FuxiCTR's own configs have such keys.

    Args:
        model_class (type): any FuxiCTR model.
        settings (dict): of a run.

    Returns:
        str: empty where all are read.
    """
    known = find_known_keys(model_class) | WRAPPING_KEYS
    name = getattr(model_class, "_backbone", model_class).__name__
    named = []
    for key in settings:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
            named.append(repr(key) + (f" (did you mean {near[0]!r}?)" if near else ""))
    return f"settings that neither FuxiCTR nor {name} reads: {', '.join(named)}" if named else ""


def _constructors(model_class):
    classes = [cls for cls in model_class.__mro__ if "__init__" in vars(cls) and cls not in (torch.nn.Module, object)]
    return [vars(cls)["__init__"] for cls in classes]


def _read_from_kwargs(init, needed=False):
    """The keys that a constructor's source takes out of its ``**kwargs``; those without a default if ``needed``."""
    rest = [name for name, argument in inspect.signature(init).parameters.items() if argument.kind is VAR_KEYWORD]
    ways = r"\[" if needed else r"(?:\[|\.get\(|\.pop\()"
    return set(re.findall(rf"\b{rest[0]}{ways}\s*[\"'](\w+)[\"']", _source(init))) if rest else set()


def _source(function):
    try:
        return inspect.getsource(function)
    except OSError:  # made in a shell
        return ""
