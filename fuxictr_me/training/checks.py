"""Checks of a training run that FuxiCTR lacks: one clear line where it would continue silently, or fail obscurely.

``FastTraining`` calls them. ``CheckedTraining`` calls them around the training methods of any other FuxiCTR model.
"""

import math
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fuxictr_me.compat import BaseModel
from fuxictr_me.errors import RunError, UsageError
from fuxictr_me.io.checkpoints import load_state_dict, save_state_dict
from fuxictr_me.training.metrics import REGRESSION, evaluate_metrics
from fuxictr_me.training.parameters import count_parameters

# FuxiCTR computes metrics of groups in a pool that needs two cores, and has no MSE, MAE and RMSE.
METRICS_OF_FUXICTR = {"AUC", "logloss", "binary_crossentropy"}


def check_fit(model: BaseModel, data: Iterable, epochs: int, validation_data: Iterable | None) -> None:
    """Check the arguments of ``fit``. FuxiCTR's would end by loading the checkpoint of an earlier run.

    Raises:
        UsageError: no validation data, ``eval_steps`` beyond the last step, or batch norm and a last batch of one row,
            on which FuxiCTR would fail at the end of the first epoch.
    """
    steps = epochs * len(data)  # type: ignore[arg-type]  # FuxiCTR's contract for loaders
    if validation_data is None:
        raise UsageError("fit needs validation_data: the best checkpoint is chosen by it")
    if model._eval_steps and model._eval_steps > steps:
        raise UsageError(f"eval_steps is {model._eval_steps}, but training ends after {steps} steps: no evaluation")
    rows, batch_size = getattr(data, "num_samples", None), getattr(data, "batch_size", None)
    if not (rows and batch_size and any(isinstance(module, nn.BatchNorm1d) for module in model.modules())):
        return
    if batch_size == 1 or rows % batch_size == 1:
        raise UsageError(
            f"{rows} rows in batches of {batch_size} end in a batch of one row, on which batch norm cannot train: "
            "choose another batch_size"
        )


def compute_task_loss(
    add_loss: Callable[[dict, Any], Tensor], model: BaseModel, return_dict: dict[str, Tensor], y_true: Any
) -> Tensor:
    """Return FuxiCTR's task loss, and name what the loss function only calls out of range.

    Args:
        add_loss: FuxiCTR's method of the model.
        return_dict: what ``forward`` returned.
        y_true: (B, 1); a list of them for a multi-task model.

    Raises:
        RunError: a prediction is not a number: training has diverged.
        UsageError: a label is not between 0 and 1.
    """
    try:
        return add_loss(return_dict, y_true)
    except RuntimeError:
        for name, prediction in return_dict.items():
            if name.endswith("pred"):  # y_pred, or <label>_pred of a multi-task model
                check_finite(prediction, model.checkpoint)
        for labels in y_true if isinstance(y_true, list) else [y_true]:
            low, high = float(labels.min()), float(labels.max())
            if not (low >= 0 and high <= 1):
                raise UsageError(f"labels must lie between 0 and 1, found {low:g} to {high:g}") from None
        raise


def check_finite(y_pred: Tensor, checkpoint: str) -> None:
    """Refuse predictions that are not finite.

    Raises:
        RunError: with the path of the best checkpoint so far.
    """
    if bad := int((~y_pred.isfinite()).sum()):
        raise RunError(
            f"{bad} of {y_pred.numel()} predictions are not finite: training has diverged or the data holds NaN; "
            f"the best checkpoint before it, if there is one, stays at {checkpoint}"
        ) from None


def check_evaluation(y_true: np.ndarray, y_pred: np.ndarray, metrics: list[str], checkpoint: str) -> None:
    """Refuse to compute metrics that would be meaningless.

    Raises:
        RunError: a prediction is not a number: training has diverged.
        UsageError: an empty split; for a metric of classes, a single label, or a label that is not 0 or 1.
    """
    if len(y_true) == 0:
        raise UsageError("the split to evaluate holds no rows")
    check_finite(torch.from_numpy(y_pred), checkpoint)
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


def check_monitor(model: BaseModel, logs: dict[str, float]) -> None:
    """Refuse a monitored metric that is NaN or infinite. FuxiCTR would save the model as the best.

    Raises:
        RunError
    """
    value = model._monitor.get_value(logs)
    if not math.isfinite(value):
        raise RunError(f"the monitored {'+'.join(model._monitor.get_metrics())} is {value}")


def save_checkpoint(model: nn.Module, checkpoint: str | Path) -> None:
    """Save the state dict of a model atomically, and make the folder if needed."""
    os.makedirs(Path(checkpoint).parent, exist_ok=True)
    save_state_dict(model.state_dict(), checkpoint)


def load_checkpoint(model: BaseModel, checkpoint: str | Path) -> None:
    """Load a state dict into a model, without running code from the file.

    Raises:
        UsageError: the file is damaged, or belongs to another model.
    """
    model.to(model.device)
    state_dict = load_state_dict(checkpoint)
    try:
        model.load_state_dict(state_dict)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{checkpoint} does not fit this model: {reason[:300]}") from error


class CheckedTraining(BaseModel):
    """The checks, around the training methods of a FuxiCTR model. A class made from it puts it before that model's."""

    def fit(
        self,
        data_generator: Iterable,
        epochs: int = 1,
        validation_data: Iterable | None = None,
        max_gradient_norm: float = 10.0,
        **kwargs: Any,
    ) -> None:
        """Train as the model does, after ``check_fit``."""
        check_fit(self, data_generator, epochs, validation_data)
        super().fit(data_generator, epochs, validation_data, max_gradient_norm, **kwargs)

    def num_parameters(self, count_embedding: bool = True) -> int:
        """Return the number of trained parameters. FuxiCTR's ``count_parameters`` only logs it."""
        return count_parameters(self, count_embedding)

    def add_loss(self, return_dict: dict[str, Tensor], y_true: Any) -> Tensor:
        """Return the model's task loss, see ``compute_task_loss``."""
        return compute_task_loss(super().add_loss, self, return_dict, y_true)

    def evaluate_metrics(
        self, y_true: np.ndarray, y_pred: np.ndarray, metrics: list[str], group_id: np.ndarray | None = None
    ) -> dict[str, float]:
        """Compute the model's metrics, after ``check_evaluation``."""
        check_evaluation(y_true, y_pred, metrics, self.checkpoint)
        is_fuxictrs = super().evaluate_metrics.__func__ is BaseModel.evaluate_metrics
        if is_fuxictrs and not set(metrics) <= METRICS_OF_FUXICTR:
            return evaluate_metrics(y_true, y_pred, metrics, group_id)
        return super().evaluate_metrics(y_true, y_pred, metrics, group_id)

    def checkpoint_and_earlystop(self, logs: dict[str, float], min_delta: float = 1e-6) -> None:
        """Save the model if it is the best so far, after ``check_monitor``."""
        check_monitor(self, logs)
        super().checkpoint_and_earlystop(logs, min_delta)

    def save_weights(self, checkpoint: str | Path) -> None:
        """Save the state dict, see ``save_checkpoint``."""
        save_checkpoint(self, checkpoint)

    def load_weights(self, checkpoint: str | Path) -> None:
        """Load a state dict, see ``load_checkpoint``."""
        load_checkpoint(self, checkpoint)
