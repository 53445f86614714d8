"""Files that are whole or not there (``fuxictr_me.io.atomic``), and work in another folder."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fuxictr_me.io.atomic import append_whole, new_folder, replace_whole

__all__ = ["append_whole", "new_folder", "replace_whole", "working_in"]


@contextlib.contextmanager
def working_in(folder: str | Path) -> Iterator[None]:
    """``contextlib.chdir``, which Python 3.10 lacks."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
