"""The callback that logs the course of training to a csv file or to an experiment tracker."""

import math
from statistics import fmean

from fuxictr_me.compat import BaseModel
from fuxictr_me.errors import UsageError
from fuxictr_me.tables import find_tables
from fuxictr_me.training.callbacks.base import Callback
from fuxictr_me.training.callbacks.information_abundance import ALL, measure_rows
from fuxictr_me.training.callbacks.log_writers import WRITERS, CsvWriter, LogWriter, require_package
from fuxictr_me.training.callbacks.step_record import StepRecord


class Log(Callback):
    """Log loss, learning rate, gradient norm, validation metrics and information abundance at each evaluation.

    The values, by name:

    - ``train/loss``: mean over the steps since the last evaluation, regularisers included
    - ``train/learning_rate``: of the next step
    - ``train/gradient_norm``: norm of the gradient of all parameters in the last step, before clipping
    - ``valid/<metric>``: the metrics on the validation data
    - ``ia/mean``, ``ia/mean_ratio``: mean over fields of the information abundance of the sets side by side, and of
      its ratio to min(K, D)
    - ``ia/<layer>/<field>``: information abundance of a field, of the sets side by side

    Nothing is read from the device within a step. A value that is unknown is left out.

    Args:
        to: ``csv``, ``tensorboard``, ``mlflow`` or ``wandb``, or a list of these. See ``log_writers``.

    Raises:
        UsageError: an unknown destination, one that is named twice, or one whose package is not installed.
    """

    def __init__(self, to: str | list[str]):
        self.to = [to] if isinstance(to, str) else list(to)
        if len(set(self.to)) < len(self.to):
            raise UsageError(f"callback Log names a destination twice: {', '.join(self.to)}")
        for destination in self.to:
            require_package(destination, f"callback Log with to: {destination}")

    def on_fit_start(self, model: BaseModel) -> None:
        self.record = model.step_record = StepRecord(model.device)
        self.writers: list[LogWriter] = []
        for destination in self.to:
            self.writers.append(WRITERS[destination](model))

    def on_evaluation_end(self, model: BaseModel, logs: dict[str, float]) -> None:
        values = self._collect_values(model, logs)
        known = {name: value for name, value in values.items() if math.isfinite(value)}
        for writer in self.writers:
            writer.write(model._epoch_index + 1, model._total_steps, known, list(values))

    def on_fit_end(self, model: BaseModel) -> None:
        model.step_record = None
        for writer in self.writers:
            writer.close()

    def save_state(self) -> str:
        """Return the rows of the csv file so far. A tracker gets a new run when training is resumed."""
        return next((writer.save_state() for writer in self.writers if isinstance(writer, CsvWriter)), "")

    def load_state(self, state: str) -> None:
        for writer in self.writers:
            if isinstance(writer, CsvWriter):
                writer.load_state(state)

    def _collect_values(self, model: BaseModel, logs: dict[str, float]) -> dict[str, float]:
        """Return name -> value; NaN if it is unknown."""
        values = {
            "train/loss": self.record.train_loss,
            "train/learning_rate": _find_learning_rate(model),
            "train/gradient_norm": float(self.record.gradient_norm),
        }
        values |= {f"valid/{metric}": float(value) for metric, value in logs.items()}
        rows = [row for row in measure_rows(find_tables(model)) if row["set"] == ALL and row["ia"] != ""]
        if rows:
            values |= {"ia/mean": fmean(r["ia"] for r in rows), "ia/mean_ratio": fmean(r["ia_ratio"] for r in rows)}
        return values | {f"ia/{row['layer']}/{row['field']}": row["ia"] for row in rows}


def _find_learning_rate(model: BaseModel) -> float:
    """Return the rate of the optimizer's first group; NaN if the model has no such optimizer."""
    groups = getattr(getattr(model, "optimizer", None), "param_groups", None)
    return float(groups[0]["lr"]) if groups else math.nan
