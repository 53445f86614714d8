"""Find the raw csv and parquet files of a data set."""

from pathlib import Path

from fuxictr_me.config.raw_endings import CSV, ENDINGS, PARQUET, ending
from fuxictr_me.config.splits import SPLITS
from fuxictr_me.errors import UsageError, missing


def raw_splits(params: dict) -> dict[str, list[Path]]:
    """Return split -> raw files, of the splits that the settings of a run name.

    Raises:
        UsageError: see ``raw_files``; or files of another kind than ``data_format`` says.
    """
    raw = {split: raw_files(params[f"{split}_data"]) for split in SPLITS if params.get(f"{split}_data")}
    for split, files in raw.items():
        kind = "csv" if ending(files[0]) in CSV else "parquet"
        if params["data_format"] in ("csv", "parquet") and params["data_format"] != kind:
            raise UsageError(f"data_format is {params['data_format']}, but {split}_data is {kind}: {files[0]}")
    return raw


def raw_files(path: str | Path) -> list[Path]:
    """Return the raw files of a split: the file itself, those of a folder, or those of a pattern such as ``part*.csv``.

    A path that exists is taken as it is, ``raw[2024]/train.csv`` too. Hidden files are left out, and ``.txt`` files
    where there are others, which are data then and the ``.txt`` files notes.

    Raises:
        UsageError: there are none, none of an ending that is read, or some of several endings.
    """
    path = Path(path)
    if path.is_file():
        if ending(path) is None:
            raise UsageError(f"{path} is not read: the endings that are read are {ENDINGS}")
        return [path]
    found = path.iterdir() if path.is_dir() else path.parent.glob(path.name)
    there = sorted(file for file in found if file.is_file() and not file.name.startswith("."))
    files = [file for file in there if ending(file)]
    if any("txt" not in ending(file) for file in files):
        files = [file for file in files if "txt" not in ending(file)]
    if not files and path.exists():
        names = ", ".join(file.name for file in there[:5]) or "nothing"
        raise UsageError(f"no csv or parquet data at {path}: the endings that are read are {ENDINGS}; there: {names}")
    if not files:
        raise missing("csv or parquet data", path)
    if len(endings := sorted({ending(file) for file in files})) > 1:
        raise UsageError(f"{path} holds {' and '.join(endings)} files; a split is files of one ending")
    return files


def separator(file: Path, sep: str | None = None) -> str:
    """Return what separates the columns of a csv file: ``sep`` of the config; else a tab for ``.tsv``, or a comma."""
    return sep or ("\t" if ending(file) in (".tsv", ".tsv.gz") else ",")


def is_parquet(file: Path) -> bool:
    """Return whether a raw file is parquet; all others are csv."""
    return ending(Path(file)) in PARQUET
