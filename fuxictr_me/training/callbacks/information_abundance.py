"""The callback that watches embeddings for collapse while they train."""

import csv
import io
import logging
from pathlib import Path
from statistics import fmean

from fuxictr_me.collapse import random_reference
from fuxictr_me.errors import RunError
from fuxictr_me.io.atomic import append_whole, replace_whole
from fuxictr_me.tables import abundance_of_fields, find_tables
from fuxictr_me.training.callbacks.base import Callback

COLUMNS = (
    "event",  # "evaluation", or "best": the best weights, after training
    "epoch",  # counts from 1
    "step",  # optimizer steps done
    "layer",  # the embedding layer in the model
    "field",
    "set",  # 0 to M - 1, or "all": the sets side by side, [E¹ … Eᴹ]
    "num_ids",  # D: rows of the table without the padding row
    "dim",  # K: columns of the table
    "ia",  # information abundance
    "ia_ratio",  # ia / min(K, D)
    "ia_random",  # ia of a table of this shape at random initialisation; empty where it was pretrained
)
ALL = "all"


class InformationAbundance(Callback):
    """Write the information abundance of every embedding table at each evaluation and of the best weights.

    To ``<model_root>/<dataset_id>/<model_id>.ia.csv`` (columns: ``COLUMNS``), one line of means to the log,
    and to TensorBoard if asked. Works on any FuxiCTR model; numeric fields and tables of dimension 1 are
    left out, the padding row does not count, the out-of-vocabulary row does. A table with NaN gets an
    empty ``ia`` and a warning. A run replaces the file of an earlier run of the same ``model_id``. On a GPU, IA is that
    of Gram matrices, off by about K · 1e-8; on a CPU it is exact to rounding.

    Args:
        tensorboard (bool): also write scalars to ``<model_id>.tensorboard/`` beside the csv.
    """

    def __init__(self, tensorboard=False):
        self.tensorboard = tensorboard

    def on_fit_start(self, model):
        self.path = Path(model.model_dir) / f"{model.model_id}.ia.csv"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        replace_whole(self.path, lambda path: path.write_bytes(_csv_block([COLUMNS])))
        self._inode = self.path.stat().st_ino
        self._writer = None
        if self.tensorboard:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(self.path.with_name(f"{model.model_id}.tensorboard"))

    def on_evaluation_end(self, model, logs):
        self._record(model, "evaluation")

    def on_fit_end(self, model):
        self._record(model, "best")
        if self._writer:
            self._writer.close()

    def _record(self, model, event):
        epoch, step = model._epoch_index + 1, model._total_steps
        found = self._tables(model)
        rows = [
            {"event": event, "epoch": epoch, "step": step, **row}
            for tables, measured in zip(found, abundance_of_fields(found), strict=True)
            for row in self._rows(tables, measured)
        ]
        if self.path.stat().st_ino != self._inode:
            raise RunError(f"another run has begun {self.path} anew: rows of two runs do not go into one file")
        append_whole(self.path, _csv_block([[row[column] for column in COLUMNS] for row in rows]))
        logging.info(summary(rows))
        if self._writer and event == "evaluation":
            for row in rows:
                if row["ia"] != "":
                    self._writer.add_scalar(f"ia/{row['layer']}/{row['field']}/{row['set']}", row["ia"], step)

    def _tables(self, model):
        """What is measured: a list of FieldTables."""
        return find_tables(model)

    def _rows(self, tables, measured):
        """One row a set, and one for all sets side by side."""
        if isinstance(measured, ValueError):
            logging.warning(f"[IA] field {tables.field}: {measured}")
            measured = [""] * len(tables.sets), ""
        per_set, side_by_side = measured
        dims = tables.dims
        parts = [
            *zip(range(len(dims)), [[dim] for dim in dims], per_set, strict=True),
            (ALL, dims, side_by_side),
        ]
        for name, part_dims, ia in parts:
            dim = sum(part_dims)
            yield {
                "layer": tables.layer,
                "field": tables.field,
                "set": name,
                "num_ids": tables.num_ids,
                "dim": dim,
                "ia": ia,
                "ia_ratio": "" if ia == "" else ia / max(1, tables.ceiling(dim)),
                "ia_random": ""
                if tables.initializer is None
                else random_reference(tables.num_ids, tuple(part_dims), tables.initializer).ia,
            }


def summary(rows):
    """One line for the log: means over fields, of single sets and of the sets side by side."""
    measured = [row for row in rows if row["ia"] != ""]
    whole = [row for row in measured if row["set"] == ALL]
    single = [row for row in measured if row["set"] != ALL]
    if not whole:
        return "[IA] no embedding table to measure"
    lowest = min(whole, key=lambda row: row["ia_ratio"])
    text = f"[IA] mean {_means(whole)} over {len(whole)} fields"
    if len(single) > len(whole):
        text += f"; of one set {_means(single)}"
    return text + (
        f"; lowest {lowest['field']}: {lowest['ia']:.2f} of min(K, D) = {min(lowest['dim'], lowest['num_ids'])}"
    )


def _means(rows):
    text = f"{fmean(row['ia'] for row in rows):.2f} = {fmean(row['ia_ratio'] for row in rows):.1%} of min(K, D)"
    random = [row["ia_random"] for row in rows if row["ia_random"] != ""]
    return text + (f" (random {fmean(random):.2f})" if random else "")


def _csv_block(rows):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
