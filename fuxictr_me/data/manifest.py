"""The manifest of a built data set: the settings and raw files from which it was made, and its files."""

import hashlib
import json
from pathlib import Path
from typing import Any

from fuxictr_me import __version__
from fuxictr_me.compat.loaders import detect_flavour
from fuxictr_me.config.splits import get_dividing_settings
from fuxictr_me.data.manifest_checks import FORMATS, NAME, digest_of_content, digests_of_files, parse_manifest
from fuxictr_me.errors import missing
from fuxictr_me.io.atomic import write_atomically

SETTINGS = (
    "data_format",
    "feature_cols",
    "label_col",
    "min_categr_count",
    "num_buckets",
    "data_block_size",
    "sep",
    "n_rows",
    "group_id",
)
WHOLE_BYTES = 1 << 24  # files of up to 16 MiB are hashed completely
BLOCKS, BLOCK_BYTES = 64, 1 << 16  # of larger files, this many evenly spaced blocks, including the first and the last


def fingerprint(params: dict, raw_files: dict[str, list[Path]]) -> dict:
    """Return everything that the ids of a data set depend on: the settings, and each file from which it is made.

    Args:
        params: settings of a run.
        raw_files: split -> files.

    Returns:
        A mapping that equals itself after a round trip through JSON. A file is ``[path, bytes, mtime_ns, digest]``. The
        digest covers files of up to 16 MiB completely, and 64 blocks of 64 KiB of larger ones, so a change inside a
        large file can go unnoticed if it leaves the size and the modification time as they were.
    """
    raw = {split: [describe_file(file) for file in files] for split, files in raw_files.items()}
    settings = {key: params[key] for key in SETTINGS if params.get(key) is not None} | get_dividing_settings(params)
    columns = params.get("feature_cols") or []
    pretrained = {
        ", ".join(map(str, _as_list(column["name"]))): describe_file(Path(column["pretrained_emb"]))
        for column in columns
        if isinstance(column, dict) and column.get("pretrained_emb")
    }
    made_from = {"settings": settings, "raw": raw, "pretrained": pretrained, "fuxictr": detect_flavour()}
    return json.loads(json.dumps(made_from, default=str))


def describe_file(file: Path) -> list:
    """Return the identity of a file, ``[path, bytes, mtime_ns, digest]``, see ``fingerprint``.

    Raises:
        UsageError: no such file.
    """
    if not file.is_file():
        raise missing("file", file)
    status, digest = file.stat(), hashlib.blake2b(digest_size=16)
    with open(file, "rb") as content:
        if status.st_size <= WHOLE_BYTES:
            digest.update(content.read())
        else:
            for block in range(BLOCKS):
                content.seek((status.st_size - BLOCK_BYTES) * block // (BLOCKS - 1))
                digest.update(content.read(BLOCK_BYTES))
    return [str(file.resolve()), status.st_size, status.st_mtime_ns, digest.hexdigest()]


def is_unchanged(recorded: list) -> bool:
    """Return whether a raw file still has the identity that a manifest records; older manifests record no digest."""
    file = Path(recorded[0])
    return file.is_file() and _is_same_file(recorded, describe_file(file))


def describe_changes(old: dict, new: dict) -> str:
    """Return, in words, how two fingerprints differ, as far as the old one records it; "" if they agree.

    Args:
        old: recorded in a manifest, possibly of a data set that was not built from raw data.
        new: result of ``fingerprint``.
    """
    if not isinstance(old.get("settings"), dict):
        return f"it was {' and '.join(old)}, not built from raw data"
    changed = [
        f"{key} {old['settings'].get(key, 'not set')!r} is now {new['settings'].get(key, 'not set')!r}"
        for key in sorted({*old["settings"], *new["settings"]})
        if old["settings"].get(key) != new["settings"].get(key)
    ]
    old_raw = old.get("raw") or {}
    for split in sorted({*old_raw, *new["raw"]}):
        if not _are_same_files(old_raw.get(split), new["raw"].get(split)):
            changed.append(f"the raw {split} data have changed")
    if "pretrained" in old:
        for name in sorted({*old["pretrained"], *new["pretrained"]}):
            if not _is_same_file(old["pretrained"].get(name), new["pretrained"].get(name)):
                changed.append(f"the pretrained_emb of {name} has changed")
    if old.get("fuxictr") != new["fuxictr"]:
        changed.append(f"FuxiCTR {old.get('fuxictr')} is now {new['fuxictr']}")
    return "; ".join(text if len(text) < 200 else text[:197] + "..." for text in changed)


def describe_gaps(old: dict, new: dict) -> str:
    """Return, in words, what an older manifest does not record, so that changes go unnoticed; "" if it is complete."""
    gaps = []
    if new["pretrained"] and "pretrained" not in old:
        gaps.append(f"the files of pretrained_emb ({', '.join(new['pretrained'])})")
    if any(len(file) < 4 for files in (old.get("raw") or {}).values() for file in files):
        gaps.append("digests of the raw files (only their size and time)")
    changed = "whether these have changed since cannot be told; delete the folder to rebuild it"
    return f"{' and '.join(gaps)}: {changed}" if gaps else ""


def _as_list(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _are_same_files(old: list | None, new: list | None) -> bool:
    if not isinstance(old, list) or not isinstance(new, list) or len(old) != len(new):
        return old == new
    return all(_is_same_file(a, b) for a, b in zip(old, new, strict=True))


def _is_same_file(old: list | None, new: list | None) -> bool:
    """Return whether two descriptions of a file agree in everything that the older one records."""
    return old == new if not old or not new else old == new[: len(old)]


def write_manifest(folder: str | Path, **content: Any) -> None:
    """Write ``<folder>/manifest.json`` atomically, with digests of itself and of the files that hold no checksums.

    Args:
        folder: of the data set, with all its other files.
        **content: ``made_from``, the result of ``fingerprint`` or another origin; ``splits``, with rows
            and files; and ``files``, name -> bytes of every file of the set, which are the only ones that a later build
            may remove.
    """
    digests = digests_of_files(Path(folder), content["splits"])
    content = {"made_by": f"fuxictr_me {__version__}", **content, "format": FORMATS[-1], "file_digests": digests}
    content = json.loads(json.dumps(content))  # as it will be read back
    text = json.dumps({**content, "content_digest": digest_of_content(content)}, indent=2) + "\n"
    write_atomically(Path(folder) / NAME, lambda path: path.write_text(text, encoding="utf-8"))


def read_manifest(folder: str | Path) -> dict[str, Any] | None:
    """Return the manifest of a data set, or None if it has none.

    Raises:
        UsageError: the manifest is damaged, or has changed since it was written.
    """
    path = Path(folder) / NAME
    return parse_manifest(path) if path.exists() else None
