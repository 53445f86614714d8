"""Locks on the runs of a study, held by the processes that run them, and the lock on the study itself."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from fuxictr_me.errors import UsageError


def is_running(folder: Path, expid: str) -> bool:
    """Return whether a process is running a run, started by this study process or by one that was killed."""
    path = folder / "running" / expid
    if path.is_symlink() or not path.is_file():
        return False
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def find_running_processes(folder: Path) -> dict[str, tuple[str, int | None]]:
    """Return expid -> (process, device) of all runs that a process is running, also those of an earlier plan.

    The process is ``unknown`` and the device None if they have not been recorded yet.
    """
    found: dict[str, tuple[str, int | None]] = {}
    for path in sorted((folder / "running").glob("*")):
        if is_running(folder, path.name):
            record = path.read_text(errors="replace").split()
            is_valid = len(record) == 2 and record[0].isdigit() and record[1].lstrip("-").isdigit()
            found[path.name] = (record[0], int(record[1])) if is_valid else ("unknown", None)
    return found


def claim_run(folder: Path, expid: str) -> TextIO | None:
    """Mark a run as running for as long as any process keeps the returned file open.

    Returns:
        None if another process runs it.
    """
    path = folder / "running" / expid
    path.parent.mkdir(exist_ok=True)
    file = _open_lock_file(path)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    return file


@contextlib.contextmanager
def lock_study(folder: Path) -> Iterator[None]:
    """Let one study process at a time work in a folder.

    Raises:
        UsageError: another process works in it; the message names it.
    """
    resolved = Path(folder).resolve()
    path = resolved.parent / f".{resolved.name}.lock"  # beside the folder, which may not exist yet
    path.parent.mkdir(parents=True, exist_ok=True)
    with _open_lock_file(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another fuxictr-me study works in {folder} (process {file.read().strip() or 'unknown'}): wait for "
                f"it, or see its progress: fuxictr-me study status {folder}"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _open_lock_file(path: Path) -> TextIO:
    """Open a file for reading and writing, and create it if needed; a symbolic link is not followed.

    Raises:
        UsageError: ``path`` is a link, or not a file.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise UsageError(f"{path} is a symbolic link or not a file: a study writes only to its own files")
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")
