"""FuxiCTR's training loop and evaluation, without what makes a device wait."""

import logging
import sys
from collections.abc import Callable, Iterable

import numpy as np
import torch
from tqdm import tqdm

from fuxictr_me.compat import BaseModel
from fuxictr_me.training.metrics import evaluate_metrics
from fuxictr_me.training.precision import matmul_precision
from fuxictr_me.training.recorded_step import RecordedSteps, SelectedRows, columns_of
from fuxictr_me.training.step import Step, fused_tables, penalty


class FastTraining(BaseModel):
    """A FuxiCTR model whose steps and evaluations are FuxiCTR's in value, but not in time.

    A subclass may set ``embedding_updates``, ``precision`` and ``cuda_graph`` before it trains. One that overrides
    ``compute_loss`` or ``regularization_loss`` takes FuxiCTR's own step: its loss is differentiated whole, and every
    row is updated.
    """

    embedding_updates, precision, cuda_graph = "dense", "float32", "auto"
    joint = _step = None  # joint: of a model whose parameters lie on several ranks, see Step
    _steps = recorder = None  # recorder: of steps, see RecordedSteps; None: of the device

    def regularization_loss(self):
        """FuxiCTR's, which does not know that a fused table holds embeddings."""
        return penalty(self)

    def train_step(self, batch_data):
        """One optimizer step; returns the loss, regularisers included, on the device.

        Args:
            batch_data (dict or SelectedRows)
        """
        if self._has_own_loss:
            return super().train_step(columns_of(batch_data))
        if self._step is None or self._step.optimizer is not self.optimizer:
            self._step = Step(self, self.embedding_updates, joint=self.joint)
        if self._steps is None or self._steps.step is not self._step:
            self._steps = RecordedSteps(self, self._step, self.cuda_graph, self.recorder)
        return self._steps(batch_data)

    def compute_step(self, compute: Callable, columns: dict) -> torch.Tensor:
        """Run a step, or the part of it that is recorded.

        Args:
            compute (callable): the model's ``Step``, or its ``compute``.
            columns (dict): the batch, field -> Tensor.

        Returns:
            Tensor: the loss, regularisers included, detached.
        """

        def task_loss() -> torch.Tensor:
            return self.add_loss(self.forward(columns), self.get_labels(columns))

        with matmul_precision(self.precision):
            return compute(task_loss, self._max_gradient_norm)

    def steps_are_recorded(self, is_recorded: bool) -> None:
        """Called when it is known whether steps are recorded, for a subclass that replays parts of them itself."""

    def running_totals(self) -> Iterable[torch.Tensor]:
        """Tensors besides parameters, buffers and optimizer state that a step changes."""
        return []

    @property
    def _has_own_loss(self) -> bool:
        methods = type(self).compute_loss, type(self).regularization_loss
        return methods != (BaseModel.compute_loss, FastTraining.regularization_loss)

    def train_epoch(self, data_generator):
        """FuxiCTR's; the loss is summed on the device, so that it is asked for once an evaluation."""
        self._batch_index = 0
        train_loss = 0.0
        self.train()
        batches = self._training_batches(data_generator)
        if self._verbose != 0:
            batches = tqdm(batches, disable=False, file=sys.stdout, total=_length(data_generator))
        for batch_index, batch_data in enumerate(batches):
            self._batch_index = batch_index
            self._total_steps += 1
            train_loss = train_loss + self.train_step(batch_data).detach().double()
            if self._total_steps % self._eval_steps == 0:
                logging.info(f"Train loss: {float(train_loss) / self._eval_steps:.6f}")
                train_loss = 0.0
                self.eval_step()
            if self._stop_training:
                break
        self._check_ids()

    def _training_batches(self, data_generator: Iterable) -> Iterable:
        """The batches of an epoch; their row numbers alone, where a recorded step selects the rows itself."""
        is_recorded = self.cuda_graph is not False and (self.recorder or self.device.type == "cuda")
        own_step = self._has_own_loss or type(self).train_step is not FastTraining.train_step
        if not is_recorded or own_step or not getattr(data_generator, "holds_rows_on_device", False):
            return data_generator
        return (SelectedRows(rows, data_generator.select) for rows in data_generator.row_batches())

    def evaluate(self, data_generator, metrics=None):
        """FuxiCTR's; predictions and labels are gathered on the device, and handed over once.

        Args:
            data_generator (iterable): of batches.
            metrics (list of str or None): those of the config if None.

        Returns:
            dict: metric -> value.
        """
        y_pred, y_true, group_id = [], [], []
        for batch_data, y in self._predictions(data_generator):
            y_pred.append(y)
            y_true.append(self.get_labels(batch_data))
            if self.feature_map.group_id is not None:
                group_id.append(self.get_group_id(batch_data))
        logs = self.evaluate_metrics(
            _column(y_true),
            _column(y_pred),
            self.validation_metrics if metrics is None else metrics,
            torch.cat(group_id).view(-1).cpu().numpy() if group_id else None,
        )
        logging.info("[Metrics] " + " - ".join(f"{name}: {value:.6f}" for name, value in logs.items()))
        return logs

    def predict(self, data_generator):
        """Predictions for every row, in order: array (N,), float64."""
        return _column([y for _, y in self._predictions(data_generator)])

    def evaluate_metrics(self, y_true, y_pred, metrics, group_id=None):
        """FuxiCTR's metrics, AUC and logloss on the model's device.

        Args:
            y_true, y_pred, group_id (array (N,))
            metrics (list of str)
        """
        y_true, y_pred = (torch.as_tensor(y, device=self.device) for y in (y_true, y_pred))
        return evaluate_metrics(y_true, y_pred, metrics, group_id)

    @torch.no_grad()
    def _predictions(self, data_generator):
        """(batch, y_pred) for each batch."""
        self.eval()
        batches = tqdm(data_generator, disable=False, file=sys.stdout) if self._verbose > 0 else data_generator
        for batch_data in batches:
            with matmul_precision(self.precision):
                y_pred = self.forward(batch_data)["y_pred"]
            yield batch_data, y_pred
        self._check_ids()

    def _check_ids(self):
        for table in fused_tables(self):
            table.check()


def _length(batches: Iterable) -> int | None:
    return len(batches) if hasattr(batches, "__len__") else None


def _column(parts):
    """A list of (B, 1) -> array (N,), float64."""
    if not parts:
        return np.zeros(0)
    return torch.cat(parts).view(-1).double().cpu().numpy()
