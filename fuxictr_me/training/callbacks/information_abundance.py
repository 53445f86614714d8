"""The callback that measures the information abundance of embeddings during training."""

import logging
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from fuxictr_me.collapse import random_reference
from fuxictr_me.compat import BaseModel
from fuxictr_me.tables import FieldTables, abundance_of_fields, find_tables
from fuxictr_me.training.callbacks.base import Callback
from fuxictr_me.training.callbacks.csv_log import CsvLog

Row = dict[str, Any]
COLUMNS = (
    "event",  # "evaluation", or "best": the best weights, after training
    "epoch",  # counts from 1
    "step",  # number of optimizer steps so far
    "layer",  # path of the embedding layer in the model
    "field",
    "set",  # 0 to M - 1, or "all": the sets side by side, [E¹ … Eᴹ]
    "num_ids",  # D: rows of the table without the padding row
    "dim",  # K: columns of the table
    "ia",  # information abundance
    "ia_ratio",  # ia / min(K, D)
    "ia_random",  # ia of a table of this shape at random initialisation; empty if it was pretrained
)
ALL = "all"


class InformationAbundance(Callback):
    """Record the information abundance of every embedding table at each evaluation, and of the best weights.

    It is written to ``<model_root>/<dataset_id>/<model_id>.ia.csv`` (columns: ``COLUMNS``), with one line of means in
    the log, and to TensorBoard on request. The callback works on any FuxiCTR model. Numeric fields and tables of
    dimension 1 are left out. The padding row does not count, the out-of-vocabulary row does. A table with NaN gets an
    empty ``ia`` and a warning. A run replaces the file of an earlier run of the same ``model_id``. On a GPU, IA is
    computed from Gram matrices, with an error of about K · 1e-8; on a CPU it is exact to rounding.

    Args:
        tensorboard: also write scalars to ``<model_id>.tensorboard/`` beside the csv file.
    """

    def __init__(self, tensorboard: bool = False):
        self.tensorboard = tensorboard

    def on_fit_start(self, model: BaseModel) -> None:
        self.path = Path(model.model_dir) / f"{model.model_id}.ia.csv"
        self._log = CsvLog(self.path, COLUMNS)
        self._writer: Any = None
        if self.tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # of an extra that need not be installed

            self._writer = SummaryWriter(self.path.with_name(f"{model.model_id}.tensorboard"))

    def on_evaluation_end(self, model: BaseModel, logs: dict[str, float]) -> None:
        self._record(model, "evaluation")

    def on_fit_end(self, model: BaseModel) -> None:
        self._record(model, "best")
        if self._writer:
            self._writer.close()

    def _record(self, model: BaseModel, event: str) -> None:
        epoch, step = model._epoch_index + 1, model._total_steps
        tables = self._find_tables(model)
        rows = [
            {"event": event, "epoch": epoch, "step": step, **row}
            for of_field, abundance in zip(tables, abundance_of_fields(tables), strict=True)
            for row in self._rows_of_field(of_field, abundance)
        ]
        self._log.append(rows)
        logging.info(_summarise(rows))
        if self._writer and event == "evaluation":
            for row in rows:
                if row["ia"] != "":
                    self._writer.add_scalar(f"ia/{row['layer']}/{row['field']}/{row['set']}", row["ia"], step)

    def _find_tables(self, model: BaseModel) -> list[FieldTables]:
        """Return the tables that are measured."""
        return find_tables(model)

    def _rows_of_field(self, tables: FieldTables, abundance: Any) -> Iterator[Row]:
        """Yield one row per set, and one for all sets side by side."""
        if isinstance(abundance, ValueError):
            logging.warning(f"[IA] field {tables.field}: {abundance}")
            abundance = [""] * len(tables.sets), ""
        per_set, side_by_side = abundance
        dims = tables.dims
        parts = [
            *zip(range(len(dims)), [[dim] for dim in dims], per_set, strict=True),
            (ALL, dims, side_by_side),
        ]
        for name, part_dims, ia in parts:
            dim = sum(part_dims)
            ia_random: float | str = ""
            if tables.initializer is not None:
                ia_random = random_reference(tables.num_ids, tuple(part_dims), tables.initializer).ia
            yield {
                "layer": tables.layer,
                "field": tables.field,
                "set": name,
                "num_ids": tables.num_ids,
                "dim": dim,
                "ia": ia,
                "ia_ratio": "" if ia == "" else ia / max(1, tables.ceiling(dim)),
                "ia_random": ia_random,
            }


def _summarise(rows: list[Row]) -> str:
    """Return one line for the log: means over fields, of single sets and of the sets side by side."""
    measured = [row for row in rows if row["ia"] != ""]
    whole = [row for row in measured if row["set"] == ALL]
    single = [row for row in measured if row["set"] != ALL]
    if not whole:
        return "[IA] no embedding table to measure"
    lowest = min(whole, key=lambda row: row["ia_ratio"])
    text = f"[IA] mean {_describe_means(whole)} over {len(whole)} fields"
    if len(single) > len(whole):
        text += f"; of one set {_describe_means(single)}"
    return text + (
        f"; lowest {lowest['field']}: {lowest['ia']:.2f} of min(K, D) = {min(lowest['dim'], lowest['num_ids'])}"
    )


def _describe_means(rows: list[Row]) -> str:
    text = f"{fmean(row['ia'] for row in rows):.2f} = {fmean(row['ia_ratio'] for row in rows):.1%} of min(K, D)"
    random = [row["ia_random"] for row in rows if row["ia_random"] != ""]
    return text + (f" (random {fmean(random):.2f})" if random else "")
