"""A description of a built data set, for the terminal."""

from pathlib import Path
from typing import Any

from fuxictr_me.config.splits import get_dividing_settings
from fuxictr_me.data import feature_maps
from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.manifest import read_manifest
from fuxictr_me.formatting import format_bytes, pluralize


def describe_set(folder: Path) -> str:
    """Return a table of the rows, fields, vocabularies and sizes of a built data set, and what it was made from.

    Raises:
        UsageError: ``folder`` has no built data set.
    """
    feature_map, manifest = feature_maps.load(folder), read_manifest(folder)
    layout = Layout.from_feature_map(feature_map)
    lines = [f"{folder}: {len(feature_map.features)} fields, {layout.row_bytes} bytes a row as H5"]
    if manifest is None:
        lines.append("no manifest: not built by fuxictr-me; damage to its rows would not be noticed")
    else:
        made = manifest["made_from"]
        how = f"FuxiCTR's {made['fuxictr']}" if "fuxictr" in made else ", ".join(made)
        lines += [f"made by {manifest['made_by']} ({how})", _describe_protection(manifest)]
        if division := get_dividing_settings(made.get("settings", {})):
            kind = division.pop("split_type")
            lines.append(f"splits are parts of one file, {kind}: " + ", ".join(f"{k} {v}" for k, v in division.items()))
        for split, entry in manifest["splits"].items():
            paths = [folder / name for name in entry["files"] if (folder / name).is_file()]
            size = sum(path.stat().st_size for path in paths)
            rows = f"{entry['rows']:>12,} rows, " if "rows" in entry else ""  # not recorded for parquet
            lines.append(f"{split:<6} {rows}{pluralize(len(entry['files']), 'file')}, {format_bytes(size)}")
    lines.append(f"{'field':<24} {'type':<12} {'vocabulary':>10}  stored as")
    for name, place in layout.places.items():
        spec = feature_map.features.get(name, {"type": "label"})
        width = f" x {place.width}" if place.is_vector else ""
        size = f"{spec['vocab_size']:,}" if "vocab_size" in spec else ""
        lines.append(f"{name:<24} {spec['type']:<12} {size:>10}  {place.matrix}{width}")
    return "\n".join(lines)


def _describe_protection(manifest: dict[str, Any]) -> str:
    """Say what damage is noticed when the files are read."""
    files = {name: entry for split in manifest["splits"].values() for name, entry in split["files"].items()}
    if all("trailer" in entry for entry in files.values()):
        return "protected: each block of rows is compared with its checksum when it is read"
    has_digests = files.keys() <= manifest.get("file_digests", {}).keys()
    if has_digests or all(entry.get("checksums") for entry in files.values()):
        return "files are checked as a whole at every start; `fuxictr-me data convert OLD NEW` makes that faster"
    return "not protected: no checksums of rows are kept"
