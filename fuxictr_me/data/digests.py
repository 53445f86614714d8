"""Digests that tell whether two runs had the same data and the same settings."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from fuxictr_me.config.splits import SPLITS
from fuxictr_me.data.manifest import SETTINGS as DATA_SETTINGS
from fuxictr_me.data.manifest import read_manifest
from fuxictr_me.errors import missing
from fuxictr_me.io.checksums import hash_file, hash_json

KINDS = ("parquet", "npz", "h5")  # FuxiCTR completes names so
# Which data a run has, its data digest tells; where it ran changes nothing.
NOT_IN_SETTINGS = {*DATA_SETTINGS, "dataset_id", "data_root", "rebuild_dataset", "model_id", "model_root", "gpu"}
NOT_IN_SETTINGS |= {"verbose", "num_workers", *(f"{split}_data" for split in SPLITS)}
NOT_IN_SETTINGS -= {"group_id", "data_block_size"}


def settings_digest(params: dict) -> str:
    """Return the SHA-256 of all settings of a run, but for those that say where its data and files lie.

    Args:
        params: as ``load_settings`` gives them; the data are told apart by ``data_digest``.
    """
    return hash_json({key: value for key, value in params.items() if key not in NOT_IN_SETTINGS})


def data_digest(params: dict) -> str:
    """Return the SHA-256 of a built data set: its feature map, vocabulary, pretrained vectors, and each split's rows.

    Rows count by the checksums that the set's manifest has of them; without such, by the files' bytes.

    Args:
        params: settings of a run whose data are built; ``<split>_data`` are the paths of the ids.

    Raises:
        UsageError: files that are not there, or a manifest that is not whole.
    """
    folder = Path(params["data_root"]) / params["dataset_id"]
    splits = (read_manifest(folder) or {}).get("splits", {})
    content = {"feature_map": _feature_map(folder / "feature_map.json"), "files": {}}
    for name in ("feature_vocab.json", *_pretrained(content["feature_map"])):
        if (folder / name).is_file():
            content["files"][name] = hash_file(folder / name)
    for split in SPLITS:
        if path := params.get(f"{split}_data"):
            entries = splits.get(split, {}).get("files", {})
            kept = [entry for entry in entries.values() if isinstance(entry, dict) and "checksums" in entry]
            known = kept and len(kept) == len(entries)
            content[split] = kept if known else [hash_file(file) for file in split_files(path)]
    return hash_json(content)


def count_rows(params: dict) -> dict:
    """Return split -> rows of a built data set, of the splits whose rows are recorded."""
    folder = Path(params["data_root"]) / params["dataset_id"]
    found, splits = {}, (read_manifest(folder) or {}).get("splits", {})
    for split in SPLITS:
        rows = splits.get(split, {}).get("rows")
        if rows is None and params.get(f"{split}_data"):
            files = split_files(params[f"{split}_data"])
            if files and all(file.suffix == ".parquet" for file in files):
                rows = sum(pq.read_metadata(file).num_rows for file in files)
        if rows is not None:
            found[split] = rows
    return found


def split_files(path: str | Path) -> list[Path]:
    """Return the files of ids that a split consists of: itself, those of the folder, or the name with an ending.

    Raises:
        UsageError: there are none.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lstrip(".") in KINDS)
    else:
        files = [file for file in (path, *(Path(f"{path}.{kind}") for kind in KINDS)) if file.is_file()][:1]
        files = files or sorted(path.parent.glob(path.name))
    if not files:
        raise missing("built data", path)
    return files


def _feature_map(path: Path) -> dict:
    """Return the content of a feature map but for its name, which an adopted set has otherwise."""
    if not path.is_file():
        raise missing("feature map", path)
    content = json.loads(path.read_text())
    return {key: value for key, value in content.items() if key != "dataset_id"}


def _pretrained(feature_map: dict) -> list[str]:
    specs = [spec for entry in feature_map.get("features", []) for spec in entry.values()]
    return sorted(
        {str(spec["pretrained_emb"]) for spec in specs if isinstance(spec, dict) and "pretrained_emb" in spec}
    )
