"""Our models inside unmodified FuxiCTR scripts, and the bridges between FuxiCTR's two flavours.

Two different things are called FuxiCTR 2.3.10: the *wheel* of the package index, where ``RankDataLoader``
is a function that returns the loaders, and *main* on GitHub, where it is a class with ``make_iterator()``.
GitHub's scripts are written for main.
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import runpy
import sys
from pathlib import Path

from fuxictr_me.errors import UsageError, missing, unknown


class UnknownModel(UsageError, AttributeError):
    """A model that neither FuxiCTR's zoo nor ours has."""


def register(packages=("model_zoo",)):
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


def run_script(script, arguments):
    """Run an unmodified FuxiCTR script as ``python script arguments`` would, with our models in its zoo.

    ``callbacks:`` and ``num_sets:`` in its config work for every model, FuxiCTR's included.

    Args:
        script (str): e.g. ``FuxiCTR/experiment/run_expid.py``.
        arguments (list of str): of the script.

    Raises:
        UsageError: no such script.
    """
    path = Path(script)
    if not path.is_file():
        raise missing("script", script)
    import fuxictr_me.data  # noqa: F401 - so that YAML's !!python/name finds its loaders

    register(("model_zoo", "src"))
    bridge_loaders()
    attach_configured_callbacks()
    wrap_configured_sets()
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(path.resolve().parent))  # as python does for a script: fuxictr_version.py lies there
    runpy.run_path(str(path), run_name="__main__")


def bridge_loaders():
    """On the wheel, give what ``RankDataLoader`` returns the ``make_iterator()`` that main's scripts call."""
    from fuxictr.pytorch import dataloaders

    if hasattr(dataloaders.RankDataLoader, "make_iterator"):
        return
    wheel_loader = dataloaders.RankDataLoader

    @functools.wraps(wheel_loader)
    def RankDataLoader(*args, **kwargs):
        return _Bridged(wheel_loader(*args, **kwargs))

    RankDataLoader.make_iterator = None  # a mark: bridged
    dataloaders.RankDataLoader = RankDataLoader


def attach_configured_callbacks():
    """Let ``BaseModel`` of FuxiCTR read ``callbacks:`` from the config that it is given."""
    from fuxictr.pytorch.models import BaseModel

    from fuxictr_me.callbacks import attach, build

    original = BaseModel.__init__
    if hasattr(original, "reads_callbacks"):
        return

    @functools.wraps(original)
    def __init__(self, *args, callbacks=None, **kwargs):
        original(self, *args, **kwargs)
        attach(self, build(callbacks))

    __init__.reads_callbacks = True
    BaseModel.__init__ = __init__


def wrap_configured_sets():
    """Let ``num_sets:`` in the config of any FuxiCTR model make it multi-embedding, however its class is found."""
    from fuxictr.pytorch.models import BaseModel

    from fuxictr_me.any_model import with_configured_sets

    def __new__(cls, *args, **kwargs):
        return object.__new__(with_configured_sets(cls, kwargs))

    BaseModel.__new__ = __new__


class _Bridged:
    """The loaders of the wheel, as main's scripts expect them: ``make_iterator()`` gives them."""

    def __init__(self, loaders):
        self._loaders = loaders

    def make_iterator(self):
        return self._loaders

    def __iter__(self):
        return iter(self._loaders)

    def __len__(self):
        return len(self._loaders)

    def __getattr__(self, name):
        return getattr(self._loaders, name)


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


def _add_models(module):
    from fuxictr_me import models

    for name in models.__all__:
        setattr(module, name, getattr(models, name))
    if hasattr(module, "__getattr__"):
        return

    def missing(name):
        if name.startswith("_"):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        known = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise UnknownModel(str(unknown("model", name, known)))

    module.__getattr__ = missing
