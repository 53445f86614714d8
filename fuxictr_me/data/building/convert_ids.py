"""Ids that are there already, as our H5."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from fuxictr.features import FeatureMap
from tqdm import tqdm

from fuxictr_me import __version__
from fuxictr_me.config.splits import SPLITS
from fuxictr_me.data import feature_maps
from fuxictr_me.data.building.build_h5 import SplitWriter
from fuxictr_me.data.building.owned_files import is_generated, list_files
from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.h5.split_rows import Rows
from fuxictr_me.data.loaders.parquet_loader import read_columns
from fuxictr_me.data.manifest import write_manifest
from fuxictr_me.data.npz_files import read_npz
from fuxictr_me.errors import UsageError, missing
from fuxictr_me.io.atomic import atomic_folder

ROWS_A_TIME = 1 << 17


def convert_set(source: Path, target: Path) -> None:
    """Write every split of a built data set as H5, with its feature map and vocabularies.

    Args:
        source (Path): folder with ``feature_map.json``, and each split as H5 (of FuxiCTR 1.x to 2.1, or ours),
            npz or parquet, a file or a folder of blocks.
        target (Path): folder to write, which must not be there; its name becomes the ``dataset_id``.

    Raises:
        UsageError: no such set, ids that do not fit its feature map, or a ``target`` that is there.
    """
    if os.path.lexists(target):
        raise UsageError(f"{target} exists already")
    feature_map = feature_maps.load(source)
    splits = {split: reader for split in SPLITS if (reader := _reader(source, split, feature_map))}
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

        def chunks(split):
            rows, read = splits[split]
            for start in range(0, rows, ROWS_A_TIME):
                stop = min(start + ROWS_A_TIME, rows)
                yield read(start, stop)
                bar.update(stop - start)

        kept = ("feature_vocab", "pretrained_")
        copied = (file for file in source.iterdir() if file.is_file() and is_generated(file.name))
        extra = [file for file in copied if file.name.startswith(kept)]
        write_set(target, content, counts, chunks, {"converted": {"from": source.name}}, extra)


def write_set(
    target: Path,
    feature_map: dict,
    counts: dict[str, int],
    chunks: Callable[[str], Iterator[dict]],
    made_from: dict,
    extra: Iterable[Path] = (),
) -> None:
    """Write a data set whose ids are at hand; whole or not there.

    Args:
        target (Path): folder, which must not be there.
        feature_map (dict): as FuxiCTR's ``feature_map.json``.
        counts (dict): split -> rows.
        chunks (callable): split -> an iterator over dicts of column -> array (n,) or (n, L).
        made_from (dict): for the manifest.
        extra (list of Path): files to copy along.

    Raises:
        UsageError: ``target`` is there, or columns that do not fit the feature map.
    """
    target = Path(target)
    with atomic_folder(target) as folder:
        (folder / "feature_map.json").write_text(json.dumps(feature_map, indent=4))
        layout, splits = Layout.of(feature_maps.load(folder)), {}
        for split, rows in counts.items():
            with SplitWriter(folder, split, layout, rows) as writer:
                for columns in chunks(split):
                    writer.write(layout.gather(columns, len(next(iter(columns.values())))))
            splits[split] = {"rows": rows, "files": writer.files}
        for file in extra:
            shutil.copy(file, folder / file.name)
        by, files = f"fuxictr_me {__version__}", list_files(folder)
        write_manifest(folder, made_by=by, made_from=made_from, splits=splits, files=files)


def _reader(source: Path, split: str, feature_map: FeatureMap) -> tuple[int, Callable] | None:
    """(rows, read(start, stop) -> columns) of a split; None where there is none."""
    for kind in ("h5", "npz", "parquet"):
        one, several = source / f"{split}.{kind}", list(source.glob(f"{split}/*.{kind}"))
        if kind == "h5" and not one.exists() and not several:
            several = list(source.glob(f"{split}_part_*.h5"))
        if not one.exists() and not several:
            continue
        if kind == "h5":
            rows = Rows(feature_map, one, split)
            return len(rows), lambda start, stop, r=rows: r.layout.take(r.check(r.read(start, stop)))
        if kind == "npz":
            columns = read_npz([one] if one.exists() else sorted(several), feature_map)
        else:
            of_split = read_columns(feature_map, one if one.exists() else source / split, split)
            columns = {name: column.numpy() for name, column in of_split.items()}
        rows = len(next(iter(columns.values())))
        return rows, lambda start, stop, c=columns: {name: values[start:stop] for name, values in c.items()}
    return None
