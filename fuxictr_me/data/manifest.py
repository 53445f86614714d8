"""What a built data set says of itself: from which settings and files it was made, and what it holds."""

import json
from pathlib import Path

from fuxictr_me.errors import UsageError
from fuxictr_me.files import replace_whole

NAME = "manifest.json"
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


def write_manifest(folder, **content):
    """``<folder>/manifest.json``, whole or not there."""
    text = json.dumps(content, indent=2) + "\n"
    replace_whole(Path(folder) / NAME, lambda path: path.write_text(text))


def read_manifest(folder):
    """The manifest of a data set, None where there is none.

    Raises:
        UsageError: one that is not whole.
    """
    path = Path(folder) / NAME
    if not path.exists():
        return None
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UsageError(f"{path} is not a whole manifest: {error}") from error
