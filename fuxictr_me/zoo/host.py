"""Our models inside unmodified FuxiCTR scripts, and the bridges between FuxiCTR's two flavours.

Two different things are called FuxiCTR 2.3.10: the *wheel* of the package index, where ``RankDataLoader``
is a function that returns the loaders, and *main* on GitHub, where it is a class with ``make_iterator()``.
GitHub's scripts are written for main.
"""

import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import runpy
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import fuxictr.utils
import numpy as np
from fuxictr.features import FeatureMap

from fuxictr_me.compat import BaseModel, MultiTaskModel, dataloaders, fuxictr_models
from fuxictr_me.compat.loaders import bridged_loader
from fuxictr_me.config.evaluated_settings import check_encoders, check_evaluated
from fuxictr_me.errors import UsageError, missing, unknown
from fuxictr_me.io.working_folder import working_in
from fuxictr_me.training.callbacks import attach, build
from fuxictr_me.training.metrics import evaluate_metrics
from fuxictr_me.wrap import wrap_if_configured

ZOOS = ("model_zoo", "src")  # what scripts look models up in


class UnknownModel(UsageError, AttributeError):
    """A model that neither FuxiCTR's zoo nor ours has."""


def register(packages: tuple[str, ...] = ("model_zoo",)) -> None:
    """Let ``import model_zoo`` give our models beside those of FuxiCTR's checkout.

    Call it before or after ``import model_zoo``, in a notebook or a script. Without a checkout on
    ``sys.path``, ``model_zoo`` holds our models alone.

    Args:
        packages (tuple of str): names of the packages that scripts look models up in.
    """
    for name in packages:
        if name in sys.modules:
            _add_models(sys.modules[name])
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _ZooFinder)]
    sys.meta_path.insert(0, _ZooFinder(packages))


def run_script(script: str, arguments: list[str]) -> None:
    """Run an unmodified FuxiCTR script as ``python script arguments`` would, with our models in its zoo.

    ``callbacks:`` and ``num_sets:`` in its config work for every model, FuxiCTR's included. When the script ends,
    also by an exception, everything that was changed for it is as before: FuxiCTR's classes and loaders, ``sys.argv``,
    ``sys.path``, ``sys.meta_path``, the working directory, and modules of its zoo and its folder in ``sys.modules``.

    Args:
        script (str): e.g. ``FuxiCTR/experiment/run_expid.py``.
        arguments (list of str): of the script.

    What FuxiCTR would evaluate as Python, in the config and in the feature map, may only be names and literals.

    Raises:
        UsageError: no such script, or code in a setting.
    """
    path = Path(script)
    if not path.is_file():
        raise missing("script", script)
    import fuxictr_me.data  # noqa: F401 - so that YAML's !!python/name finds its loaders

    folder = str(path.resolve().parent)
    with contextlib.ExitStack() as stack:
        stack.enter_context(working_in(Path.cwd()))  # the script may change to another folder
        stack.enter_context(_restored(sys.path))
        stack.enter_context(_restored(sys.meta_path))
        stack.enter_context(_replaced((sys, "argv", [str(script), *arguments])))
        stack.enter_context(_own_modules(ZOOS, folder))
        register(ZOOS)
        stack.enter_context(_replaced((dataloaders, "RankDataLoader", bridged_loader()), *_configured_bases()))
        stack.enter_context(_replaced(*_checked_readers()))
        sys.path.insert(0, folder)  # as python does for a script: fuxictr_version.py lies there
        runpy.run_path(str(path), run_name="__main__")


def _configured_bases() -> Iterator[tuple[types.ModuleType, str, type]]:
    """Base classes, in place of FuxiCTR's, that let any model read ``callbacks:`` and ``num_sets:`` from its config.

    They are given to ``fuxictr.pytorch.models``, from where models import them. FuxiCTR's own classes stay as they
    are: a ``__new__`` that was once set on a class cannot be taken away without a trace.
    """
    for original in (BaseModel, MultiTaskModel):
        content = {"__module__": original.__module__, "__doc__": original.__doc__}
        yield fuxictr_models, original.__name__, type(original.__name__, (_Configured, original), content)


def _checked_readers() -> Iterator[tuple[object, str, Callable]]:
    """Yield what reads configs and feature maps in scripts, so that FuxiCTR evaluates nothing but names and literals.

    A data folder may come from somebody else: ``feature_encoder`` of its feature map would run as Python.
    """
    original_config, original_load = fuxictr.utils.load_config, FeatureMap.load

    @functools.wraps(original_config)
    def load_config(*args: object, **kwargs: object) -> dict:
        params = original_config(*args, **kwargs)
        check_evaluated(params)
        return params

    @functools.wraps(original_load)
    def load(self: FeatureMap, json_file: str, *args: object, **kwargs: object) -> None:
        original_load(self, json_file, *args, **kwargs)
        check_encoders(json_file, self.features)

    yield fuxictr.utils, "load_config", load_config
    yield FeatureMap, "load", load


class _Configured:
    """Mixed in front of FuxiCTR's base classes for the models of a script."""

    def __new__(cls, *args: object, **kwargs: object) -> object:
        return object.__new__(wrap_if_configured(cls, kwargs))

    def __init__(self, *args: object, callbacks: list | None = None, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        attach(self, build(callbacks))

    def evaluate_metrics(
        self, y_true: np.ndarray, y_pred: np.ndarray, metrics: list[str], group_id: np.ndarray | None = None
    ) -> dict[str, float]:
        """Compute FuxiCTR's metrics, and those of a regression, which it lacks."""
        return evaluate_metrics(y_true, y_pred, metrics, group_id)


@contextlib.contextmanager
def _replaced(*replacements: tuple[object, str, object]) -> Iterator[None]:
    """Set attributes, given as (object, name, value), and restore them at the end."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replacements]
    try:
        for owner, name, value in replacements:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


@contextlib.contextmanager
def _restored(items: list) -> Iterator[None]:
    """Restore the content of a list at the end."""
    before = list(items)
    try:
        yield
    finally:
        items[:] = before


@contextlib.contextmanager
def _own_modules(packages: tuple[str, ...], folder: str) -> Iterator[None]:
    """Let a script import its own ``packages``; at the end forget them, and what it imported from its folder."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] in packages}
    for name in before:
        del sys.modules[name]
    known = set(sys.modules)
    try:
        yield
    finally:
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if name.partition(".")[0] in packages or Path(folder) in Path(file).parents:
                del sys.modules[name]
        sys.modules.update(before)


class _ZooFinder(importlib.abc.MetaPathFinder):
    """Finds a model zoo as Python would, and adds our models once it is loaded."""

    def __init__(self, packages):
        self.packages = packages

    def find_spec(self, fullname, path=None, target=None):
        if fullname not in self.packages:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:  # no such package, or a folder without __init__.py
            if fullname != "model_zoo":
                return None
            folders = spec.submodule_search_locations if spec else None
            spec = importlib.util.spec_from_loader(fullname, _OursOnly(), is_package=True)
            spec.submodule_search_locations = list(folders or [])
            return spec
        spec.loader = _AndOurs(spec.loader)
        return spec


class _OursOnly(importlib.abc.Loader):
    def exec_module(self, module):
        _add_models(module)


class _AndOurs(importlib.abc.Loader):
    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        _add_models(module)


def _add_models(module: types.ModuleType) -> None:
    from fuxictr_me import models

    for name in models.__all__:
        setattr(module, name, getattr(models, name))
    if hasattr(module, "__getattr__"):
        return

    def missing(name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        known = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise UnknownModel(str(unknown("model", name, known)))

    module.__getattr__ = missing
