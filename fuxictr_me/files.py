"""Files that are whole or not there."""

import contextlib
import os
from pathlib import Path


def append_whole(path, block):
    """Append ``block`` (bytes) to a file in one write; a write cut short (disk full) leaves the file as it was.

    Raises:
        OSError: no space, no permission.
    """
    with open(path, "ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if file.write(block) != len(block):
            file.truncate(size)
            raise OSError(f"no space left to append to {path}")


def replace_whole(path, write):
    """Let ``write`` fill a file of a temporary name, then move it to ``path``.

    Args:
        path (str or Path): what interrupts the writing leaves the file that was there.
        write (callable): takes the temporary path.

    Raises:
        OSError: no space, no permission.
    """
    partial = Path(f"{path}.part")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def working_in(folder):
    """``contextlib.chdir``, which Python 3.10 lacks."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
