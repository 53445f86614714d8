"""Let ``import model_zoo`` provide fuxictr-me's models beside those of FuxiCTR's checkout."""

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from fuxictr_me.errors import UsageError, unknown


class UnknownModel(UsageError, AttributeError):
    """A model that is neither in FuxiCTR's model zoo nor in fuxictr-me's."""


def register(packages: tuple[str, ...] = ("model_zoo",)) -> None:
    """Let ``import model_zoo`` provide fuxictr-me's models beside those of FuxiCTR's checkout.

    Call it before or after ``import model_zoo``, in a notebook or a script. Without a checkout on ``sys.path``,
    ``model_zoo`` holds fuxictr-me's models only.

    Args:
        packages: names of the packages in which scripts look models up.
    """
    for name in packages:
        if name in sys.modules:
            _add_models(sys.modules[name])
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, _ZooFinder)]
    sys.meta_path.insert(0, _ZooFinder(packages))


class _ZooFinder(MetaPathFinder):
    """Finds a model zoo as Python would, and adds fuxictr-me's models once it is loaded."""

    def __init__(self, packages: tuple[str, ...]) -> None:
        self.packages = packages

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in self.packages:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _AddingLoader(spec.loader)
            return spec
        if fullname != "model_zoo":  # no such package, or a folder without __init__.py
            return None
        folders = spec.submodule_search_locations if spec else None
        spec = ModuleSpec(fullname, _AddingLoader(None), is_package=True)
        spec.submodule_search_locations = list(folders or [])
        return spec


class _AddingLoader(Loader):
    """Executes a module with its own loader, if it has one, and adds fuxictr-me's models."""

    def __init__(self, loader: Loader | None) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None if self.loader is None else self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if self.loader is not None:
            self.loader.exec_module(module)
        _add_models(module)


def _add_models(module: ModuleType) -> None:
    from fuxictr_me import models  # here, because a script may set the environment before FuxiCTR and torch are loaded

    for name in models.__all__:
        setattr(module, name, getattr(models, name))
    if hasattr(module, "__getattr__"):
        return

    def raise_unknown(name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        known = [key for key, value in vars(module).items() if isinstance(value, type)]
        raise UnknownModel(str(unknown("model", name, known)))

    vars(module)["__getattr__"] = raise_unknown
