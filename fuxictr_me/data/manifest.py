"""What a built data set says of itself: from which settings and files it was made, and what it holds."""

import json
from pathlib import Path
from typing import Any

from fuxictr_me.data.manifest_checks import FORMATS, NAME, digest_of_content, digests_of_files, parse_manifest
from fuxictr_me.files import replace_whole

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


def fingerprint(params, raw_files):
    """All that the ids of a data set depend on.

    Args:
        params (dict): settings of a run.
        raw_files (dict): split -> list of Path.

    Returns:
        dict: JSON as it is, so that it compares equal with what was read back.
    """
    from fuxictr_me.versions import flavour

    raw = {
        split: [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
        for split, files in raw_files.items()
    }
    settings = {key: params[key] for key in SETTINGS if params.get(key) is not None}
    return json.loads(json.dumps({"settings": settings, "raw": raw, "fuxictr": flavour()}, default=str))


def difference(old, new):
    """In words, what differs between two fingerprints; the old one may be of a set that was not built from raw data."""
    if "settings" not in old:
        return f"it was {' and '.join(old)}, not built from raw data"
    changed = [
        f"{key} {old['settings'].get(key, 'not set')!r} is now {new['settings'].get(key, 'not set')!r}"
        for key in sorted({*old["settings"], *new["settings"]})
        if old["settings"].get(key) != new["settings"].get(key)
    ]
    changed += [f"the raw {split} data" for split in new["raw"] if old["raw"].get(split) != new["raw"][split]]
    if old["fuxictr"] != new["fuxictr"]:
        changed.append(f"FuxiCTR {old['fuxictr']} is now {new['fuxictr']}")
    return "; ".join(text if len(text) < 200 else text[:197] + "..." for text in changed)


def write_manifest(folder: str | Path, **content: Any) -> None:
    """Write ``<folder>/manifest.json``, whole or not at all, with digests of itself and of the files beside the rows.

    Args:
        folder: of the data set, whose feature map and vocabularies are already there.
        **content: ``made_by``, ``made_from`` and ``splits``.
    """
    content = {**content, "format": FORMATS[-1], "file_digests": digests_of_files(Path(folder))}
    content = json.loads(json.dumps(content))  # what will be read back
    text = json.dumps({**content, "content_digest": digest_of_content(content)}, indent=2) + "\n"
    replace_whole(Path(folder) / NAME, lambda path: path.write_text(text, encoding="utf-8"))


def read_manifest(folder: str | Path) -> dict[str, Any] | None:
    """Return the manifest of a data set, None if it has none.

    Raises:
        UsageError: one that is not whole, or has changed since it was written.
    """
    path = Path(folder) / NAME
    return parse_manifest(path) if path.exists() else None
