"""Write files and folders that are whole or not there, and never write through a symbolic link."""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fuxictr_me.errors import UsageError


def append_whole(path: str | Path, block: bytes) -> None:
    """Append lines to a file in one write. A write that is cut short (disk full) leaves the file as it was.

    Several processes may append to one file: each block stays whole. If the last line of the file has no end, as after
    a crash or in some editors, the block begins on a line of its own.

    Raises:
        OSError: no space, no permission, or ``path`` is a symbolic link, which is not followed.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(f"{path} is a symbolic link: nothing is written through it") from error
        raise
    with open(descriptor, "ab", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        size = os.fstat(file.fileno()).st_size
        if size and os.pread(file.fileno(), 1, size - 1) != b"\n":
            block = b"\n" + block
        if file.write(block) != len(block):
            file.truncate(size)
            raise OSError(f"no space left to append to {path}")


def replace_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a new file beside ``path``, then rename it to ``path``.

    The new file has a random name and is created exclusively, so concurrent writers do not meet and no planted link is
    followed. What interrupts the writing leaves the file that was there. The next call for the same ``path`` removes
    what a killed one left.

    Args:
        path: file to write. If it is a symbolic link, the link is replaced, not the file that it leads to.
        write: takes the temporary path.

    Raises:
        OSError: no space, no permission.
    """
    path = Path(path)
    _remove_partial_files(path)
    partial, lock = _create_partial_file(path)
    with lock:
        try:
            write(partial)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | Path, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder of the same name, and rename it to ``path`` when the block has ended without an error.

    Args:
        path: folder to write; the folders above it are made.
        replace: let it take the place of a folder that is there. Files of the old folder that the new one does not
            have are kept.

    Raises:
        UsageError: ``path`` exists, and ``replace`` is not set.
        OSError: no space, no permission.
    """
    path = Path(path)
    if os.path.lexists(path) and not (replace and path.is_dir() and not path.is_symlink()):
        raise UsageError(f"{path} exists already")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=path.parent) as temporary:
        folder = Path(temporary) / (path.name or "folder")
        folder.mkdir()
        yield folder
        if not (replace and path.exists()):
            folder.rename(path)
            return
        _replace_folder(folder, path)


def _replace_folder(new: Path, path: Path) -> None:
    """Put ``new`` in the place of ``path``; what goes wrong leaves the old files there or in ``.replaced-*``."""
    aside = Path(tempfile.mkdtemp(prefix=".replaced-", dir=path.parent))
    old = path.rename(aside / path.name)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        aside.rmdir()
        raise
    _keep_other_files(old, path)
    shutil.rmtree(aside)


def _keep_other_files(old: Path, new: Path) -> None:
    """Move the files of ``old`` that ``new`` does not have to where they were."""
    for file in sorted(old.rglob("*")):
        target = new / file.relative_to(old)
        if os.path.lexists(target) or (file.is_dir() and not file.is_symlink()):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)


def _create_partial_file(path: Path) -> tuple[Path, contextlib.AbstractContextManager]:
    """Create ``.<name>.<random>.part`` beside ``path``, locked while it is written; its path and its open file."""
    while True:
        partial = path.parent / f".{path.name}.{secrets.token_hex(8)}.part"
        file = open(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666), "rb")  # noqa: SIM115
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        if partial.exists():  # else another process took it for what a killed one left, before it was locked
            return partial, file
        file.close()


def _remove_partial_files(path: Path) -> None:
    """Remove the partial files of ``path`` that no process writes any more: their lock is free."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.part")
    for partial in path.parent.glob(".*.part"):
        if not name.fullmatch(partial.name):
            continue
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with contextlib.suppress(OSError), open(os.open(partial, flags), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while it is written
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                partial.unlink()
