"""Resolve the ``model:`` key of a config to a model class."""

import functools
import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from fuxictr_me import models
from fuxictr_me.compat import BaseModel
from fuxictr_me.config.model_registry import ModelEntry, find_entry, register_model
from fuxictr_me.config.user_code import import_named, named_import_errors
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.training.callbacks import attach, build
from fuxictr_me.training.checks import CheckedTraining
from fuxictr_me.wrap import MultiEmbeddingOf, find_own_keys

ZOO_PACKAGE = "model_zoo"
BASE_CLASSES = "fuxictr.pytorch.models"
FUXICTR_SRC = "FUXICTR_SRC"  # an environment variable
CHECKOUT_ADVICE = f"set {FUXICTR_SRC} to a checkout of reczoo/FuxiCTR"
MODEL_NAMES = [name for name in models.__all__ if name.endswith("_ME")]


def find_model(name: object, beside: Path | str | None = None, named: Path | str | None = None) -> type:
    """Return the class that is trained for ``model: name`` of a config.

    Args:
        name: a fuxictr-me model, such as ``DCNv2_ME``; or ``package.module:Class``, a FuxiCTR model whose module is
            found as ``fuxictr_me.config.user_code`` describes; or a model of FuxiCTR's ``model_zoo``, in the checkout
            that the environment variable FUXICTR_SRC names, else in one in the working directory or on Python's path.
        beside: the folder that holds the config, from which nothing is imported: see ``import_named``.
        named: a folder that the user named on the command line, from which a module may also be imported.

    Returns:
        A fuxictr-me model itself; any other class as ``MultiEmbeddingOf`` makes it, with one set unless the config has
        ``num_sets``. A class whose constructor has such a keyword itself gives it its own meaning, so it gets only the
        checks of training.

    Raises:
        UsageError: there is no such module or class, it cannot be imported, or it is not a FuxiCTR model.
    """
    beside, named = (None if folder is None else Path(folder) for folder in (beside, named))
    model_class = _find_class(name, beside, named)
    if find_entry(model_class) is not None:
        return model_class
    return _with_checks(model_class) if find_own_keys(model_class) else MultiEmbeddingOf(model_class)


def get_class_name(name: object) -> str:
    """Return the class's name alone, which may name files: ``my_model:WideDNN`` -> ``WideDNN``."""
    return str(name).rpartition(":")[2]


class _WithChecks(CheckedTraining):
    """Mixed in front of a FuxiCTR model that has its own embedding sets: checks of training, and ``callbacks``."""

    def __init__(self, feature_map: object, *args: object, callbacks: list | None = None, **kwargs: object) -> None:
        super().__init__(feature_map, *args, **kwargs)
        attach(self, build(callbacks))


@functools.cache
def _with_checks(model_class: type) -> type:
    content = {"__module__": model_class.__module__, "__doc__": model_class.__doc__}
    checked = type(model_class.__name__, (_WithChecks, model_class), content)
    register_model(checked, ModelEntry(model_class))
    return checked


def _find_class(name: object, beside: Path | None, named: Path | None) -> type:
    if not isinstance(name, str) or not name:
        raise unknown("model", name, MODEL_NAMES)
    if name in MODEL_NAMES:
        return getattr(models, name)
    return _find_in_module(name, beside, named) if ":" in name else _find_in_zoo(name)


def _find_in_module(name: str, beside: Path | None, named: Path | None) -> type:
    module_name, _, class_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), class_name)):
        raise UsageError(f"model {name!r} is not a class: write package.module:Class, e.g. my_model:WideDNN")
    if module_name.partition(".")[0] == ZOO_PACKAGE and _import_zoo() is None:
        raise UsageError(f"model {name!r}: there is no FuxiCTR checkout here; {CHECKOUT_ADVICE}")
    module = import_named(module_name, f"model {name!r}", beside, named)
    classes = _models_in(module)
    if class_name not in classes:
        if hasattr(module, class_name):
            raise UsageError(f"model {name!r} is not a subclass of fuxictr.pytorch.models.BaseModel")
        raise unknown(f"class in {module_name} ({module.__file__})", class_name, classes)
    return classes[class_name]


def _find_in_zoo(name: str) -> type:
    zoo = _import_zoo()
    classes = {} if zoo is None else _models_in(zoo)
    if name in classes:
        return classes[name]
    error = unknown("model", name, {*classes, *MODEL_NAMES})
    other = "name your own class as package.module:Class"
    if zoo is None or zoo.__file__ is None:
        raise UsageError(f"{error}; for FuxiCTR's models, {CHECKOUT_ADVICE}; {other}")
    raise UsageError(f"{error}; looked in {Path(zoo.__file__).parent}; {other}, also one that the zoo does not export")


def _import_zoo() -> ModuleType | None:
    """Return FuxiCTR's ``model_zoo`` package, None if there is no checkout."""
    if getattr(sys.modules.get(ZOO_PACKAGE), "__file__", None):
        return sys.modules[ZOO_PACKAGE]
    source = os.environ.get(FUXICTR_SRC)
    spec = PathFinder.find_spec(ZOO_PACKAGE, [source] if source else [os.getcwd(), *sys.path])
    if spec is None or spec.origin is None or spec.loader is None:  # nothing, or a folder without __init__.py
        if source:
            raise UsageError(
                f"{FUXICTR_SRC} is {source}, which has no {ZOO_PACKAGE}/__init__.py: it must name a checkout of FuxiCTR"
            )
        return None
    zoo = sys.modules[ZOO_PACKAGE] = importlib.util.module_from_spec(spec)
    try:
        with named_import_errors(f"FuxiCTR's {ZOO_PACKAGE} in {Path(spec.origin).parent}"):
            spec.loader.exec_module(zoo)
    except UsageError:
        del sys.modules[ZOO_PACKAGE]
        raise
    return zoo


def _models_in(module: ModuleType) -> dict[str, type]:
    """Return the FuxiCTR models that a module holds, by name, without FuxiCTR's own base classes."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, BaseModel) and not value.__module__.startswith(BASE_CLASSES)
    }
