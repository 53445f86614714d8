"""A lock, so that one process at a time trains an experiment. Files of two would get mixed up in one folder."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from fuxictr_me.errors import RunError

SUFFIXES = (".model", ".log", ".ia.csv", ".depth.csv", ".json")  # of the files that a run writes


@contextlib.contextmanager
def locked_run(model_dir: Path, expid: str) -> Iterator[None]:
    """Hold the lock of an experiment, ``<model_dir>/.<expid>.lock``. It is released when this process ends.

    Raises:
        RunError: another process trains the experiment, or the path of one of its files is not a plain file.
        OSError: no permission.
    """
    model_dir.mkdir(parents=True, exist_ok=True)
    for suffix in SUFFIXES:
        check_writable(model_dir / f"{expid}{suffix}")
    path = model_dir / f".{expid}.lock"
    file = _lock(path)
    if file is None:
        raise RunError(
            f"{expid} is being trained in {model_dir} by another process{_describe_holder(path)}: wait for it, or set "
            "another expid or model_root"
        )
    try:
        os.truncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock is released, so that no other process's file is removed
        os.close(file)


def check_writable(path: Path) -> None:
    """Check that a file can be written at ``path``: it does not exist, or is a plain file.

    Raises:
        RunError: it is a folder or a link, or there is no permission.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        kind = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "not a plain file"
        raise RunError(f"{path} is {kind}, and a run writes a file of that name: move it away")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise RunError(f"{path} cannot be written: no permission")


def _lock(path: Path) -> int | None:
    """Return the open, locked file; None if another process holds the lock."""
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise RunError(f"{path} is a link, and a run's lock goes there: move it away") from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(file), os.stat(path)):
                return file
        except BlockingIOError:
            os.close(file)
            return None
        os.close(file)  # its holder has removed it: nobody else would see this lock


def _describe_holder(path: Path) -> str:
    try:
        return f" (process {int(path.read_text())})"
    except (OSError, ValueError):
        return ""
