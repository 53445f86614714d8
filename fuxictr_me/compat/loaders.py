"""FuxiCTR's ``RankDataLoader``, which is a function on the wheel and a class on GitHub's main branch."""

import functools
from collections.abc import Callable, Iterator

from fuxictr.pytorch import dataloaders


def detect_flavour() -> str:
    """Return which of the two FuxiCTR 2.3.10 is installed: ``"wheel"`` or ``"main"``."""
    return "main" if isinstance(get_rank_loader(), type) else "wheel"


def get_rank_loader() -> Callable:
    """Return FuxiCTR's own ``RankDataLoader``, also while a host script sees the bridged one."""
    return getattr(dataloaders.RankDataLoader, "__wrapped__", dataloaders.RankDataLoader)


def make_rank_loaders(*args: object, **kwargs: object) -> object:
    """Return what ``RankDataLoader`` loads with: a (train, valid) pair, or the loader of the test split."""
    loaders = get_rank_loader()(*args, **kwargs)
    return loaders.make_iterator() if hasattr(loaders, "make_iterator") else loaders


def bridge_rank_loader() -> Callable:
    """Return ``RankDataLoader`` such that what it returns has the ``make_iterator()`` that main's scripts call."""
    original = get_rank_loader()
    if hasattr(original, "make_iterator"):
        return original

    @functools.wraps(original)
    def RankDataLoader(*args: object, **kwargs: object) -> _Bridged:
        return _Bridged(original(*args, **kwargs))

    return RankDataLoader


class _Bridged:
    """The loaders of the wheel, as main's scripts expect them: ``make_iterator()`` gives them."""

    def __init__(self, loaders: object) -> None:
        self._loaders = loaders

    def make_iterator(self) -> object:
        return self._loaders

    def __iter__(self) -> Iterator:
        return iter(self._loaders)

    def __len__(self) -> int:
        return len(self._loaders)

    def __getattr__(self, name: str) -> object:
        return getattr(self._loaders, name)
