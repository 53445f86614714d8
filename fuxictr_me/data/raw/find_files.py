"""Raw csv and parquet files of a data set: their paths, endings and separators."""

from pathlib import Path

from fuxictr_me.config.raw_endings import CSV, ENDINGS, PARQUET, ending
from fuxictr_me.config.splits import SPLITS
from fuxictr_me.errors import UsageError, missing


def raw_splits(params: dict) -> dict[str, list[Path]]:
    """Return split -> raw files, for the splits whose paths the settings of a run contain.

    Raises:
        UsageError: see ``raw_files``; or the files do not have the format of ``data_format``.
    """
    raw = {split: raw_files(params[f"{split}_data"]) for split in SPLITS if params.get(f"{split}_data")}
    for split, files in raw.items():
        kind = "csv" if ending(files[0]) in CSV else "parquet"
        if params["data_format"] in ("csv", "parquet") and params["data_format"] != kind:
            raise UsageError(f"data_format is {params['data_format']}, but {split}_data is {kind}: {files[0]}")
    return raw


def raw_files(path: str | Path) -> list[Path]:
    """Return the raw files of a split: the file itself, those of a folder, or those of a pattern such as ``part*.csv``.

    A path that exists is not treated as a pattern, so ``raw[2024]/train.csv`` works. Hidden files are skipped. ``.txt``
    files are skipped if there are files with other endings, since they are notes then.

    Raises:
        UsageError: there are no files, none with a supported ending, or files with different endings.
    """
    path = Path(path)
    if path.is_file():
        if ending(path) is None:
            raise UsageError(f"{path} is not read: the endings that are read are {ENDINGS}")
        return [path]
    paths = path.iterdir() if path.is_dir() else path.parent.glob(path.name)
    visible = sorted(file for file in paths if file.is_file() and not file.name.startswith("."))
    endings = {file: known for file in visible if (known := ending(file))}
    if any("txt" not in known for known in endings.values()):
        endings = {file: known for file, known in endings.items() if "txt" not in known}
    if not endings and path.exists():
        names = ", ".join(file.name for file in visible[:5]) or "nothing"
        raise UsageError(f"no csv or parquet data at {path}: the endings that are read are {ENDINGS}; there: {names}")
    if not endings:
        raise missing("csv or parquet data", path)
    if len(different := sorted(set(endings.values()))) > 1:
        raise UsageError(f"{path} holds {' and '.join(different)} files; a split is files of one ending")
    return list(endings)


def separator(file: Path, sep: str | None = None) -> str:
    """Return the column separator of a csv file: ``sep`` of the config, or a tab for ``.tsv`` and a comma otherwise."""
    return sep or ("\t" if ending(file) in (".tsv", ".tsv.gz") else ",")


def is_parquet(file: Path) -> bool:
    """Return whether a raw file is parquet rather than csv."""
    return ending(Path(file)) in PARQUET
