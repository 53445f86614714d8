"""The folder of a built data set: builds are atomic, exclusive, and repeated when settings or raw files change."""

import contextlib
import errno
import fcntl
import logging
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from fuxictr_me.config.splits import SPLITS
from fuxictr_me.data.building.owned_files import (
    JOURNAL,
    is_generated,
    list_files,
    owned_files,
    pretrained_copies,
    refuse_foreign_files,
    write_journal,
)
from fuxictr_me.data.manifest import NAME, describe_changes, describe_gaps, read_manifest, write_manifest
from fuxictr_me.errors import UsageError
from fuxictr_me.io.atomic import temporary_folder

NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


def folder_of(params: dict) -> Path:
    """Return ``<data_root>/<dataset_id>``.

    Raises:
        UsageError: a ``dataset_id`` that is not the name of one folder.
    """
    name = params["dataset_id"]
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\0" in name:
        raise UsageError(f"dataset_id must be the name of one folder, without slashes, got {name!r}")
    return Path(params["data_root"]) / name


def build_once(
    data_dir: Path, made_from: dict, raw: dict[str, list[Path]], needed: list[str], write: Callable[[Path], dict]
) -> None:
    """Build a data set unless it is current.

    Args:
        data_dir: folder of the data set.
        made_from: result of ``fingerprint``.
        raw: split -> raw files.
        needed: names of the splits' files or folders that a run with these settings reads.
        write: takes an empty folder, writes the data set to ``<folder>/<dataset_id>`` and returns the manifest's entry
            of each split.

    Raises:
        UsageError: the build would overwrite or mix with files that fuxictr-me did not write, or may not write there.
        OSError: no space.
    """
    if is_current(data_dir, made_from, needed):
        return
    pretrained = pretrained_copies(made_from["settings"].get("feature_cols"))
    with lock_folder(data_dir):
        if is_current(data_dir, made_from, needed, quiet=True):
            return
        refuse_foreign_files(data_dir, pretrained, raw)
        with _explain_unwritable(data_dir, data_dir):
            building = temporary_folder(".building-", data_dir, data_dir)
        with building as temporary:
            try:
                splits = write(Path(temporary))
            except OSError as error:
                if error.filename is not None or error.errno is None:
                    raise
                raise OSError(error.errno, error.strerror, str(data_dir)) from error  # e.g. no space left
            refuse_foreign_files(data_dir, pretrained, raw)  # a build may take hours
            put_in_place(Path(temporary) / data_dir.name, data_dir, made_from, splits)


@contextlib.contextmanager
def _explain_unwritable(data_dir: Path, folder: Path) -> Iterator[None]:
    """Raise a UsageError if the body may not write in ``folder``."""
    try:
        yield
    except OSError as error:
        if error.errno not in NOT_WRITABLE:
            raise
        reason = (error.strerror or "unknown reason").lower()
        raise UsageError(
            f"the data set {data_dir} must be built, but nothing can be written in {folder} ({reason}): "
            "set another data_root, or let someone build it who may write there"
        ) from error


def is_current(data_dir: Path, made_from: dict, needed: list[str], quiet: bool = False) -> bool:
    """Return whether the data set exists and was made from these settings and files; log why it was not.

    A parquet set without a manifest, which FuxiCTR built, counts as current, with a warning, since its origin is
    unknown.

    Args:
        data_dir: as in ``build_once``.
        made_from: as in ``build_once``.
        needed: as in ``build_once``.
        quiet: whether to log nothing.
    """
    log = logging.getLogger().log if not quiet else lambda *_: None
    manifest = read_manifest(data_dir)
    if manifest is None:
        is_h5 = made_from["settings"].get("data_format") == "h5"
        if is_h5 or os.path.lexists(data_dir / JOURNAL):
            return False
        is_complete = all((data_dir / name).exists() for name in ("feature_map.json", *needed))
        if is_complete:
            log(
                logging.WARNING,
                f"{data_dir} was not built by fuxictr-me, so it cannot be known whether it fits these settings; "
                "it is used unchanged. Delete it to rebuild it.",
            )
        return is_complete
    if changes := describe_changes(manifest["made_from"], made_from):
        log(logging.WARNING, f"{data_dir} is rebuilt: {changes}")
        return False
    files = [name for split in manifest["splits"].values() for name in split["files"]]
    if absent := [name for name in ("feature_map.json", *files) if not (data_dir / name).exists()]:
        log(logging.WARNING, f"{data_dir} is rebuilt: {', '.join(absent)} is missing")
        return False
    log(logging.INFO, f"Data set {data_dir} exists already and matches these settings and files.")
    if gaps := describe_gaps(manifest["made_from"], made_from):
        log(logging.WARNING, f"{data_dir} was built by an earlier version, which did not record {gaps}.")
    return True


def put_in_place(built: Path, data_dir: Path, made_from: dict, splits: dict) -> None:
    """Replace the files of an earlier build by those in ``built``, and write the manifest last.

    Only files that fuxictr-me has written are removed, and none is overwritten. A kill at any moment leaves the old
    set, the new one, or no ``feature_map.json`` and a journal by which the next build recognises the files.

    Args:
        built: folder of the new files, on the file system of ``data_dir``.
        data_dir: folder of the data set.
        made_from: result of ``fingerprint``.
        splits: split -> entry of the manifest.
    """
    files = list_files(built)
    write_journal(data_dir, built)
    old = owned_files(data_dir)
    (data_dir / NAME).unlink(missing_ok=True)
    for name in sorted(old, key=lambda name: name != "feature_map.json"):
        (data_dir / name).unlink(missing_ok=True)
    for split in SPLITS:
        with contextlib.suppress(OSError):  # absent, or not empty
            (data_dir / split).rmdir()
    for name in sorted(files, key=lambda name: name == "feature_map.json"):
        (data_dir / name).parent.mkdir(exist_ok=True)
        _move(built / name, data_dir / name)
    write_manifest(data_dir, made_from=made_from, splits=splits, files=files)
    (data_dir / JOURNAL).unlink()


def _move(source: Path, target: Path) -> None:
    """Rename a file, but unlike ``os.rename`` never overwrite one."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if os.path.lexists(target):
            raise UsageError(f"{target} has appeared during the build and is not overwritten: move it away") from error
        source.rename(target)  # the file system has no hard links
    else:
        source.unlink()


@contextlib.contextmanager
def lock_folder(data_dir: Path) -> Iterator[None]:
    """Let one process at a time build ``data_dir``, and remove what killed builds left. The lock file lies beside it.

    Raises:
        UsageError: the folder or the lock is a symbolic link, which is not followed, or not a folder or file.
    """
    with _explain_unwritable(data_dir, data_dir.parent):
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        lock = _open_lock(data_dir.parent / f".{data_dir.name}.lock")
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info(f"Another process builds {data_dir}; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        if data_dir.is_symlink() or (data_dir.exists() and not data_dir.is_dir()):
            what = "a symbolic link, and nothing is written through it" if data_dir.is_symlink() else "not a folder"
            raise UsageError(f"{data_dir}, where the data set would be built, is {what}")
        with _explain_unwritable(data_dir, data_dir.parent):
            data_dir.mkdir(exist_ok=True)
        _clear_killed_builds(data_dir)
        yield


def _open_lock(path: Path) -> BinaryIO:
    """Open the lock file, which is created if necessary; for another user's file, reading is enough."""
    flags = os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            descriptor = os.open(path, flags | os.O_RDWR, 0o666)
        except OSError as error:
            if error.errno not in NOT_WRITABLE or not os.path.lexists(path):
                raise
            descriptor = os.open(path, flags & ~os.O_CREAT | os.O_RDONLY)
        file = open(descriptor, "rb")  # noqa: SIM115 - the caller closes it
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError as error:
        if error.errno in (errno.ENOENT, *NOT_WRITABLE):
            raise
        reason = error.strerror  # of a link (ELOOP), a folder (EISDIR), a socket
        raise UsageError(f"{path} must be a plain file, the lock of a data set; it is not: {reason}") from error
    if not is_file:
        file.close()
        raise UsageError(f"{path} must be a plain file, the lock of a data set")
    return file


def _clear_killed_builds(data_dir: Path) -> None:
    """Remove what killed builds left. The caller holds the lock, so no build is running.

    Their folders are recognised by name and content: ``.building-<8 characters>`` contains only a folder with the name
    of the data set, which contains only files that builds write.
    """
    for left in data_dir.glob(".building-*"):
        if not re.fullmatch(r"\.building-[a-z0-9_]{8}", left.name) or left.is_symlink() or not left.is_dir():
            continue
        inside = {path.name for path in left.iterdir()}
        files = list_files(left / data_dir.name) if inside == {data_dir.name} else {}
        if inside <= {data_dir.name} and all(is_generated(name) for name in files):
            shutil.rmtree(left)
        else:
            logging.warning(f"{left} is not removed: a build did not write all of it")
