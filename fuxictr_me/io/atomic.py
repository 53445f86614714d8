"""Write files and folders atomically, and never through a symbolic link."""

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


def append_atomically(path: str | Path, block: bytes) -> None:
    """Append lines to a file in one write. If the write is cut short (disk full), the file stays as it was.

    Several processes may append to one file; their blocks do not mix. If the file does not end with a newline, as
    after a crash or with some editors, one is written before the block.

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


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a new file beside ``path``, then rename it to ``path``.

    The new file has a random name and is created exclusively, so concurrent writers do not meet and no planted link is
    followed. If writing is interrupted, the old file stays. The next call for the same ``path`` removes the partial
    file of a killed process.

    Args:
        path: file to write. If it is a symbolic link, the link is replaced, not the file that it leads to.
        write: called with the temporary path.

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
def atomic_folder(path: str | Path, replace: bool = False) -> Iterator[Path]:
    """Yield an empty folder of the same name, and rename it to ``path`` if the block ends without an error.

    Args:
        path: folder to write; its parent folders are created.
        replace: whether to replace an existing folder. Files of the old folder that the new one does not have are
            kept.

    Raises:
        UsageError: ``path`` exists, and ``replace`` is not set.
        OSError: no space, no permission.
    """
    path = Path(path)
    if os.path.lexists(path) and not (replace and path.is_dir() and not path.is_symlink()):
        raise UsageError(f"{path} exists already")
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_folder(".building-", path.parent, path) as temporary:
        folder = Path(temporary) / (path.name or "folder")
        folder.mkdir()
        yield folder
        if not (replace and path.exists()):
            folder.rename(path)
            return
        _replace_folder(folder, path)


def temporary_folder(prefix: str, parent: Path, target: Path) -> tempfile.TemporaryDirectory:
    """Return a temporary folder in ``parent`` whose content is meant for ``target``.

    Raises:
        OSError: no space, no permission. It names ``target``, not the temporary folder.
    """
    try:
        return tempfile.TemporaryDirectory(prefix=prefix, dir=parent)
    except OSError as error:
        raise _named_after(error, target) from error


def _named_after(error: OSError, target: Path) -> OSError:
    return OSError(error.errno, error.strerror, str(target))


def _replace_folder(new: Path, path: Path) -> None:
    """Move ``new`` to ``path``. After a failure the old files are at ``path`` or in ``.replaced-*`` beside it."""
    try:
        kept = Path(tempfile.mkdtemp(prefix=".replaced-", dir=path.parent))
    except OSError as error:
        raise _named_after(error, path) from error
    old = path.rename(kept / path.name)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        kept.rmdir()
        raise
    _keep_other_files(old, path)
    shutil.rmtree(kept)


def _keep_other_files(old: Path, new: Path) -> None:
    """Move the files of ``old`` that ``new`` does not have to ``new``."""
    for file in sorted(old.rglob("*")):
        target = new / file.relative_to(old)
        if os.path.lexists(target) or (file.is_dir() and not file.is_symlink()):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)


def _create_partial_file(path: Path) -> tuple[Path, contextlib.AbstractContextManager[object]]:
    """Create ``.<name>.<random>.part`` beside ``path``; return its path and the open file that locks it."""
    while True:
        partial = path.parent / f".{path.name}.{secrets.token_hex(8)}.part"
        try:
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise _named_after(error, path) from error
        file = open(descriptor, "rb")  # noqa: SIM115 - the caller closes it
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        if partial.exists():  # otherwise another process removed it as abandoned before it was locked
            return partial, file
        file.close()


def _remove_partial_files(path: Path) -> None:
    """Remove the partial files of ``path`` whose lock is free, so that no process writes them any more."""
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}\.part")
    for partial in path.parent.glob(".*.part"):
        if not name.fullmatch(partial.name):
            continue
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with contextlib.suppress(OSError), open(os.open(partial, flags), "rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while another process writes it
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                partial.unlink()
