"""From raw csv or parquet to ids, through FuxiCTR's own ``FeatureProcessor``."""

import contextlib
import logging
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fuxictr_me.config.splits import SPLITS
from fuxictr_me.data.building.build_folder import build_once, folder_of
from fuxictr_me.data.building.owned_files import list_files
from fuxictr_me.data.manifest import fingerprint
from fuxictr_me.data.raw.find_files import raw_splits
from fuxictr_me.errors import UsageError

ROWS_A_CHUNK = 100_000  # as FuxiCTR's wheel transforms them


def build_dataset(params: dict) -> dict[str, str | None]:
    """Build ``<data_root>/<dataset_id>/`` as FuxiCTR's ``build_dataset`` does, unless it is there and current.

    The files are FuxiCTR's: ``feature_map.json``, ``feature_vocab.json``, ``feature_processor.pkl`` and the
    ids of each split as parquet. They are built in a temporary folder and moved into place when whole,
    ``feature_map.json`` last, so a build that fails or is killed leaves nothing that a next run would take
    for a data set. On the wheel the ids are written here rather than through Ray.

    Args:
        params (dict): FuxiCTR's settings of a run, with the paths of the raw data in it.

    Returns:
        dict: ``train_data``, ``valid_data``, ``test_data`` -> path of the ids, None for a split not asked for.

    Raises:
        UsageError: raw data that do not fit the config, or files that the ids would overwrite or mix with.
    """
    from fuxictr.preprocess import build_dataset as fuxictr_build

    from fuxictr_me.data.building.processor import PreparingProcessor, named_errors

    if params["data_format"] not in ("csv", "parquet"):
        raise UsageError(f"data_format {params['data_format']} is of built ids; raw data are csv or parquet")
    data_dir, raw = folder_of(params), raw_splits(params)
    names = {split: split if params.get("data_block_size") else f"{split}.parquet" for split in SPLITS}

    def write(folder: Path) -> dict:
        building = {**params, "data_root": str(folder)}
        encoder = PreparingProcessor(**building)
        with _without_ray(), named_errors(encoder, params["dataset_id"]):
            fuxictr_build(encoder, **building)
        encoder.save_for(data_dir)
        files = list_files(folder / data_dir.name)
        return {split: {"files": {name: {} for name in files if _is_of(name, names[split])}} for split in raw}

    build_once(data_dir, fingerprint(params, raw), raw, [names[split] for split in raw], write)
    return _paths(params, data_dir, names)


def _is_of(name: str, split: str) -> bool:
    """Whether a file is that of a split, or lies in its folder."""
    return name == split or name.startswith(f"{split}/")


def _paths(params, data_dir, names):
    return {f"{split}_data": str(data_dir / names[split]) if params.get(f"{split}_data") else None for split in SPLITS}


@contextlib.contextmanager
def _without_ray():
    """Let the wheel's ``build_dataset`` write ids with ``write_ids``; main's needs no Ray."""
    module = sys.modules["fuxictr.preprocess.build_dataset"]
    if not hasattr(module, "init_ray"):
        yield
        return
    original = module.transform
    module.transform = write_ids
    try:
        yield
    finally:
        module.transform = original


def write_ids(feature_encoder, ddf, split="train", block_size=0):
    """Turn raw columns into ids and write them, as ``transform`` of FuxiCTR's wheel does, without Ray.

    Args:
        feature_encoder (FeatureProcessor): fitted.
        ddf (polars.LazyFrame): raw columns.
        split (str): ``train``, ``valid`` or ``test``.
        block_size (int): rows of one file; 0 writes a single ``<split>.parquet``.
    """
    logging.info(f"Transform {split} features to integer IDs...")
    frame = ddf.collect()
    feature_encoder.check_rows(frame)
    if len(frame) == 0:
        raise UsageError(f"the {split} split holds no rows")
    folder = Path(feature_encoder.data_dir)
    if block_size > 0:
        folder = folder / split
    folder.mkdir(parents=True, exist_ok=True)
    for part, start in enumerate(range(0, len(frame), block_size or len(frame))):
        path = folder / (f"part-{part:06d}-0.parquet" if block_size else f"{split}.parquet")
        _write_file(feature_encoder, frame.slice(start, block_size or len(frame)), path)
    logging.info(f"Saved {split} ids to: {folder}")


def _as_numpy(column: pl.Series) -> np.ndarray:
    """A column as it is; with nulls as objects, since numpy would hold whole numbers beside nulls as floats."""
    return np.array(column.to_list(), dtype=object) if column.null_count() else column.to_numpy()


def _write_file(feature_encoder, frame, path):
    writer = None
    try:
        for start in range(0, len(frame), ROWS_A_CHUNK):
            chunk = frame.slice(start, ROWS_A_CHUNK)
            columns = feature_encoder.transform({column.name: _as_numpy(column) for column in chunk})
            table = pa.table({name: pa.array(list(values)) for name, values in columns.items()})
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer:
            writer.close()
