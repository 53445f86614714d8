"""Building of a data set: raw csv or parquet files to ids in H5 or parquet, in bounded memory."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from tqdm import tqdm

from fuxictr_me.config.splits import SPLITS, get_split_names
from fuxictr_me.data.building.build_folder import build_once, folder_of
from fuxictr_me.data.building.encode_columns import Encoder, count_rows, iterate_chunks
from fuxictr_me.data.building.read_splits import read_splits
from fuxictr_me.data.building.split_writer import Columns, H5SplitWriter, ParquetSplitWriter, write_splits
from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.manifest import fingerprint
from fuxictr_me.data.raw.find_files import raw_splits
from fuxictr_me.errors import UsageError

if TYPE_CHECKING:
    from fuxictr_me.data.building.processor import PreparingProcessor


def build_h5(params: dict, progress: bool = True) -> dict[str, str | None]:
    """Build ``<data_root>/<dataset_id>/`` with ids in H5, unless it is current.

    FuxiCTR's ``FeatureProcessor`` reads, preprocesses and fits, so the vocabularies and ids are FuxiCTR's. Rows are
    encoded and written chunk by chunk. The build is atomic: all files are written to a temporary folder and moved into
    place at the end, ``feature_map.json`` last. A second process that builds the same data set waits for the first one
    and uses its result.

    Args:
        params: FuxiCTR's settings of a run, with the paths of the raw data.
        progress: whether to show a progress bar if the output is a terminal.

    Returns:
        ``train_data``, ``valid_data``, ``test_data`` -> path of the ids, None for a split without raw data.

    Raises:
        UsageError: raw data are missing or do not fit the config, or files of others would be overwritten.
    """
    return _build(params, H5SplitWriter, progress)


def build_dataset(params: dict, progress: bool = True) -> dict[str, str | None]:
    """Build ``<data_root>/<dataset_id>/`` with ids in parquet, as FuxiCTR does, unless it is current.

    The files are FuxiCTR's: ``feature_map.json``, ``feature_vocab.json``, ``feature_processor.pkl`` and the ids of each
    split. They are built as ``build_h5`` builds them, without Ray.

    Args:
        params: as for ``build_h5``; ``data_format`` is csv or parquet.
        progress: as for ``build_h5``.

    Returns:
        As ``build_h5``.

    Raises:
        UsageError: as ``build_h5``; or ``data_format`` is not a format of raw data.
    """
    if params["data_format"] not in ("csv", "parquet"):
        raise UsageError(f"data_format {params['data_format']} is of built ids; raw data are csv or parquet")
    return _build(params, ParquetSplitWriter, progress)


def _build(params: dict, writer: type[H5SplitWriter], progress: bool) -> dict[str, str | None]:
    data_dir, raw = folder_of(params), raw_splits(params)
    names = {
        split: split if params.get("data_block_size") else f"{split}.{writer.ending}"
        for split in get_split_names(params)
    }

    def write(folder: Path) -> dict:
        return _write_files(params, raw, folder, data_dir, writer, progress)

    build_once(data_dir, fingerprint(params, raw), raw, list(names.values()), write)
    return {f"{split}_data": str(data_dir / names[split]) if split in names else None for split in SPLITS}


def _write_files(
    params: dict, raw: dict[str, list[Path]], folder: Path, data_dir: Path, writer: type[H5SplitWriter], progress: bool
) -> dict[str, dict]:
    """Fit and write the data set into ``folder/<dataset_id>``; return the manifest's entry of each split."""
    from fuxictr_me.data.building.processor import PreparingProcessor, explain_errors  # pays for FuxiCTR's preprocess

    dataset_id, block_rows = params["dataset_id"], params.get("data_block_size") or 0
    processor = PreparingProcessor(**{**params, "data_root": str(folder)})
    with explain_errors(processor, dataset_id):
        lazy = {split: processor.preprocess(rows) for split, rows in read_splits(processor, raw, params).items()}
        logging.info(f"Collecting the vocabularies of {dataset_id} ...")
        _fit(processor, lazy, params)
        encoder, layout = Encoder(processor), Layout.from_feature_map(processor.feature_map)
        counts = {split: count_rows(rows) for split, rows in lazy.items()}
        if empty := [split for split, count in counts.items() if count == 0]:
            raise UsageError(f"the {empty[0]} split holds no rows")
        with tqdm(total=sum(counts.values()), unit="row", unit_scale=True, disable=None if progress else True) as bar:

            def encode_chunks(split: str) -> Iterator[Columns]:
                bar.set_description(f"{dataset_id} {split}")
                for chunk in iterate_chunks(lazy[split]):
                    yield encoder.encode(chunk)
                    bar.update(len(chunk))

            splits = write_splits(writer, folder / dataset_id, layout, counts, encode_chunks, block_rows)
    processor.save_for(data_dir)
    return splits


def _fit(processor: "PreparingProcessor", lazy: dict[str, pl.LazyFrame], params: dict) -> None:
    """Call FuxiCTR's ``fit``; FuxiCTR's wheel collects the vocabulary of meta columns over all splits."""
    settings = {key: value for key, value in params.items() if not key.endswith("_data")}
    settings["rebuild_dataset"] = True
    module = sys.modules["fuxictr.preprocess.build_dataset"]
    if hasattr(module, "merge_meta_ddf"):
        settings["meta_ddf"] = module.merge_meta_ddf(processor, *(lazy.get(split) for split in SPLITS))
    processor.fit(lazy["train"], **settings)
