"""What ``model:`` of a config means: a model of ours, one of FuxiCTR's zoo, or a class of one's own."""

import functools
import importlib.util
import os
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from fuxictr_me import models
from fuxictr_me.compat import BaseModel
from fuxictr_me.config.user_code import FOLDERS, import_named, named_import_errors
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.models.training_checks import Checked
from fuxictr_me.training.callbacks import attach, build
from fuxictr_me.wrap import MultiEmbeddingOf, find_own_keys

ZOO, BASES = "model_zoo", "fuxictr.pytorch.models"
SOURCE, MODULES = "FUXICTR_SRC", FOLDERS  # environment variables
HOW = f"set {SOURCE} to a checkout of reczoo/FuxiCTR"
OURS = [name for name in models.__all__ if name.endswith("_ME")]


def find_model(name: object, beside: Path | str | None = None, named: Path | str | None = None) -> type:
    """Return the class that is trained where a config says ``model: name``.

    Args:
        name (str): a model of ours, e.g. ``DCNv2_ME``; ``package.module:Class``, a FuxiCTR model of your own, whose
            module is found as ``fuxictr_me.config.user_code`` says; or a model of FuxiCTR's ``model_zoo``: of the
            checkout that the environment variable FUXICTR_SRC names, else of the one that lies in the working directory
            or on Python's path.
        beside (Path): the folder that holds the config, from which nothing is imported: see ``import_named``.
        named (Path): a folder that the user named on the command line, from which a module may be imported, too.

    Returns:
        type: ours as it is; any other as ``MultiEmbeddingOf`` it, of one set unless the config has ``num_sets``. A
        class that takes a keyword of its name itself means something of its own by it, and is only checked.

    Raises:
        UsageError: no such module or class, one that cannot be imported, or no model of FuxiCTR.
    """
    beside, named = (None if folder is None else Path(folder) for folder in (beside, named))
    model_class = _find(name, beside, named)
    if is_ours(model_class) or backbone_of(model_class) is not model_class:
        return model_class
    return _checked(model_class) if find_own_keys(model_class) else MultiEmbeddingOf(model_class)


def is_ours(model_class: type) -> bool:
    """Whether a class is one of our models, or of a user's on top of ours: it has sets without being wrapped."""
    return issubclass(model_class, models.MultiEmbeddingModel)


def is_wrapped(model_class: type) -> bool:
    """Whether ``MultiEmbeddingOf`` has made the class."""
    return hasattr(model_class, "_defaults")


def backbone_of(model_class: type) -> type:
    """The FuxiCTR model on which ``find_model`` or ``MultiEmbeddingOf`` builds; the class itself of any other."""
    return getattr(model_class, "_backbone", model_class)


def short_name(name: object) -> str:
    """The class's name alone, which may name files: ``my_model:WideDNN`` -> ``WideDNN``."""
    return str(name).rpartition(":")[2]


class _AsItIs(Checked):
    """Before a FuxiCTR model's class that has sets of its own: our checks, and ``callbacks`` of the config."""

    def __init__(self, feature_map, *args, callbacks=None, **kwargs):
        super().__init__(feature_map, *args, **kwargs)
        attach(self, build(callbacks))


@functools.cache
def _checked(model_class):
    content = {"_backbone": model_class, "__module__": model_class.__module__, "__doc__": model_class.__doc__}
    return type(model_class.__name__, (_AsItIs, model_class), content)


def _find(name: object, beside: Path | None, named: Path | None) -> type:
    if name in OURS:
        return getattr(models, name)
    if not isinstance(name, str) or not name:
        raise unknown("model", name, OURS)
    return _in_module(name, beside, named) if ":" in name else _in_zoo(name)


def _in_module(name: str, beside: Path | None, named: Path | None) -> type:
    module_name, _, class_name = name.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), class_name)):
        raise UsageError(f"model {name!r} is no class: write package.module:Class, e.g. my_model:WideDNN")
    if module_name.partition(".")[0] == ZOO and _zoo() is None:
        raise UsageError(f"model {name!r}: there is no FuxiCTR checkout here; {HOW}")
    module = import_named(module_name, f"model {name!r}", beside, named)
    classes = _models_in(module)
    if class_name not in classes:
        if hasattr(module, class_name):
            raise UsageError(f"model {name!r} is not a subclass of fuxictr.pytorch.models.BaseModel")
        raise unknown(f"class in {module_name} ({module.__file__})", class_name, classes)
    return classes[class_name]


def _in_zoo(name):
    zoo = _zoo()
    classes = {} if zoo is None else _models_in(zoo)
    if name in classes:
        return classes[name]
    error = unknown("model", name, {*classes, *OURS})
    own = "a class of your own is package.module:Class"
    if zoo is None:
        raise UsageError(f"{error}; for FuxiCTR's models, {HOW}; {own}")
    where = Path(zoo.__file__).parent
    raise UsageError(f"{error}; looked in {where}; {own}, also one that the zoo has and does not export")


def _zoo():
    """FuxiCTR's ``model_zoo`` package; None where there is no checkout."""
    if getattr(sys.modules.get(ZOO), "__file__", None):
        return sys.modules[ZOO]
    source = os.environ.get(SOURCE)
    spec = PathFinder.find_spec(ZOO, [source] if source else [os.getcwd(), *sys.path])
    if spec is None or spec.origin is None:  # nothing, or a folder of that name that is no package
        if source:
            raise UsageError(f"{SOURCE} is {source}, where no {ZOO}/__init__.py is: it must name a checkout of FuxiCTR")
        return None
    zoo = sys.modules[ZOO] = importlib.util.module_from_spec(spec)
    try:
        with named_import_errors(f"FuxiCTR's {ZOO} in {Path(spec.origin).parent}"):
            spec.loader.exec_module(zoo)
    except UsageError:
        del sys.modules[ZOO]
        raise
    return zoo


def _models_in(module):
    """Name -> class of the FuxiCTR models that a module holds, FuxiCTR's own base classes left out."""
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, BaseModel) and not value.__module__.startswith(BASES)
    }
