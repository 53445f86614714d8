"""Gradient accumulation: one optimizer step for the gradients of several batches."""

import logging
from collections.abc import Callable

from torch import Tensor

from fuxictr_me.compat import BaseModel
from fuxictr_me.training.recorded_step import Columns, SelectedRows, columns_of
from fuxictr_me.training.step import Step


class AccumulatedSteps:
    """The training steps of a model with ``accumulate_steps``: what ``RecordedSteps`` is without.

    The gradients of a group of batches are added up, each weighted by its rows. The step at the end of the group has
    the gradient of the mean loss over all rows of the group, plus the regularisers' once. The last group of an epoch
    may have fewer batches. Steps are not recorded.

    Args:
        model: a ``FastTraining``.
        step: of the model.

    Attributes:
        has_stepped: whether the last batch completed an optimizer step.
    """

    def __init__(self, model: BaseModel, step: Step):
        self.model, self.step = model, step
        self.num_batches, self.num_rows, self.has_stepped = 0, 0, False
        # A replay of a compiled part as a CUDA graph would overwrite the gradients of the batch before.
        model.steps_are_recorded(True)
        if model.cuda_graph is True:
            logging.warning("cuda_graph: steps are not recorded: accumulate_steps is set")

    def __call__(self, batch: Columns | SelectedRows) -> Tensor:
        """Add the gradients of a batch, and take the optimizer's step if it completes a group.

        Returns:
            The loss of the batch, detached. In the last batch of a group the regularisers count for each of its
            batches, so that the mean over batches contains them once.
        """
        columns = columns_of(batch)
        num_rows = len(next(iter(columns.values())))

        def compute(forward: Callable[[], Tensor], max_gradient_norm: float) -> Tensor:
            return self._add(forward, max_gradient_norm, num_rows)

        return self.model.compute_step(compute, columns)

    def _add(self, forward: Callable[[], Tensor], max_gradient_norm: float, num_rows: int) -> Tensor:
        index = getattr(self.model, "_batch_index", None)
        if self.num_batches == 0 or index == 0:  # a training that was stopped may have left a part of a group
            self.num_batches, self.num_rows = 0, 0
            self.step.prepare()
            self.step.begin()
        loss = self.step.backward(lambda: forward() * num_rows) / num_rows
        self.num_batches, self.num_rows = self.num_batches + 1, self.num_rows + num_rows
        is_last = index is not None and index + 1 == self.model._steps_per_epoch
        self.has_stepped = is_last or self.num_batches == self.model.accumulate_steps
        if not self.has_stepped:
            return loss
        self.step.scale_gradients(1 / self.num_rows)
        penalty = self.step.update(loss, max_gradient_norm) - loss
        self.step.count()
        loss = loss + self.num_batches * penalty
        self.num_batches, self.num_rows = 0, 0
        return loss
