"""FuxiCTR's BaseModel, with what it does in silence named."""

import math
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fuxictr_me.compat import BaseModel
from fuxictr_me.errors import RunError, UsageError
from fuxictr_me.io.checkpoints import load_state_dict, save_state_dict
from fuxictr_me.training import FastTraining, split_parameters
from fuxictr_me.training.metrics import REGRESSION, evaluate_metrics

FUXICTR_ALONE = {"AUC", "logloss", "binary_crossentropy"}  # its groups need two cores, and it lacks MSE, MAE, RMSE


class Checked:
    """Before a FuxiCTR model's class: training stops with one clear line where FuxiCTR's would go on, or die of it."""

    def fit(self, data_generator, epochs=1, validation_data=None, max_gradient_norm=10.0, **kwargs):
        """FuxiCTR's, which without an evaluation would end by loading the checkpoint of an earlier run.

        Raises:
            UsageError: no validation data, ``eval_steps`` beyond the last step, or batch norm and a last batch
                of one row, on which FuxiCTR would fail at the end of the first epoch.
        """
        steps = epochs * len(data_generator)
        if validation_data is None:
            raise UsageError("fit needs validation_data: the best checkpoint is chosen by it")
        if self._eval_steps and self._eval_steps > steps:
            raise UsageError(f"eval_steps is {self._eval_steps}, but training ends after {steps} steps: no evaluation")
        self._check_batch_norm(*(getattr(data_generator, name, None) for name in ("num_samples", "batch_size")))
        super().fit(data_generator, epochs, validation_data, max_gradient_norm, **kwargs)

    def _check_batch_norm(self, rows: int | None, batch_size: int | None) -> None:
        """Refuse a batch of one row, which has no variance to normalise by."""
        if not (rows and batch_size and any(isinstance(module, nn.BatchNorm1d) for module in self.modules())):
            return
        if batch_size == 1 or rows % batch_size == 1:
            raise UsageError(
                f"{rows} rows in batches of {batch_size} end in a batch of one row, on which batch norm cannot train: "
                "choose another batch_size"
            )

    def num_parameters(self, count_embedding=True):
        """Number of trained parameters; FuxiCTR's ``count_parameters`` only logs it."""
        tables, embeddings, networks = split_parameters(self)
        return sum(p.numel() for p in networks + (tables + embeddings if count_embedding else []))

    def add_loss(self, return_dict, y_true):
        """FuxiCTR's task loss, after naming what the loss function only calls out of range.

        Raises:
            RunError: a prediction that is not a number: training has diverged.
            UsageError: a label that is not between 0 and 1.
        """
        try:
            return super().add_loss(return_dict, y_true)
        except RuntimeError:
            for name, prediction in return_dict.items():
                if name.endswith("pred"):  # y_pred, or <label>_pred of a multi-task model
                    self._check_finite(prediction)
            for labels in y_true if isinstance(y_true, list) else [y_true]:
                low, high = float(labels.min()), float(labels.max())
                if not (low >= 0 and high <= 1):
                    raise UsageError(f"labels must lie between 0 and 1, found {low:g} to {high:g}") from None
            raise

    def _check_finite(self, y_pred):
        if bad := int((~y_pred.isfinite()).sum()):
            raise RunError(
                f"{bad} of {y_pred.numel()} predictions are not finite: training has diverged or the data holds NaN; "
                f"the best checkpoint before it, if there is one, stays at {self.checkpoint}"
            ) from None

    def evaluate_metrics(
        self, y_true: np.ndarray, y_pred: np.ndarray, metrics: list[str], group_id: np.ndarray | None = None
    ) -> dict[str, float]:
        """FuxiCTR's metrics, after naming what would make them meaningless.

        Raises:
            RunError: a prediction that is not a number: training has diverged.
            UsageError: an empty split; for a metric of classes, one with a single label, or a label that is not 0 or 1.
        """
        if len(y_true) == 0:
            raise UsageError("the split to evaluate holds no rows")
        self._check_finite(torch.from_numpy(y_pred))
        check_labels_of_metrics(y_true, metrics)
        is_fuxictrs = super().evaluate_metrics.__func__ is BaseModel.evaluate_metrics
        if is_fuxictrs and not set(metrics) <= FUXICTR_ALONE:
            return evaluate_metrics(y_true, y_pred, metrics, group_id)
        return super().evaluate_metrics(y_true, y_pred, metrics, group_id)

    def checkpoint_and_earlystop(self, logs, min_delta=1e-6):
        """FuxiCTR's, which would save a model whose monitor is NaN as the best."""
        value = self._monitor.get_value(logs)
        if not math.isfinite(value):
            raise RunError(f"the monitored {'+'.join(self._monitor.get_metrics())} is {value}")
        super().checkpoint_and_earlystop(logs, min_delta)

    def save_weights(self, checkpoint):
        """Save the state dict under a temporary name, then move it: a checkpoint is whole or not there."""
        os.makedirs(Path(checkpoint).parent, exist_ok=True)
        save_state_dict(self.state_dict(), checkpoint)

    def load_weights(self, checkpoint):
        """Load a state dict, without running code from the file."""
        self.to(self.device)
        state_dict = load_state_dict(checkpoint)
        try:
            self.load_state_dict(state_dict)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise UsageError(f"{checkpoint} does not fit this model: {reason[:300]}") from error


def check_labels_of_metrics(y_true: np.ndarray, metrics: list[str]) -> None:
    """Check that metrics of classes have labels 0 and 1, both of them; errors of a regression take any label.

    Raises:
        UsageError: with a label that was found.
    """
    of_classes = [metric for metric in metrics if metric not in REGRESSION]
    if not of_classes:
        return
    if (wrong := y_true[(y_true != 0) & (y_true != 1)]).size:
        raise UsageError(
            f"metrics of classes ({', '.join(of_classes)}) take labels 0 and 1, and the split to evaluate has "
            f"{wrong[0]:g}: for such labels set task: regression and metrics of {', '.join(REGRESSION)}"
        )
    if y_true.min() == y_true.max():
        raise UsageError(
            f"every label of the split to evaluate is {y_true[0]:g}: {', '.join(of_classes)} cannot be computed"
        )


class CheckedModel(Checked, FastTraining):
    """FuxiCTR's BaseModel with our checks and our training steps."""
