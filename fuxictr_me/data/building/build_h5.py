"""From raw csv or parquet to an H5 data set, with FuxiCTR's own ids, in bounded memory."""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from tqdm import tqdm

from fuxictr_me.config.splits import SPLITS
from fuxictr_me.data.building.build_folder import build_once, folder_of
from fuxictr_me.data.building.encode_columns import Encoder, chunks, count_rows
from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.h5.h5_file import H5Writer
from fuxictr_me.data.manifest import fingerprint
from fuxictr_me.data.raw.find_files import raw_splits
from fuxictr_me.errors import UsageError

if TYPE_CHECKING:
    from fuxictr_me.data.building.processor import PreparingProcessor


def build_h5(params: dict, progress: bool = True) -> dict[str, str | None]:
    """Build ``<data_root>/<dataset_id>/`` as H5, unless it is there and of these settings and files.

    FuxiCTR's ``FeatureProcessor`` reads, preprocesses and fits; the vocabularies are its own, so the ids
    are. Rows are then encoded and written chunk by chunk. All is built in a temporary folder and moved into
    place when whole; what a killed build left is cleared by the next. A second process that builds the
    same data set waits, and uses what the first made.

    Args:
        params (dict): FuxiCTR's settings of a run, with the paths of the raw data in it.
        progress (bool): a bar, where the output is a terminal.

    Returns:
        dict: ``train_data``, ``valid_data``, ``test_data`` -> path of the ids, None for a split not asked for.

    Raises:
        UsageError: raw data that are not there or do not fit the config.
    """
    data_dir, raw = folder_of(params), raw_splits(params)
    made_from = fingerprint(params, raw)

    def write(folder: Path) -> dict:
        return _build(params, raw, folder, data_dir, progress)

    build_once(data_dir, made_from, raw, [], write)
    names = {split: split if params.get("data_block_size") else f"{split}.h5" for split in SPLITS}
    return {f"{split}_data": str(data_dir / names[split]) if split in raw else None for split in SPLITS}


def _build(params, raw, folder, data_dir, progress):
    """Fit and write into ``folder/<dataset_id>``; split -> what the manifest says of it."""
    from fuxictr_me.data.building.processor import PreparingProcessor, named_errors

    processor = PreparingProcessor(**{**params, "data_root": str(folder)})
    with named_errors(processor, params["dataset_id"]):
        lazy = {split: _read(processor, params, files) for split, files in raw.items()}
        logging.info(f"Collecting the vocabularies of {params['dataset_id']} ...")
        _fit(processor, lazy, params)
        encode, layout = Encoder(processor), Layout.of(processor.feature_map)
        counts = {split: count_rows(rows) for split, rows in lazy.items()}
        for split, count in counts.items():
            if count == 0:
                raise UsageError(f"the {split} split holds no rows")
        with tqdm(total=sum(counts.values()), unit="row", unit_scale=True, disable=None if progress else True) as bar:
            splits = {}
            for split, rows in lazy.items():
                bar.set_description(f"{params['dataset_id']} {split}")
                target = folder / params["dataset_id"]
                with SplitWriter(target, split, layout, counts[split], params.get("data_block_size") or 0) as writer:
                    for chunk in chunks(rows):
                        writer.write(layout.gather(encode(chunk), len(chunk)))
                        bar.update(len(chunk))
                splits[split] = {"rows": counts[split], "files": writer.files}
    processor.save_for(data_dir)
    return splits


def _read(processor: "PreparingProcessor", params: dict, files: list[Path]) -> pl.LazyFrame:
    """The preprocessed rows of a split, as a polars query."""
    return processor.preprocess(processor.read_files(files, params.get("sep"), params.get("n_rows")))


def _fit(processor, lazy, params):
    """FuxiCTR's fit; where it has one vocabulary of meta columns over all splits, that."""
    settings = {key: value for key, value in params.items() if not key.endswith("_data")}
    settings["rebuild_dataset"] = True
    module = sys.modules["fuxictr.preprocess.build_dataset"]
    if hasattr(module, "merge_meta_ddf"):
        settings["meta_ddf"] = module.merge_meta_ddf(processor, *(lazy.get(split) for split in SPLITS))
    processor.fit(lazy["train"], **settings)


class SplitWriter:
    """Write a split as one file, or as blocks of a number of rows.

    Args:
        folder (Path): of the data set.
        split (str), layout (Layout)
        rows (int): of the split.
        block_rows (int): rows of a block; 0 writes ``<split>.h5``, else ``<split>/part_00000.h5`` and on.

    Attributes:
        files (dict): name -> what the manifest says of it.
    """

    def __init__(self, folder, split, layout, rows, block_rows=0):
        self.folder, self.split, self.layout = Path(folder), split, layout
        self.left, self.block_rows = rows, block_rows
        self.files, self._writer = {}, None

    def __enter__(self):
        (self.folder / self.split if self.block_rows else self.folder).mkdir(parents=True, exist_ok=True)
        return self

    def write(self, matrices):
        """Append rows: matrix -> array (n, width)."""
        done, count = 0, len(next(iter(matrices.values())))
        while done < count:
            if self._writer is None:
                self._open()
            part = min(count - done, self._writer.left)
            self._writer.write({name: array[done : done + part] for name, array in matrices.items()})
            done += part
            if self._writer.left == 0:
                self._close()

    def _open(self):
        rows = min(self.left, self.block_rows) if self.block_rows else self.left
        name = f"{self.split}/part_{len(self.files):05d}.h5" if self.block_rows else f"{self.split}.h5"
        self._name, self._writer = name, H5Writer(self.folder / name, self.layout, rows)
        self.left -= rows

    def _close(self):
        self._writer.close()
        self.files[self._name] = self._writer.manifest_entry()
        self._writer = None

    def __exit__(self, kind, *_):
        if self._writer is not None:
            if kind is None:
                self._close()  # it says how many rows are missing
            else:
                self._writer.abandon()
