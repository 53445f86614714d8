"""The folder of a built data set: one builder at a time, whole or not there, never stale in silence."""

import contextlib
import fcntl
import logging
import shutil
from pathlib import Path

from fuxictr_me import __version__
from fuxictr_me.data.manifest import NAME, difference, read_manifest, write_manifest
from fuxictr_me.errors import UsageError, missing

SPLITS = ("train", "valid", "test")


def is_current(data_dir, made_from):
    """Whether the data set is there and made from these settings and files; else the log says why not.

    A set without a manifest that FuxiCTR built as parquet is taken as it is, with a warning: nothing tells
    what it was made from. What a killed build left is cleared.

    Args:
        data_dir (Path)
        made_from (dict): of ``fingerprint``.
    """
    for left in data_dir.glob(".building-*"):
        shutil.rmtree(left)
    manifest = read_manifest(data_dir)
    if manifest is None:
        there = (data_dir / "feature_map.json").exists() and made_from["settings"].get("data_format") != "h5"
        if there:
            logging.warning(
                f"{data_dir} was not built by fuxictr-me, so it cannot be known whether it fits these settings; "
                "it is used as it is. Delete it to build it anew."
            )
        return there
    if manifest["made_from"] != made_from:
        logging.warning(f"{data_dir} is built anew: {difference(manifest['made_from'], made_from)}")
        return False
    files = [name for split in manifest["splits"].values() for name in split["files"]]
    if gone := [name for name in ("feature_map.json", *files) if not (data_dir / name).exists()]:
        logging.warning(f"{data_dir} is built anew: {', '.join(gone)} is not there any more")
        return False
    logging.info(f"Data set {data_dir} is there already, of these settings and files.")
    return True


def put_in_place(built, data_dir, made_from, splits):
    """Replace what an earlier build left by what lies in ``built``; the manifest comes last.

    Args:
        built, data_dir (Path)
        made_from (dict): of ``fingerprint``.
        splits (dict): split -> what the manifest says of it.
    """
    for name in (NAME, "feature_map.json", *(f"{split}.{kind}" for split in SPLITS for kind in ("h5", "parquet"))):
        (data_dir / name).unlink(missing_ok=True)
    for split in SPLITS:
        if (data_dir / split).is_dir():
            shutil.rmtree(data_dir / split)
    for path in sorted(built.iterdir(), key=lambda path: path.name == "feature_map.json"):
        path.replace(data_dir / path.name)
    write_manifest(data_dir, made_by=f"fuxictr_me {__version__}", made_from=made_from, splits=splits)


def raw_files(path):
    """The csv or parquet files of a split: itself, those of the folder, or those of a pattern such as ``part*.csv``.

    Raises:
        UsageError: there are none, or of both kinds.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(path.glob("*") if path.is_dir() else path.parent.glob(path.name))
    files = [file for file in files if file.suffix in (".csv", ".parquet")]
    if not files:
        raise missing("csv or parquet data", path)
    if len({file.suffix for file in files}) > 1:
        raise UsageError(f"{path} holds csv and parquet files; a split is one of them")
    return files


@contextlib.contextmanager
def locked(data_dir):
    """Let one process at a time build ``data_dir``; the lock lies beside it.

    Yields:
        None
    """
    data_dir.parent.mkdir(parents=True, exist_ok=True)
    with open(data_dir.parent / f".{data_dir.name}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logging.info(f"Another process builds {data_dir}; waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        data_dir.mkdir(exist_ok=True)
        yield
