"""The training loop and evaluation of this package's models: FuxiCTR's in value, with less waiting for the device."""

import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from fuxictr_me.compat import BaseModel
from fuxictr_me.errors import UsageError
from fuxictr_me.training.accumulated_steps import AccumulatedSteps
from fuxictr_me.training.callbacks.base import CallsCallbacks
from fuxictr_me.training.checks import (
    check_evaluation,
    check_fit,
    check_monitor,
    compute_task_loss,
    load_checkpoint,
    save_checkpoint,
)
from fuxictr_me.training.cuda_graph import Recorder
from fuxictr_me.training.metrics import evaluate_metrics
from fuxictr_me.training.parameters import count_parameters, fused_tables
from fuxictr_me.training.precision import matmul_precision
from fuxictr_me.training.recorded_step import RecordedSteps, SelectedRows, columns_of
from fuxictr_me.training.scheduled_optimizer import ScheduledOptimizer
from fuxictr_me.training.step import LocalTotals, Step, regularization_penalty


class FastTraining(CallsCallbacks, ScheduledOptimizer, BaseModel):
    """A FuxiCTR model whose steps and evaluations have FuxiCTR's values and take less time.

    ``fit`` checks its arguments, calls the callbacks and runs FuxiCTR's ``fit``. That calls ``train_epoch`` for each
    epoch, which calls ``train_step`` for each batch and ``eval_step`` for each evaluation.

    A subclass may set ``embedding_updates``, ``precision`` and ``cuda_graph`` before it trains. One that overrides
    ``compute_loss`` or ``regularization_loss`` gets FuxiCTR's own step: its loss is differentiated as a whole, and
    every row of a table is updated.

    Attributes:
        totals: how losses and gradient norms are summed; None for one process, see ``Step``.
        recorder: what records steps, see ``RecordedSteps``; None for that of the device.
    """

    embedding_updates = "dense"
    precision = "float32"
    cuda_graph: str | bool = "auto"
    totals: LocalTotals | None = None
    recorder: Recorder | None = None
    _step: Step | None = None
    _steps: RecordedSteps | AccumulatedSteps | None = None

    def fit(
        self,
        data_generator: Iterable,
        epochs: int = 1,
        validation_data: Iterable | None = None,
        max_gradient_norm: float = 10.0,
        **kwargs: Any,
    ) -> None:
        """Train as FuxiCTR does, with checks before and callbacks around it. The best weights are loaded at the end.

        Raises:
            UsageError: see ``check_fit``.
        """
        check_fit(self, data_generator, epochs, validation_data)
        if self.accumulate_steps > 1 and self._has_own_loss:
            raise UsageError(f"accumulate_steps needs FuxiCTR's loss, and {type(self).__name__} defines another one")
        self.start_schedule(epochs, len(data_generator))  # type: ignore[arg-type]  # FuxiCTR's contract for loaders
        self.notify("on_fit_start")
        super().fit(data_generator, epochs, validation_data, max_gradient_norm, **kwargs)
        self.notify("on_fit_end")

    def train_epoch(self, data_generator: Iterable) -> None:
        """Train on every batch once. The loss is summed on the device and read once per evaluation."""
        self.notify("on_epoch_start")
        self.run_epoch(data_generator)
        self.notify("on_epoch_end")

    def run_epoch(self, data_generator: Iterable) -> None:
        """Do what ``train_epoch`` does, without callbacks."""
        self._batch_index = 0
        train_loss: float | Tensor = 0.0
        self.train()
        batches = self._training_batches(data_generator)
        if self._verbose != 0:
            batches = tqdm(batches, disable=False, file=sys.stdout, total=_length(data_generator))
        for batch_index, batch_data in enumerate(batches):
            self._batch_index = batch_index
            self._total_steps += 1
            train_loss = train_loss + self.train_step(batch_data).detach().double()
            if self._total_steps % self._eval_steps == 0:
                mean_loss = float(train_loss) / self._eval_steps
                logging.info(f"Train loss: {mean_loss:.6f}")
                if self.step_record is not None:
                    self.step_record.train_loss = mean_loss
                train_loss = 0.0
                self.eval_step()
            if self._stop_training:
                break
        self._check_ids()

    def train_step(self, batch_data: dict | SelectedRows) -> Tensor:
        """Take one optimizer step. Return the loss, regularisers included, as a Tensor () on the device."""
        if self._has_own_loss:
            with self.watch_clipping():
                loss, has_stepped = super().train_step(columns_of(batch_data)), True
        else:
            steps = self._prepare_steps()
            loss, has_stepped = steps(batch_data), steps.has_stepped
        if self.schedule is not None and has_stepped:
            self.schedule.step()
        return loss

    def make_step(self) -> Step:
        """Return the training step for the current optimizer. Create it if it does not exist yet."""
        if self._step is None or self._step.optimizer is not self.optimizer:
            self._step = Step(self, self.embedding_updates, totals=self.totals)
        return self._step

    def _prepare_steps(self) -> RecordedSteps | AccumulatedSteps:
        """Return what takes the steps of the present optimizer."""
        step = self.make_step()
        step.gradient_norm = None if self.step_record is None else self.step_record.gradient_norm
        if self._steps is None or self._steps.step is not step:
            if self.accumulate_steps > 1:
                self._steps = AccumulatedSteps(self, step)
            else:
                self._steps = RecordedSteps(self, step, self.cuda_graph, self.recorder)
        return self._steps

    def forget_steps(self) -> None:
        """Let the next step start from the optimizer's present state, which something else has changed."""
        self._step = self._steps = None

    def compute_step(self, compute: Callable, columns: dict[str, Tensor]) -> Tensor:
        """Run a step, or the part of it that is recorded.

        Args:
            compute: the model's ``Step``, or its ``compute``.
            columns: the batch, field -> tensor.

        Returns:
            The loss, regularisers included, detached.
        """

        def task_loss() -> Tensor:
            return self.add_loss(self.forward(columns), self.get_labels(columns))

        with matmul_precision(self.precision):
            return compute(task_loss, self._max_gradient_norm)

    def add_loss(self, return_dict: dict[str, Tensor], y_true: Any) -> Tensor:
        """Return FuxiCTR's task loss, see ``compute_task_loss``."""
        return compute_task_loss(super().add_loss, self, return_dict, y_true)

    def regularization_loss(self) -> Tensor | float:
        """Return the regularisation loss, counting fused tables as embeddings (FuxiCTR would not)."""
        return regularization_penalty(self)

    def steps_are_recorded(self, is_recorded: bool) -> None:
        """Called when it is known whether steps are recorded, for a subclass that replays parts of them itself."""

    def running_totals(self) -> Iterable[Tensor]:
        """Return tensors besides parameters, buffers and optimizer state that a step changes."""
        return []

    def eval_step(self) -> None:
        """Evaluate on the validation data, save the model if it is the best, and call the callbacks."""
        self._evaluation_logs: dict[str, float] = {}
        super().eval_step()
        self.notify("on_evaluation_end", self._evaluation_logs)

    def checkpoint_and_earlystop(self, logs: dict[str, float], min_delta: float = 1e-6) -> None:
        """Save the model if it is the best so far, and decide whether to stop; see ``check_monitor``."""
        self._evaluation_logs = dict(logs)
        check_monitor(self, logs)
        super().checkpoint_and_earlystop(logs, min_delta)

    def evaluate(self, data_generator: Iterable, metrics: list[str] | None = None) -> dict[str, float]:
        """Compute metrics as FuxiCTR does. Predictions and labels are gathered on the device and copied once.

        Args:
            data_generator: yields batches.
            metrics: names; None for those of the config.

        Returns:
            metric -> value.
        """
        y_pred, y_true, group_id = [], [], []
        for batch_data, y in self._predictions(data_generator):
            y_pred.append(y)
            y_true.append(self.get_labels(batch_data))
            if self.feature_map.group_id is not None:
                group_id.append(self.get_group_id(batch_data))
        logs = self.evaluate_metrics(
            _to_array(y_true),
            _to_array(y_pred),
            self.validation_metrics if metrics is None else metrics,
            torch.cat(group_id).view(-1).cpu().numpy() if group_id else None,
        )
        logging.info("[Metrics] " + " - ".join(f"{name}: {value:.6f}" for name, value in logs.items()))
        return logs

    def predict(self, data_generator: Iterable) -> np.ndarray:
        """Return the predictions of every row, in order: (N,), float64."""
        return _to_array([y for _, y in self._predictions(data_generator)])

    def evaluate_metrics(
        self, y_true: np.ndarray, y_pred: np.ndarray, metrics: list[str], group_id: np.ndarray | None = None
    ) -> dict[str, float]:
        """Compute FuxiCTR's metrics, AUC and logloss on the model's device; see ``check_evaluation``.

        Args:
            y_true, y_pred, group_id: (N,).
            metrics: names.
        """
        check_evaluation(y_true, y_pred, metrics, self.checkpoint)
        labels, predictions = (torch.as_tensor(y, device=self.device) for y in (y_true, y_pred))
        return evaluate_metrics(labels, predictions, metrics, group_id)

    def save_weights(self, checkpoint: str | Path) -> None:
        """Save the state dict, see ``save_checkpoint``."""
        save_checkpoint(self, checkpoint)

    def load_weights(self, checkpoint: str | Path) -> None:
        """Load a state dict, see ``load_checkpoint``."""
        load_checkpoint(self, checkpoint)

    def num_parameters(self, count_embedding: bool = True) -> int:
        """Return the number of trained parameters. FuxiCTR's ``count_parameters`` only logs it."""
        return count_parameters(self, count_embedding)

    @property
    def _has_own_loss(self) -> bool:
        methods = type(self).compute_loss, type(self).regularization_loss
        return methods != (BaseModel.compute_loss, FastTraining.regularization_loss)

    def _training_batches(self, data_generator: Iterable) -> Iterable:
        """Return the batches of an epoch, or only their row numbers if a recorded step selects the rows itself."""
        is_recorded = self.cuda_graph is not False and (self.recorder or self.device.type == "cuda")
        own_step = self._has_own_loss or type(self).train_step is not FastTraining.train_step
        if not is_recorded or own_step or not getattr(data_generator, "holds_rows_on_device", False):
            return data_generator
        loader: Any = data_generator  # an H5DataLoader, of a layer above
        return (SelectedRows(rows, loader.select) for rows in loader.row_batches())

    @torch.no_grad()
    def _predictions(self, data_generator: Iterable) -> Iterator[tuple[dict, Tensor]]:
        """Yield (batch, y_pred) for each batch."""
        self.eval()
        batches = tqdm(data_generator, disable=False, file=sys.stdout) if self._verbose > 0 else data_generator
        for batch_data in batches:
            with matmul_precision(self.precision):
                y_pred = self.forward(batch_data)["y_pred"]
            yield batch_data, y_pred
        self._check_ids()

    def _check_ids(self) -> None:
        for table in fused_tables(self):
            table.check()


def _length(batches: Iterable) -> int | None:
    return len(batches) if isinstance(batches, Sized) else None


def _to_array(parts: list[Tensor]) -> np.ndarray:
    """Join tensors (B, 1) to an array (N,), float64."""
    if not parts:
        return np.zeros(0)
    return torch.cat(parts).view(-1).double().cpu().numpy()
