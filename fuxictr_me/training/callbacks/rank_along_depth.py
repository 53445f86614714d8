"""The callback that measures the rank of representations along the depth of the network during training."""

import logging
from pathlib import Path

from fuxictr_me.compat import BaseModel
from fuxictr_me.errors import check_positive_int
from fuxictr_me.representations import ALL, measure_rank_along_depth
from fuxictr_me.training.callbacks.base import Callback
from fuxictr_me.training.callbacks.log_writers import AppendedCsv

DEPTH_COLUMNS = (
    "event",  # "evaluation", or "best": the best weights, after training
    "epoch",  # counts from 1
    "step",  # number of optimizer steps so far
    "depth",  # position of the representation, from 0
    "representation",  # name of the representation
    "after",  # name of the representation that it was computed from
    "set",  # 0 to M - 1, or "all": the sets side by side
    "rows",  # number of rows of validation data
    "width",  # number of columns
    "ceiling",  # min(rows, width)
    "ia",  # information abundance
    "ia_ratio",  # ia / ceiling
    "effective_rank",  # exp of the entropy of σ / Σσ
    "effective_rank_ratio",  # effective_rank / ceiling
)


class RankAlongDepth(Callback):
    """Record the effective rank of each layer's output at each evaluation, and of the best weights.

    The first rows of the validation data run through the model once more. The result is written to
    ``<model_root>/<dataset_id>/<model_id>.depth.csv`` (columns: ``DEPTH_COLUMNS``), with one line in the log. The
    callback works on any FuxiCTR model, see ``measure_rank_along_depth``. A run replaces the file of an earlier run of
    the same ``model_id``.

    Args:
        rows: number of rows of the validation data.
    """

    def __init__(self, rows: int = 4096):
        check_positive_int("rows of RankAlongDepth", rows)
        self.rows = rows

    def on_fit_start(self, model: BaseModel) -> None:
        self._file = AppendedCsv(Path(model.model_dir) / f"{model.model_id}.depth.csv", [DEPTH_COLUMNS])

    def on_evaluation_end(self, model: BaseModel, logs: dict[str, float]) -> None:
        self._record(model, "evaluation")

    def on_fit_end(self, model: BaseModel) -> None:
        if model.valid_gen is not None:
            self._record(model, "best")

    def save_state(self) -> str:
        """Return the rows so far."""
        return self._file.path.read_text()

    def load_state(self, state: str) -> None:
        self._file.replace(state.encode())

    def _record(self, model: BaseModel, event: str) -> None:
        measured = measure_rank_along_depth(model, model.valid_gen, self.rows)
        at = {"event": event, "epoch": model._epoch_index + 1, "step": model._total_steps, "rows": measured["rows"]}
        rows = [
            {**at, "depth": depth, "representation": one["name"], "after": one["after"] or "", **part}
            for depth, one in enumerate(measured["representations"])
            for part in one["parts"]
        ]
        self._file.append([row[column] for column in DEPTH_COLUMNS] for row in rows)
        shares = [f"{row['effective_rank_ratio']:.0%} {row['representation']}" for row in rows if row["set"] == ALL]
        logging.info("[rank along the depth] " + ", ".join(shares))
        for one in measured["skipped"]:
            logging.warning(f"[rank along the depth] not measured: {one['name']}, {one['why']}")
