"""From raw csv or parquet to ids, through FuxiCTR's own ``FeatureProcessor``."""

import contextlib
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from fuxictr_me.data.manifest import fingerprint
from fuxictr_me.data.place import SPLITS, is_current, locked, put_in_place, raw_files
from fuxictr_me.errors import UsageError

ROWS_A_CHUNK = 100_000  # as FuxiCTR's wheel transforms them


def build_dataset(params):
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
        UsageError: raw data that do not fit the config, or that the ids would overwrite.
    """
    from fuxictr.preprocess import build_dataset as fuxictr_build

    from fuxictr_me.data.processor import PreparingProcessor, named_errors

    data_dir = Path(params["data_root"]) / params["dataset_id"]
    names = {split: split if params.get("data_block_size") else f"{split}.parquet" for split in SPLITS}
    raw = {split: raw_files(params[f"{split}_data"]) for split in SPLITS if params.get(f"{split}_data")}
    for split in raw:
        _keep_raw_data(params[f"{split}_data"], data_dir / names[split])
    made_from = fingerprint(params, raw)
    with locked(data_dir):
        if is_current(data_dir, made_from):
            return _paths(params, data_dir, names)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=data_dir) as temporary:
            building = {**params, "data_root": temporary}
            encoder = PreparingProcessor(**building)
            with _without_ray(), named_errors(encoder, params["dataset_id"]):
                fuxictr_build(encoder, **building)
            built = Path(encoder.data_dir)
            encoder.save_for(data_dir)
            put_in_place(built, data_dir, made_from, splits={split: {"files": {names[split]: {}}} for split in raw})
    return _paths(params, data_dir, names)


def _paths(params, data_dir, names):
    return {f"{split}_data": str(data_dir / names[split]) if params.get(f"{split}_data") else None for split in SPLITS}


def _keep_raw_data(raw, target):
    """Refuse to put ids where the raw data lie, or where a folder is."""
    if raw and target.exists() and (target.is_dir() or target.samefile(raw)):
        what = "a folder" if target.is_dir() else "the raw data"
        raise UsageError(f"the ids would go to {target}, where {what} is: set another dataset_id or data_root")


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
