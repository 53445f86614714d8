"""Run unmodified FuxiCTR scripts with fuxictr-me's models in their model zoo.

Two variants are called FuxiCTR 2.3.10. In the *wheel* of the package index, ``RankDataLoader`` is a function that
returns the loaders. On the *main* branch of GitHub it is a class with ``make_iterator()``. GitHub's scripts are written
for main, and run here on both.
"""

import contextlib
import functools
import runpy
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fuxictr.utils
import numpy as np
from fuxictr.features import FeatureMap

import fuxictr_me.data  # noqa: F401 - PyYAML resolves !!python/name only to modules that are imported
from fuxictr_me.compat import BaseModel, MultiTaskModel, dataloaders, fuxictr_models
from fuxictr_me.compat.loaders import bridge_rank_loader
from fuxictr_me.config.evaluated_settings import check_encoders, check_evaluated
from fuxictr_me.config.optimizer_options import check_not_for_fuxictr
from fuxictr_me.errors import missing
from fuxictr_me.io.working_folder import change_directory
from fuxictr_me.training.callbacks import attach, build
from fuxictr_me.training.metrics import evaluate_metrics
from fuxictr_me.wrap import wrap_if_configured
from fuxictr_me.zoo.zoo_import import register

ZOO_PACKAGES = ("model_zoo", "src")  # in which scripts look models up


def run_script(script: str, arguments: list[str]) -> None:
    """Run an unmodified FuxiCTR script as ``python script arguments`` would, with fuxictr-me's models in its zoo.

    ``callbacks:`` and ``num_sets:`` in its config work for every model, including FuxiCTR's. Settings that FuxiCTR
    would evaluate as Python, in the config and in the feature map, may only be names and literals. When the script
    ends, even by an exception, everything that was changed for it is restored: FuxiCTR's classes and loaders,
    ``sys.argv``, ``sys.path``, ``sys.meta_path``, the working directory, and modules of its zoo and its folder in
    ``sys.modules``.

    Args:
        script: for example ``FuxiCTR/experiment/run_expid.py``.
        arguments: arguments of the script.

    Raises:
        UsageError: there is no such script, or a setting holds code.
    """
    path = Path(script)
    if not path.is_file():
        raise missing("script", script)
    folder = str(path.resolve().parent)
    with contextlib.ExitStack() as stack:
        stack.enter_context(change_directory(Path.cwd()))  # the script may change to another folder
        stack.enter_context(_restored(sys.path))
        stack.enter_context(_restored(sys.meta_path))
        stack.enter_context(_replaced((sys, "argv", [str(script), *arguments])))
        stack.enter_context(_fresh_modules(ZOO_PACKAGES, folder))
        register(ZOO_PACKAGES)
        stack.enter_context(_replaced((dataloaders, "RankDataLoader", bridge_rank_loader()), *_configured_bases()))
        stack.enter_context(_replaced(*_checked_readers()))
        sys.path.insert(0, folder)  # as python does for a script: fuxictr_version.py lies there
        runpy.run_path(str(path), run_name="__main__")


def _configured_bases() -> Iterator[tuple[types.ModuleType, str, type]]:
    """Yield base classes, in place of FuxiCTR's, that let any model read ``callbacks:`` and ``num_sets:``.

    They are set in ``fuxictr.pytorch.models``, from which models import them. FuxiCTR's own classes are not changed:
    a ``__new__`` that was once set on a class cannot be removed without a trace.
    """
    for original in (BaseModel, MultiTaskModel):
        content = {"__module__": original.__module__, "__doc__": original.__doc__}
        yield fuxictr_models, original.__name__, type(original.__name__, (_Configured, original), content)


def _checked_readers() -> Iterator[tuple[object, str, Callable]]:
    """Yield checked readers of configs and feature maps, so that FuxiCTR evaluates only names and literals.

    A data folder may come from somebody else, and FuxiCTR evaluates ``feature_encoder`` of its feature map.
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

    def __new__(cls, *args: object, **kwargs: object) -> Any:
        return object.__new__(wrap_if_configured(cls, kwargs))

    def __init__(self, *args: object, callbacks: list | None = None, **kwargs: object) -> None:
        check_not_for_fuxictr(type(self), kwargs)
        super().__init__(*args, **kwargs)
        attach(self, build(callbacks))

    def evaluate_metrics(
        self, y_true: np.ndarray, y_pred: np.ndarray, metrics: list[str], group_id: np.ndarray | None = None
    ) -> dict[str, float]:
        """Compute FuxiCTR's metrics, and those of a regression, which FuxiCTR does not have."""
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
def _fresh_modules(packages: tuple[str, ...], folder: str) -> Iterator[None]:
    """Let a script import ``packages`` anew. At the end, forget them and what the script imported from its folder."""
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
