"""Digests of the data and the settings of a run, to tell whether two runs had the same."""

import json
from pathlib import Path

import pyarrow.parquet as pq

from fuxictr_me.config.splits import DIVIDING_KEYS, SPLITS
from fuxictr_me.data.manifest import SETTINGS as DATA_SETTINGS
from fuxictr_me.data.manifest import read_manifest
from fuxictr_me.errors import missing
from fuxictr_me.io.checksums import hash_file, hash_json

KINDS = ("parquet", "npz", "h5")  # endings that FuxiCTR adds to names
# The data are covered by the data digest, and the place of a run does not change its result.
NOT_IN_SETTINGS = {
    *DATA_SETTINGS,
    *DIVIDING_KEYS,
    "dataset_id",
    "data_root",
    "rebuild_dataset",
    "model_id",
    "model_root",
    "gpu",
}
NOT_IN_SETTINGS |= {"verbose", "num_workers", *(f"{split}_data" for split in SPLITS)}
NOT_IN_SETTINGS -= {"group_id", "data_block_size"}


def settings_digest(params: dict) -> str:
    """Return the SHA-256 of the settings of a run without those of its data and of the paths of its files."""
    return hash_json({key: value for key, value in params.items() if key not in NOT_IN_SETTINGS})


def data_digest(params: dict) -> str:
    """Return the SHA-256 of a built data set: its feature map, vocabulary, pretrained vectors, and each split's rows.

    Rows are represented by their checksums in the manifest, or if it has none, by the bytes of their files.

    Args:
        params: settings of a run whose data are built; ``<split>_data`` are the paths of the ids.

    Raises:
        UsageError: files are missing, or the manifest is damaged.
    """
    folder = Path(params["data_root"]) / params["dataset_id"]
    splits = (read_manifest(folder) or {}).get("splits", {})
    content: dict = {"feature_map": _read_feature_map(folder / "feature_map.json"), "files": {}}
    for name in ("feature_vocab.json", *_pretrained_files(content["feature_map"])):
        if (folder / name).is_file():
            content["files"][name] = hash_file(folder / name)
    for split in SPLITS:
        if path := params.get(f"{split}_data"):
            entries = splits.get(split, {}).get("files", {})
            with_checksums = [entry for entry in entries.values() if "checksums" in entry]
            is_known = entries and len(with_checksums) == len(entries)
            content[split] = with_checksums if is_known else [hash_file(file) for file in find_id_files(path)]
    return hash_json(content)


def count_rows(params: dict) -> dict[str, int]:
    """Return split -> number of rows of a built data set, for the splits whose files record it."""
    folder = Path(params["data_root"]) / params["dataset_id"]
    counts, splits = {}, (read_manifest(folder) or {}).get("splits", {})
    for split in SPLITS:
        rows = splits.get(split, {}).get("rows")
        if rows is None and params.get(f"{split}_data"):
            files = find_id_files(params[f"{split}_data"])
            if files and all(file.suffix == ".parquet" for file in files):
                rows = sum(pq.read_metadata(file).num_rows for file in files)
        if rows is not None:
            counts[split] = rows
    return counts


def find_id_files(path: str | Path) -> list[Path]:
    """Return the files of a split: those of a folder or a pattern, or one file, whose ending may be left out.

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


def _read_feature_map(path: Path) -> dict:
    """Return the content of a feature map without its name, which differs for an adopted data set."""
    if not path.is_file():
        raise missing("feature map", path)
    content = json.loads(path.read_text())
    return {key: value for key, value in content.items() if key != "dataset_id"}


def _pretrained_files(feature_map: dict) -> list[str]:
    specs = [spec for entry in feature_map.get("features", []) for spec in entry.values()]
    return sorted(
        {str(spec["pretrained_emb"]) for spec in specs if isinstance(spec, dict) and "pretrained_emb" in spec}
    )
