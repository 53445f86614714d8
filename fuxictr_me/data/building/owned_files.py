"""Files in the folder of a data set that fuxictr-me has written, and files that a build must not touch."""

import json
import os
import re
import stat
from pathlib import Path

from fuxictr_me.config.splits import SPLITS
from fuxictr_me.data.manifest import read_manifest
from fuxictr_me.errors import UsageError
from fuxictr_me.formatting import join_names
from fuxictr_me.io.atomic import write_atomically

FIXED = ("feature_map.json", "feature_vocab.json", "feature_processor.pkl")
JOURNAL = ".fuxictr_me.moving.json"  # lists the old and the new files while they are moved into place
GENERATED = re.compile(
    r"feature_map\.json|feature_vocab\.json|feature_processor\.pkl|pretrained_[^/\0]+"
    r"|(train|valid|test)\.(h5|parquet)|(train|valid|test)/part[-_][0-9][0-9-]*\.(h5|parquet)"
)


def is_generated(name: str) -> bool:
    """Return whether a build writes files of this name, relative to the folder of the data set."""
    return GENERATED.fullmatch(name) is not None


def list_files(folder: Path) -> dict[str, int]:
    """Return name -> bytes of all files in a folder and its subfolders; names are relative paths with ``/``."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir())
    return {path.relative_to(folder).as_posix(): path.lstat().st_size for path in files}


def owned_files(data_dir: Path) -> list[str]:
    """Return the names of the files in ``data_dir`` that fuxictr-me has written, according to its records.

    The records are the manifest and, after a killed build, the journal of the files that it was moving. Since anyone
    could have written them, a name counts only if builds write files of that name, and if the file is a regular file
    of the recorded size that is reached through no symbolic link. So a file that was replaced or edited is foreign.

    Raises:
        UsageError: the manifest is not one of fuxictr-me.
    """
    manifest, names = read_manifest(data_dir), []
    recorded = {} if manifest is None else _recorded_sizes(manifest, data_dir)
    moving = _read_journal(data_dir)
    for name in dict.fromkeys([*recorded, *moving]):
        sizes = [*recorded.get(name, []), *moving.get(name, [])]
        if is_generated(name) and _is_regular_file(data_dir, name, sizes):
            names.append(name)
    return names


def foreign_files(data_dir: Path, pretrained: list[str]) -> list[str]:
    """Return the files that a build would overwrite or mix with its own, and that fuxictr-me did not write.

    Other files in the folder, such as raw csv files, are not listed, since no build and no loader touches them.

    Args:
        data_dir: folder of a data set.
        pretrained: names of the copies of pretrained vectors that the build would write.
    """
    owned = set(owned_files(data_dir))
    names = (*FIXED, *(f"{split}.{kind}" for split in SPLITS for kind in ("h5", "parquet")), *pretrained)
    foreign = [name for name in names if name not in owned and os.path.lexists(data_dir / name)]
    for split in SPLITS:
        folder = data_dir / split
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            foreign.append(split)
        elif folder.is_dir():
            inside = (path.relative_to(data_dir).as_posix() for path in sorted(folder.rglob("*")))
            foreign += [name for name in inside if name not in owned]
    return foreign


def refuse_foreign_files(data_dir: Path, pretrained: list[str], raw: dict[str, list[Path]]) -> None:
    """Refuse a build that would overwrite or mix with files that fuxictr-me did not write.

    Args:
        data_dir: folder of the data set.
        pretrained: as in ``foreign_files``.
        raw: split -> raw files, which no build may overwrite, whoever wrote them.

    Raises:
        UsageError: names the files.
    """
    advice = "set another dataset_id or data_root, or move them away"
    for file in (file.resolve() for files in raw.values() for file in files):
        if file.is_relative_to(data_dir.resolve()) and is_generated(file.relative_to(data_dir.resolve()).as_posix()):
            raise UsageError(f"the ids would go to where the raw data {file} are: {advice}")
    if foreign := foreign_files(data_dir, pretrained):
        raise UsageError(
            f"{data_dir} holds {join_names(foreign, 3)}, which fuxictr-me did not write (or which has changed "
            f"since): a build would overwrite or mix with it; {advice}"
        )


def write_journal(data_dir: Path, built: Path) -> None:
    """List the present files and the files of the new build, so that the next build recognises them after a kill."""
    sizes: dict[str, list[int]] = {}
    for folder, names in ((data_dir, owned_files(data_dir)), (built, list_files(built))):
        for name in names:
            sizes.setdefault(name, []).append((folder / name).stat().st_size)
    write_atomically(data_dir / JOURNAL, lambda path: path.write_text(json.dumps({"files": sizes})))


def _read_journal(data_dir: Path) -> dict[str, list]:
    try:
        with open(os.open(data_dir / JOURNAL, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            files = json.load(file)["files"]
        return {name: sizes for name, sizes in files.items() if isinstance(sizes, list)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _recorded_sizes(manifest: dict, data_dir: Path) -> dict[str, list]:
    """Return name -> sizes that the file may have; an older manifest lists no sizes, so that they are None."""
    if isinstance(manifest.get("files"), dict):
        return {name: [size] for name, size in manifest["files"].items()}
    settings = manifest["made_from"].get("settings")
    names = [*FIXED, *pretrained_copies(settings.get("feature_cols") if isinstance(settings, dict) else None)]
    for entry in manifest["splits"].values():
        for name in entry["files"]:
            folder = data_dir / name
            if name in SPLITS and folder.is_dir() and not folder.is_symlink():  # an older manifest lists folders
                names += [f"{name}/{path.name}" for path in folder.iterdir()]
            else:
                names.append(name)
    return {name: [None] for name in names}


def pretrained_copies(feature_cols: object) -> list[str]:
    """Return the names under which FuxiCTR copies the pretrained vectors of the columns into the data set."""
    copies = []
    for column in feature_cols if isinstance(feature_cols, list) else []:
        if isinstance(column, dict) and isinstance(column.get("pretrained_emb"), str):
            names = column.get("name")
            for name in names if isinstance(names, list) else [names]:
                copies.append(f"pretrained_{name}{Path(column['pretrained_emb']).suffix}")
    return copies


def _is_regular_file(data_dir: Path, name: str, sizes: list) -> bool:
    """Return whether a regular file of one of the sizes (None: any) lies in ``data_dir``, reached through no link."""
    path = data_dir / name
    if path.parent != data_dir and path.parent.is_symlink():
        return False
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and (None in sizes or status.st_size in sizes)
