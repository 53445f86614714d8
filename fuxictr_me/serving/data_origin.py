"""Find what the ids of a built data set were made from: settings, raw files, and the raw column of each field."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from fuxictr_me.config import RAW_DTYPES, check_dataset, is_built
from fuxictr_me.config.splits import SPLITS, is_divided
from fuxictr_me.data.building.processor import PreparingProcessor
from fuxictr_me.data.building.read_splits import assign_raw_rows, read_splits
from fuxictr_me.data.manifest import is_unchanged, read_manifest
from fuxictr_me.data.raw.find_files import raw_files, separator
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.runs.finished_run import FinishedRun

DEFAULT_FILLS = {"str": "", "int": 0, "float": 0.0}  # FuxiCTR's values of fill_na


@dataclass(frozen=True)
class DataOrigin:
    """Settings and raw files from which a data set was built.

    Attributes:
        dataset_id, folder: of the built set.
        settings: ``feature_cols``, ``label_col``, ``sep``, ``n_rows``, and how ``train_data`` was divided, if it was.
        files: split -> raw files, of the splits whose files have not changed since the build. If the rows of
            ``train_data`` were divided, it has those of train only, which hold the rows of all splits.
        is_recorded: whether the data set's manifest says so; otherwise it is taken from the config.
    """

    dataset_id: str
    folder: Path
    settings: dict[str, Any]
    files: dict[str, list[Path]]
    is_recorded: bool

    @property
    def columns(self) -> dict[str, dict[str, Any]]:
        """Name -> entry of ``feature_cols``, in their order."""
        columns: dict[str, dict[str, Any]] = {}
        for column in self.settings["feature_cols"]:
            names = column["name"] if isinstance(column["name"], list) else [column["name"]]
            columns |= {name: {"active": True, **column, "name": name} for name in names}
        return columns

    @property
    def sep(self) -> str:
        """Separator of csv columns."""
        files = next((files for files in self.files.values() if files), [Path("raw.csv")])
        return separator(files[0], self.settings.get("sep"))

    def preprocess(self, split: str) -> pl.LazyFrame:
        """Return the raw rows of a split after FuxiCTR's ``preprocess``.

        Raises:
            UsageError: raw files are missing or have changed.
        """
        if not self.files.get(split):
            raise UsageError(f"the raw {split} data of {self.dataset_id} are missing, or have changed since the build")
        for column in self.columns.values():
            if column["dtype"] not in RAW_DTYPES:  # FuxiCTR would evaluate it as Python
                raise unknown(f"dtype of column {column['name']!r}", column["dtype"], RAW_DTYPES)
        settings = {**self.settings, "dataset_id": self.dataset_id, "data_root": str(self.folder.parent)}
        processor = PreparingProcessor(**settings)
        return processor.preprocess(read_splits(processor, {split: self.files[split]}, settings)[split])

    def is_in_split(self, split: str) -> Iterable[bool]:
        """Return, for each row of a split's raw files one after another, whether the build used it for this split."""
        if not is_divided(self.settings):
            return itertools.repeat(True)
        return (assign_raw_rows(self.files[split], self.settings) == SPLITS.index(split)).tolist()


def find_origin(run: FinishedRun) -> DataOrigin:
    """Return what the data set of a run was built from, by its manifest, or by the config if FuxiCTR built it.

    Raises:
        UsageError: it was not built from raw data, or neither manifest nor config say how.
    """
    dataset_id = run.params["dataset_id"]
    folder = Path(run.params["data_root"]) / dataset_id
    manifest = read_manifest(folder)
    if manifest is None:
        return DataOrigin(dataset_id, folder, *_read_config(run, folder), is_recorded=False)
    made_from = manifest["made_from"]
    if "settings" not in made_from:
        raise UsageError(f"{folder} was {' and '.join(made_from)}, not built from raw data")
    files = {
        split: [Path(path) for path, *_ in recorded]
        for split, recorded in made_from["raw"].items()
        if all(map(is_unchanged, recorded))
    }
    return DataOrigin(dataset_id, folder, made_from["settings"], files, is_recorded=True)


def _read_config(run: FinishedRun, folder: Path) -> tuple[dict[str, Any], dict[str, list[Path]]]:
    params = dict(run.params)
    if not params.get("feature_cols") or is_built(params):
        raise UsageError(f"neither a manifest in {folder} nor feature_cols in the config say how its ids were made")
    check_dataset(params, run.folder)
    return params, {split: raw_files(params[f"{split}_data"]) for split in SPLITS if params.get(f"{split}_data")}


@dataclass(frozen=True)
class RawColumn:
    """The raw column of a field.

    Attributes:
        name: name of the column, or ``function(column)`` if only FuxiCTR's ``preprocess`` can compute it.
        dtype: ``str``, ``int`` or ``float``; None if ``preprocess`` decides it.
        fill: replaces a missing value.
    """

    name: str
    dtype: str | None
    fill: object


def find_raw_columns(columns: dict[str, dict[str, Any]]) -> dict[str, RawColumn]:
    """Return the raw column of each field. FuxiCTR's ``preprocess`` makes fields from columns, the last one first.

    Args:
        columns: name -> entry of ``feature_cols``.
    """
    raw: dict[str, RawColumn] = {}
    for name, column in reversed(columns.items()):
        fill = column.get("fill_na", DEFAULT_FILLS[column["dtype"]])
        function, _, argument = (column.get("preprocess") or "").rstrip(")").partition("(")
        source = argument or name
        if not function:
            raw[name] = RawColumn(name, column["dtype"], fill)
        elif function == "missing_as_value":
            raw[name] = RawColumn(source, "str", "missing")
        elif function == "copy_from":
            dtype = columns.get(source, column)["dtype"]
            raw[name] = raw.get(source, RawColumn(source, dtype, fill))
        else:
            raw[name] = RawColumn(f"{function}({source})", None, None)
    return raw
