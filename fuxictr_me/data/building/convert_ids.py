"""Conversion of a data set whose ids are already built (H5 of FuxiCTR, npz, parquet) to fuxictr-me's H5."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fuxictr.features import FeatureMap
from tqdm import tqdm

from fuxictr_me.config.splits import SPLITS
from fuxictr_me.data import feature_maps
from fuxictr_me.data.building.owned_files import is_generated, list_files
from fuxictr_me.data.building.split_writer import Columns, H5SplitWriter, write_splits
from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.h5.split_rows import SplitRows
from fuxictr_me.data.loaders.parquet_loader import read_columns
from fuxictr_me.data.manifest import write_manifest
from fuxictr_me.data.npz_files import read_npz
from fuxictr_me.errors import UsageError, missing
from fuxictr_me.io.atomic import atomic_folder

CHUNK_ROWS = 1 << 17


def convert_set(source: Path, target: Path) -> None:
    """Write every split of a built data set as H5, with its feature map and vocabularies.

    Args:
        source: folder with ``feature_map.json`` and the splits as H5, npz or parquet: files or folders of blocks.
        target: folder to write; its name becomes the ``dataset_id``.

    Raises:
        UsageError: there is no such data set, its ids do not fit its feature map, or ``target`` exists.
    """
    if os.path.lexists(target):
        raise UsageError(f"{target} exists already")
    feature_map = feature_maps.load(source)
    splits = {split: reader for split in SPLITS if (reader := _open_split(source, split, feature_map))}
    if not splits:
        raise missing("train, valid or test data (h5, npz or parquet)", source / "train")
    content = {
        "dataset_id": target.name,
        "num_fields": feature_map.num_fields,
        "total_features": feature_map.total_features,
        "input_length": feature_map.input_length,
        "labels": feature_map.labels,
        "features": [{name: spec} for name, spec in feature_map.features.items()],
    }
    counts = {split: rows for split, (rows, _) in splits.items()}
    with tqdm(total=sum(counts.values()), unit="row", unit_scale=True, disable=None, desc=target.name) as bar:

        def read_chunks(split: str) -> Iterator[Columns]:
            rows, read = splits[split]
            for start in range(0, rows, CHUNK_ROWS):
                stop = min(start + CHUNK_ROWS, rows)
                yield read(start, stop)
                bar.update(stop - start)

        files = (file for file in source.iterdir() if file.is_file() and is_generated(file.name))
        extra = [file for file in files if file.name.startswith(("feature_vocab", "pretrained_"))]
        write_set(target, content, counts, read_chunks, {"converted": {"from": source.name}}, extra)


def write_set(
    target: Path,
    feature_map: dict,
    counts: dict[str, int],
    read_chunks: Callable[[str], Iterable[Columns]],
    made_from: dict,
    extra: Iterable[Path] = (),
    block_rows: int = 0,
) -> None:
    """Write an H5 data set from ids, completely or not at all.

    Args:
        target: folder to write.
        feature_map: content of FuxiCTR's ``feature_map.json``.
        counts: split -> number of rows.
        read_chunks: returns the chunks of a split, each a mapping of column -> array (n,) or (n, L).
        made_from: origin of the ids, for the manifest.
        extra: files to copy into the folder.
        block_rows: rows of a file; 0 writes one file per split.

    Raises:
        UsageError: ``target`` exists, or columns do not fit the feature map.
    """
    with atomic_folder(target) as folder:
        (folder / "feature_map.json").write_text(json.dumps(feature_map, indent=4))
        layout = Layout.from_feature_map(feature_maps.load(folder))
        splits = write_splits(H5SplitWriter, folder, layout, counts, read_chunks, block_rows)
        for file in extra:
            shutil.copy(file, folder / file.name)
        write_manifest(folder, made_from=made_from, splits=splits, files=list_files(folder))


def _open_split(source: Path, split: str, feature_map: FeatureMap) -> tuple[int, Callable[[int, int], Columns]] | None:
    """Return the number of rows of a split and a function that reads rows ``start`` to ``stop``; None if absent."""
    for kind in ("h5", "npz", "parquet"):
        file, blocks = source / f"{split}.{kind}", sorted(source.glob(f"{split}/*.{kind}"))
        if kind == "h5" and not file.exists() and not blocks:
            blocks = sorted(source.glob(f"{split}_part_*.h5"))
        if not file.exists() and not blocks:
            continue
        if kind == "h5":
            rows = SplitRows(feature_map, file, split)
            return len(rows), lambda start, stop, r=rows: r.layout.split_columns(r.check(r.read(start, stop)))
        if kind == "npz":
            columns = read_npz([file] if file.exists() else blocks, feature_map)
        else:
            tensors = read_columns(feature_map, file if file.exists() else source / split, split)
            columns = {name: column.numpy() for name, column in tensors.items()}
        count = len(next(iter(columns.values())))
        return count, lambda start, stop, c=columns: {name: values[start:stop] for name, values in c.items()}
    return None
