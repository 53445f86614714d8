"""Stand-ins for ray and scikit-learn, active only while FuxiCTR is imported.

FuxiCTR's wheel imports ray wherever a model is imported. Where ray is not installed that fails, and where it is
installed it takes about a second, although only FuxiCTR's own parquet loader and builder use it. Scikit-learn takes
another second, with pandas and scipy.stats; FuxiCTR uses it for metrics and normalizers. While ``stand_ins`` is active,
FuxiCTR's modules get placeholders of both, which import the real package when they are first used.
"""

import contextlib
import functools
import importlib
import importlib.util
import sys
import threading
import types
from collections.abc import Callable, Iterator

RAY = ("ray", "ray.data", "ray.data.datasource", "ray.data.datasource.filename_provider")
SKLEARN = ("sklearn", "sklearn.metrics", "sklearn.preprocessing")
USERS_OF_RAY = ("fuxictr.preprocess.build_dataset", "fuxictr.pytorch.dataloaders.parquet_dataloader")
_LOCK = threading.RLock()


@contextlib.contextmanager
def stand_ins() -> Iterator[None]:
    """Let imports of ray and scikit-learn give placeholders, unless they are imported already.

    At the end ``sys.modules`` holds no placeholder.
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
    """A module in place of a real one. What is imported from it, or looked up in it later, is loaded when used."""

    __path__ = ()

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is not self:  # FuxiCTR is imported, and uses the module
            return _load(self.__name__, name)
        if isinstance(inner := sys.modules.get(f"{self.__name__}.{name}"), _Placeholder):
            return inner
        if name[0].isupper():
            return type(name, (), {})  # of ray alone: FuxiCTR derives a class from one, and names two
        return _lazy_function(self.__name__, name)


def _lazy_function(module: str, name: str) -> Callable:
    def call(*args: object, **kwargs: object) -> object:
        return _load(module, name)(*args, **kwargs)

    return functools.update_wrapper(call, types.SimpleNamespace(__name__=name, __module__=module))


def _load(module: str, name: str) -> object:
    """Return an attribute of the real module; where it is ray's, give FuxiCTR's modules ray itself from now on.

    Raises:
        UsageError: ray is not installed, or cannot be imported.
    """
    from fuxictr_me.errors import UsageError

    try:
        found = getattr(importlib.import_module(module), name)
    except ImportError as error:
        package = module.partition(".")[0]
        reason = f"is not installed: pip install '{package}[data]', or set data_format: h5"
        if importlib.util.find_spec(package) is not None:
            reason = f"cannot be imported: {error}"
        raise UsageError(f"FuxiCTR asks for {module}.{name}, and {package} {reason}") from error
    if module in RAY:
        _give_ray_to_fuxictr()
    return found


def _give_ray_to_fuxictr() -> None:
    """Execute the modules that derive classes from placeholders once more, now that ray is there."""
    with _LOCK:
        for name in USERS_OF_RAY:
            user = sys.modules.get(name)
            if user is not None and isinstance(vars(user).get("ray"), _Placeholder):
                importlib.reload(user)
