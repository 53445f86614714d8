"""Stand-ins for ray and scikit-learn, active only while FuxiCTR is imported.

FuxiCTR's wheel imports ray with every model, although only its parquet loader and builder use it. The import fails if
ray is not installed, and takes about a second if it is. Scikit-learn, which FuxiCTR uses for metrics and normalizers,
takes another second, with pandas and scipy.stats. While ``stand_ins`` is active, FuxiCTR's modules get placeholders of
both, which import the real package when they are first used.
"""

import contextlib
import importlib
import importlib.util
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

from fuxictr_me.errors import UsageError

RAY = ("ray", "ray.data", "ray.data.datasource", "ray.data.datasource.filename_provider")
SKLEARN = ("sklearn", "sklearn.metrics", "sklearn.preprocessing")
USERS_OF_RAY = ("fuxictr.preprocess.build_dataset", "fuxictr.pytorch.dataloaders.parquet_dataloader")
_LOCK = threading.RLock()


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Let imports of ray and scikit-learn return placeholders, unless these packages are imported already.

    Afterwards ``sys.modules`` holds no placeholder.
    """
    with _LOCK:
        names = [name for names in (RAY, SKLEARN) if names[0] not in sys.modules for name in names]
        sys.modules.update({name: _Placeholder(name) for name in names})
        try:
            yield
        finally:
            for name in names:
                sys.modules.pop(name, None)


class _Placeholder(types.ModuleType):
    """A module in place of a real one. A name imported from it is loaded from the real one when it is first used."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []  # marks it as a package

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is not self:  # FuxiCTR is imported, and uses the module
            return _load(self.__name__, name)
        if isinstance(inner := sys.modules.get(f"{self.__name__}.{name}"), _Placeholder):
            return inner
        if name[0].isupper():
            return type(name, (), {})  # a class of ray, from which FuxiCTR derives
        return _lazy_function(self.__name__, name)


def _lazy_function(module: str, name: str) -> Callable:
    def call(*args: object, **kwargs: object) -> object:
        return _load(module, name)(*args, **kwargs)

    call.__name__, call.__module__ = name, module
    return call


def _load(module: str, name: str) -> Any:
    """Return an attribute of the real module. If it is ray's, give FuxiCTR's modules the real ray from now on.

    Raises:
        UsageError: ray is not installed, or cannot be imported.
    """
    try:
        attribute = getattr(importlib.import_module(module), name)
    except ImportError as error:
        package = module.partition(".")[0]
        reason = f"is not installed: pip install '{package}[data]', or set data_format: h5"
        if importlib.util.find_spec(package) is not None:
            reason = f"cannot be imported: {error}"
        raise UsageError(f"FuxiCTR needs {module}.{name}, and {package} {reason}") from error
    if module in RAY:
        _give_ray_to_fuxictr()
    return attribute


def _give_ray_to_fuxictr() -> None:
    """Execute the modules that derive classes from placeholders again, now with the real ray."""
    with _LOCK:
        for name in USERS_OF_RAY:
            user = sys.modules.get(name)
            if user is not None and isinstance(vars(user).get("ray"), _Placeholder):
                importlib.reload(user)
