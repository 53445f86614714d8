"""What a built data set says of itself: from which settings and files it was made, and what it holds."""

import hashlib
import json
from pathlib import Path
from typing import Any

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


WHOLE_BYTES = 1 << 24  # files up to 16 MiB are hashed whole
BLOCKS, BLOCK_BYTES = 64, 1 << 16  # of larger ones, this many blocks at even distances, the first and the last included


def fingerprint(params: dict, raw_files: dict[str, list[Path]]) -> dict:
    """Return all that the ids of a data set depend on: settings, and every file that it is made from.

    Args:
        params: settings of a run.
        raw_files: split -> files.

    Returns:
        dict: JSON as it is, so that it compares equal with what was read back. A file is ``[path, bytes, mtime_ns,
        digest]``; ``digest`` is of the whole file up to 16 MiB, of 64 blocks of 64 KiB of a larger one. So a change
        inside a large file that leaves its size and its time as they were can go unnoticed.
    """
    from fuxictr_me.compat.loaders import detect_flavour

    raw = {split: [describe_file(file) for file in files] for split, files in raw_files.items()}
    settings = {key: params[key] for key in SETTINGS if params.get(key) is not None}
    columns = params.get("feature_cols") or []
    pretrained = {
        ", ".join(map(str, _as_list(column["name"]))): describe_file(Path(column["pretrained_emb"]))
        for column in columns
        if isinstance(column, dict) and column.get("pretrained_emb")
    }
    made_from = {"settings": settings, "raw": raw, "pretrained": pretrained, "fuxictr": detect_flavour()}
    return json.loads(json.dumps(made_from, default=str))


def describe_file(file: Path) -> list:
    """Return what tells a file from another: ``[path, bytes, mtime_ns, digest]``, see ``fingerprint``.

    Raises:
        UsageError: no such file.
    """
    if not file.is_file():
        raise missing("file", file)
    found, digest = file.stat(), hashlib.blake2b(digest_size=16)
    with open(file, "rb") as content:
        if found.st_size <= WHOLE_BYTES:
            digest.update(content.read())
        else:
            for block in range(BLOCKS):
                content.seek((found.st_size - BLOCK_BYTES) * block // (BLOCKS - 1))
                digest.update(content.read(BLOCK_BYTES))
    return [str(file.resolve()), found.st_size, found.st_mtime_ns, digest.hexdigest()]


def is_unchanged(recorded: list) -> bool:
    """Whether a raw file is as a manifest says, as far as it says it: older ones hold no digest."""
    file = Path(recorded[0])
    return file.is_file() and _is_same_file(recorded, describe_file(file))


def is_same(old: dict, new: dict) -> bool:
    """Whether a data set was made from what it would be made from now; an older manifest is held to what it knows."""
    return not difference(old, new)


def difference(old: dict, new: dict) -> str:
    """In words, what differs between two fingerprints; the old one may be of a set that was not built from raw data."""
    if not isinstance(old.get("settings"), dict):
        return f"it was {' and '.join(old)}, not built from raw data"
    changed = [
        f"{key} {old['settings'].get(key, 'not set')!r} is now {new['settings'].get(key, 'not set')!r}"
        for key in sorted({*old["settings"], *new["settings"]})
        if old["settings"].get(key) != new["settings"].get(key)
    ]
    of_old = old.get("raw") or {}
    for split in sorted({*of_old, *new["raw"]}):
        if not _are_same_files(of_old.get(split), new["raw"].get(split)):
            changed.append(f"the raw {split} data have changed")
    if "pretrained" in old:
        for name in sorted({*old["pretrained"], *new["pretrained"]}):
            if not _are_same_files(*([files.get(name)] for files in (old["pretrained"], new["pretrained"]))):
                changed.append(f"the pretrained_emb of {name} has changed")
    if old.get("fuxictr") != new["fuxictr"]:
        changed.append(f"FuxiCTR {old.get('fuxictr')} is now {new['fuxictr']}")
    return "; ".join(text if len(text) < 200 else text[:197] + "..." for text in changed)


def unknown_to(old: dict, new: dict) -> str:
    """In words, what of ``new`` an older manifest has not recorded, so that a change is not noticed; "" if nothing."""
    gaps = []
    if new["pretrained"] and "pretrained" not in old:
        gaps.append(f"the files of pretrained_emb ({', '.join(new['pretrained'])})")
    if any(len(file) < 4 for files in (old.get("raw") or {}).values() for file in files):
        gaps.append("digests of the raw files (only their size and time)")
    changed = "whether these have changed since cannot be told; delete the folder to build it anew"
    return f"{' and '.join(gaps)}: {changed}" if gaps else ""


def _as_list(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _are_same_files(old: list | None, new: list | None) -> bool:
    if not isinstance(old, list) or not isinstance(new, list) or len(old) != len(new):
        return old == new
    return all(_is_same_file(a, b) for a, b in zip(old, new, strict=True))


def _is_same_file(old: list | None, new: list | None) -> bool:
    """Whether two descriptions agree in all that the older one holds."""
    return old == new if not old or not new else old == new[: len(old)]


def write_manifest(folder: str | Path, **content: Any) -> None:
    """Write ``<folder>/manifest.json``, whole or not at all, with digests of itself and of the files beside the rows.

    Args:
        folder: of the data set, whose feature map and vocabularies are already there.
        **content: ``made_by``; ``made_from``, of ``fingerprint`` or how else the set came about; ``splits``, with rows
            and files; and ``files``, name -> bytes of every file of the set: these, and no others, a later build may
            remove.
    """
    content = {**content, "format": FORMATS[-1], "file_digests": digests_of_files(Path(folder), content["splits"])}
    content = json.loads(json.dumps(content))  # what will be read back
    text = json.dumps({**content, "content_digest": digest_of_content(content)}, indent=2) + "\n"
    write_atomically(Path(folder) / NAME, lambda path: path.write_text(text, encoding="utf-8"))


def read_manifest(folder: str | Path) -> dict[str, Any] | None:
    """Return the manifest of a data set, None if it has none.

    Raises:
        UsageError: one that is not whole, or has changed since it was written.
    """
    path = Path(folder) / NAME
    return parse_manifest(path) if path.exists() else None
