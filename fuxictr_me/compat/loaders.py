"""Use FuxiCTR's ``RankDataLoader``, which is a function in the wheel and a class on GitHub's main branch."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from fuxictr.pytorch import dataloaders


def detect_flavour() -> str:
    """Return which variant of FuxiCTR 2.3.10 is installed: ``"wheel"`` or ``"main"``."""
    return "main" if isinstance(get_rank_loader(), type) else "wheel"


def get_rank_loader() -> Callable:
    """Return FuxiCTR's own ``RankDataLoader``, even while a FuxiCTR script uses the bridged one."""
    return getattr(dataloaders.RankDataLoader, "__wrapped__", dataloaders.RankDataLoader)


def make_rank_loaders(*args: object, **kwargs: object) -> object:
    """Return the loaders of ``RankDataLoader``: a (train, valid) pair, or the loader of the test split."""
    loaders = get_rank_loader()(*args, **kwargs)
    return loaders.make_iterator() if hasattr(loaders, "make_iterator") else loaders


def bridge_rank_loader() -> Callable:
    """Return a ``RankDataLoader`` whose result has ``make_iterator()``, which scripts of the main branch call."""
    original = get_rank_loader()
    if hasattr(original, "make_iterator"):
        return original

    @functools.wraps(original)
    def RankDataLoader(*args: object, **kwargs: object) -> _BridgedLoaders:
        return _BridgedLoaders(original(*args, **kwargs))

    return RankDataLoader


class _BridgedLoaders:
    """The wheel's loaders with the ``make_iterator()`` of the main branch."""

    def __init__(self, loaders: Any) -> None:
        self._loaders = loaders

    def make_iterator(self) -> Any:
        return self._loaders

    def __iter__(self) -> Iterator:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)

    def __getattr__(self, name: str) -> object:
        return getattr(self._loaders, name)
