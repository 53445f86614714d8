"""The folder of a built data set: one builder at a time, whole or not there, never stale in silence."""

import contextlib
import fcntl
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fuxictr_me import __version__
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
from fuxictr_me.data.manifest import NAME, difference, is_same, read_manifest, unknown_to, write_manifest
from fuxictr_me.data.raw.find_files import raw_files
from fuxictr_me.errors import UsageError

__all__ = ["build_once", "folder_of", "is_current", "is_generated", "locked", "put_in_place", "raw_files"]


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
    """Build a data set unless it is there and current; a set that is current is only read.

    Args:
        data_dir: folder of the data set.
        made_from: of ``fingerprint``.
        raw: split -> files that are read.
        needed: names of the splits' files or folders that a run of these settings reads.
        write: takes an empty folder, writes the data set to ``<folder>/<dataset_id>`` and returns what the manifest
            says of each split.

    Raises:
        UsageError: the build would overwrite or mix with files that fuxictr-me did not write.
        OSError: no space, no permission.
    """
    if is_current(data_dir, made_from, needed):
        return
    pretrained = pretrained_copies(made_from["settings"].get("feature_cols"))
    with locked(data_dir):
        if is_current(data_dir, made_from, needed, quiet=True):
            return
        refuse_foreign_files(data_dir, pretrained, raw)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=data_dir) as temporary:
            try:
                splits = write(Path(temporary))
            except OSError as error:
                if error.filename is not None or error.errno is None:
                    raise
                raise OSError(error.errno, error.strerror, str(data_dir)) from error  # such as: no space left
            refuse_foreign_files(data_dir, pretrained, raw)  # a build may take hours
            put_in_place(Path(temporary) / data_dir.name, data_dir, made_from, splits)


def is_current(data_dir: Path, made_from: dict, needed: list[str], quiet: bool = False) -> bool:
    """Whether the data set is there and made from these settings and files; else the log says why not.

    A set without a manifest that FuxiCTR built as parquet is taken as it is, with a warning: nothing tells
    what it was made from.

    Args:
        data_dir, made_from, needed: as in ``build_once``.
        quiet: say nothing.
    """
    log = logging.getLogger().log if not quiet else lambda *_: None
    manifest = read_manifest(data_dir)
    if manifest is None:
        is_h5 = made_from["settings"].get("data_format") == "h5"
        if is_h5 or os.path.lexists(data_dir / JOURNAL):
            return False
        there = all((data_dir / name).exists() for name in ("feature_map.json", *needed))
        if there:
            log(
                logging.WARNING,
                f"{data_dir} was not built by fuxictr-me, so it cannot be known whether it fits these settings; "
                "it is used as it is. Delete it to build it anew.",
            )
        return there
    if not is_same(manifest["made_from"], made_from):
        log(logging.WARNING, f"{data_dir} is built anew: {difference(manifest['made_from'], made_from)}")
        return False
    files = [name for split in manifest["splits"].values() for name in split["files"]]
    if gone := [name for name in ("feature_map.json", *files) if not (data_dir / name).exists()]:
        log(logging.WARNING, f"{data_dir} is built anew: {', '.join(gone)} is not there any more")
        return False
    log(logging.INFO, f"Data set {data_dir} is there already, of these settings and files.")
    if not_known := unknown_to(manifest["made_from"], made_from):
        log(logging.WARNING, f"{data_dir} was built by an earlier version, which did not record {not_known}.")
    return True


def put_in_place(built: Path, data_dir: Path, made_from: dict, splits: dict) -> None:
    """Replace the files of an earlier build by those in ``built``; the manifest comes last.

    Only files that fuxictr-me wrote are removed, and none is overwritten. A kill at any moment leaves the old set, the
    new one, or no ``feature_map.json`` and a list of what was being moved, by which the next build recognises it.

    Args:
        built, data_dir: folders on one file system.
        made_from: of ``fingerprint``.
        splits: split -> what the manifest says of it.
    """
    files = list_files(built)
    write_journal(data_dir, built)
    old = owned_files(data_dir)
    (data_dir / NAME).unlink(missing_ok=True)
    for name in sorted(old, key=lambda name: name != "feature_map.json"):
        (data_dir / name).unlink(missing_ok=True)
    for split in SPLITS:
        with contextlib.suppress(OSError):  # not there, or not empty
            (data_dir / split).rmdir()
    for name in sorted(files, key=lambda name: name == "feature_map.json"):
        (data_dir / name).parent.mkdir(exist_ok=True)
        _move(built / name, data_dir / name)
    by = f"fuxictr_me {__version__}"
    write_manifest(data_dir, made_by=by, made_from=made_from, splits=splits, files=files)
    (data_dir / JOURNAL).unlink()


def _move(source: Path, target: Path) -> None:
    """Rename a file to a name that is free; unlike ``os.rename``, never overwrite."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError as error:
        raise UsageError(f"{target} has appeared during the build and is not overwritten: move it away") from error
    except OSError:  # a file system without hard links
        if os.path.lexists(target):
            raise UsageError(f"{target} has appeared during the build and is not overwritten: move it away") from None
        source.rename(target)
    else:
        source.unlink()


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Let one process at a time build ``data_dir``, and clear what a killed build left; the lock lies beside it.

    Raises:
        UsageError: the folder or the lock is a symbolic link, which is not followed, or no folder and no file.
    """
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    with _open_lock(data_dir.parent / f".{data_dir.name}.lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info(f"Another process builds {data_dir}; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        if data_dir.is_symlink() or (data_dir.exists() and not data_dir.is_dir()):
            what = "a symbolic link, and nothing is written through it" if data_dir.is_symlink() else "not a folder"
            raise UsageError(f"{data_dir}, where the data set would be built, is {what}")
        data_dir.mkdir(exist_ok=True)
        _clear_killed_builds(data_dir)
        yield


def _open_lock(path: Path):
    """Open the lock file, made where it is not there; of another user's, reading is enough."""
    flags = os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        try:
            descriptor = os.open(path, flags | os.O_RDWR, 0o666)
        except PermissionError:
            descriptor = os.open(path, flags & ~os.O_CREAT | os.O_RDONLY)
        file = open(descriptor, "rb")  # noqa: SIM115 - the caller closes it
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except (FileNotFoundError, PermissionError):
        raise
    except OSError as error:  # a link (ELOOP), a folder (EISDIR), a socket
        raise UsageError(f"{path} must be a plain file, the lock of a data set; it is not: {error.strerror}") from error
    if not is_file:
        file.close()
        raise UsageError(f"{path} must be a plain file, the lock of a data set")
    return file


def _clear_killed_builds(data_dir: Path) -> None:
    """Remove what killed builds left; called with the lock held, so no build is going on.

    Their folders are known by name and content: ``.building-<8 characters>`` with nothing in it but a folder named like
    the data set, with nothing in it but files that builds write.
    """
    for left in data_dir.glob(".building-*"):
        if not re.fullmatch(r"\.building-[a-z0-9_]{8}", left.name) or left.is_symlink() or not left.is_dir():
            continue
        inside = {path.name for path in left.iterdir()}
        files = list_files(left / data_dir.name) if inside == {data_dir.name} else {}
        if inside <= {data_dir.name} and all(is_generated(name) for name in files):
            shutil.rmtree(left)
        else:
            logging.warning(f"{left} is left alone: not all of it was written by a build")
