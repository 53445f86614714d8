"""Work in another folder for a while."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def change_directory(folder: str | Path) -> Iterator[None]:
    """Change the working directory inside a ``with`` block, as Python 3.11's ``contextlib.chdir`` does."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
