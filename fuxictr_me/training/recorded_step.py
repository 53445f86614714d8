"""Training steps that are recorded once, as one CUDA graph, and replayed."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fuxictr_me.compat import BaseModel
from fuxictr_me.training.cuda_graph import CudaGraphRecorder, Recorder
from fuxictr_me.training.optimizer import RatesAsTensors
from fuxictr_me.training.step import LocalTotals, Step
from fuxictr_me.training.training_state import TOLERANCES, TrainingState

WARM_UP = 3  # eager steps before one is recorded; the next is done both ways and compared
LARGEST_STATE = 32 << 30  # bytes that are copied to RAM for the comparison
Columns = dict[str, Tensor]


@dataclass
class SelectedRows:
    """A batch as the numbers of its rows in a data set that lies on the model's device.

    Attributes:
        rows: (B,), row numbers.
        select: method of the data set, (B,) -> the batch, field -> tensor.
    """

    rows: Tensor
    select: Callable[[Tensor], Columns]

    def columns(self) -> Columns:
        """Return the batch: field -> tensor."""
        return self.select(self.rows)


def columns_of(batch: Columns | SelectedRows) -> Columns:
    """Return a batch as field -> tensor."""
    return batch.columns() if isinstance(batch, SelectedRows) else batch


class RecordedSteps:
    """The training steps of a model: a few eager ones, one that is recorded, then replays of it.

    A replay takes hardly any time of the CPU. It reads its batch from static tensors, into which each batch is copied,
    and its learning rate from a tensor. Batches of another shape (the last of an epoch) are eager steps. The first
    replay is compared with an eager step from the same state. If that or the recording fails, or if a step cannot be
    recorded, one line in the log says why, and all steps are eager.

    Args:
        model: a ``FastTraining``.
        step: of the model.
        choice: ``auto``, True or False, as in a config.
        recorder: None uses a CUDA graph if the model is on a GPU.
    """

    has_stepped = True  # each batch is an optimizer step, unlike in ``AccumulatedSteps``
    recorder: Recorder | None
    # What a recording consists of. ``_forget`` resets it.
    replay: Callable[[], Tensor] | None  # runs the recorded step and returns its loss
    shape: list | None  # of the batches that are recorded
    signature: list | None  # see ``_compute_signature``
    num_warm: int  # eager steps of this shape so far
    is_checked: bool  # whether the recording has been compared with an eager step

    def __init__(self, model: BaseModel, step: Step, choice: str | bool = "auto", recorder: Recorder | None = None):
        self.model, self.step, self.recorder = model, step, recorder
        if recorder is None and model.device.type == "cuda":
            self.recorder = CudaGraphRecorder(model.device)
        self.is_on = choice is not False and self.recorder is not None
        self.level = logging.WARNING if choice is True else logging.INFO  # of the line that says why not
        self.hooks = hook_registries(model)
        self.parameters = [p for group in model.optimizer.param_groups for p in group["params"]]
        self._forget()
        if choice is True and self.recorder is None:
            self._turn_off("the model is not on a GPU", self.level)
        elif self.is_on and (reason := find_obstacle(step)):
            self._turn_off(reason, self.level)
        else:
            model.steps_are_recorded(self.is_on)

    def __call__(self, batch: Columns | SelectedRows) -> Tensor:
        """Take one step. Return the loss, regularisers included, detached."""
        if self.is_on and any(self.hooks):
            self._turn_off("a hook is registered on a module or on the optimizer", self.level)
        if not self.is_on:
            return self._step_eagerly(batch)
        if isinstance(batch, SelectedRows):
            inputs = {"rows": batch.rows}
        else:
            inputs = batch = {name: column.to(self.model.device) for name, column in batch.items()}
        shape = [(name, tensor.shape, tensor.dtype) for name, tensor in inputs.items()]
        if self.replay is not None:
            self.step.prepare()
            if self.signature != self._compute_signature(batch):
                self._forget()
        if self.replay is None:
            return self._warm_up(batch, inputs, shape)
        if shape != self.shape:
            return self._step_eagerly(batch)
        return self._run_replay(self.replay, inputs) if self.is_checked else self._check(self.replay, batch, inputs)

    def _step_eagerly(self, batch: Columns | SelectedRows) -> Tensor:
        return self.model.compute_step(self.step, columns_of(batch))

    def _warm_up(self, batch: Columns | SelectedRows, inputs: Columns, shape: list) -> Tensor:
        """Take an eager step. After the last of them record the step, with this batch in the static tensors."""
        assert self.recorder is not None  # noqa: S101 - or ``is_on`` would be False
        self.num_warm = self.num_warm + 1 if shape == self.shape else 1
        self.shape = shape
        loss, waits = self.recorder.warm_up(lambda: self._step_eagerly(batch))
        if self.num_warm == WARM_UP:
            if waits:
                self._turn_off(f"a step waits for the device, in {waits}", self.level)
            elif TrainingState(self.model).num_bytes > LARGEST_STATE:
                self._turn_off("weights and optimizer state are too large to be compared", self.level)
            else:
                self._record(self.recorder, batch, inputs)
        return loss

    def _record(self, recorder: Recorder, batch: Columns | SelectedRows, inputs: Columns) -> None:
        self.inputs = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in inputs.items()}
        self.rates = RatesAsTensors(self.model.optimizer, self.model.device)
        self._free_gradients()
        # Kept as an attribute, and with it the data set: a graph does not keep the tensors alive that it reads.
        self.batch: Columns | SelectedRows = self.inputs
        if isinstance(batch, SelectedRows):
            self.batch = SelectedRows(self.inputs["rows"], batch.select)

        def step() -> Tensor:
            with self.rates.swapped_in():
                return self.model.compute_step(self.step.compute, columns_of(self.batch))

        try:
            self.replay = recorder.record(step)
        except Exception as error:
            self._free_gradients()
            self._turn_off(f"the recording failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            logging.debug("recording", exc_info=error)
        else:
            self._free_gradients()  # the graph keeps their memory
            self.signature = self._compute_signature(batch)

    def _free_gradients(self) -> None:
        """Free the gradients of the last step, so that they do not take memory beside the next ones."""
        self.model.optimizer.zero_grad()
        for rows in self.step.rows:
            rows.begin()  # forgets what it read

    def _run_replay(self, replay: Callable[[], Tensor], inputs: Columns) -> Tensor:
        names = list(self.inputs)
        torch._foreach_copy_([self.inputs[name] for name in names], [inputs[name] for name in names])
        self.rates.update()
        loss = replay().clone()
        self.step.count()
        return loss

    def _check(self, replay: Callable[[], Tensor], batch: Columns | SelectedRows, inputs: Columns) -> Tensor:
        """Replay a step after an eager one from the same state, and compare the results."""
        state = TrainingState(self.model)
        copy, before = state.copy(), state.sample()
        counts = [getattr(rows, "steps", None) for rows in self.step.rows]

        def go_back() -> None:
            state.restore(copy)
            for rows, steps in zip(self.step.rows, counts, strict=True):
                if steps is not None:
                    rows.steps = steps  # type: ignore[attr-defined]  # it had the attribute before

        loss = self._step_eagerly(batch)
        expected = state.sample()
        go_back()
        self.step.prepare()
        replayed = self._run_replay(replay, inputs)
        losses = float(replayed), float(loss)
        difference = state.difference(before, expected)
        if not abs(losses[0] - losses[1]) <= TOLERANCES["loss"] * abs(losses[1]):
            difference = f"the loss is {losses[0]:.6g} in place of {losses[1]:.6g}"
        if difference:
            self._turn_off(f"the recorded step is not the eager one: {difference}")
            go_back()
            return self._step_eagerly(batch)
        self.is_checked = True
        return replayed

    def _compute_signature(self, batch: Columns | SelectedRows) -> list:
        """Return what a recording depends on: addresses of tensors, which are trained, the data set, settings."""
        model, state = self.model, self.model.optimizer.state
        data_set: Any = batch.select if isinstance(batch, SelectedRows) else None  # a bound method
        parts: list[object] = [None if data_set is None else id(data_set.__self__)]
        parts += [model.training, model._max_gradient_norm, torch.is_grad_enabled()]
        parts += [rows.graph_key for rows in self.step.rows]
        parts.append(None if self.step.gradient_norm is None else self.step.gradient_norm.data_ptr())
        for parameter in self.parameters:
            parts += [parameter.data_ptr(), parameter.requires_grad]
            parts += [x.data_ptr() for x in state.get(parameter, {}).values() if torch.is_tensor(x)]
        return parts

    def _forget(self) -> None:
        self.replay, self.shape, self.signature, self.num_warm, self.is_checked = None, None, None, 0, False

    def _turn_off(self, reason: str, level: int = logging.WARNING) -> None:
        logging.log(level, f"cuda_graph: steps are not recorded: {reason}")
        self._forget()
        self.is_on = False
        self.model.steps_are_recorded(False)


def find_obstacle(step: Step) -> str:
    """Return why a step cannot be recorded; empty if no reason is known."""
    optimizer = step.optimizer
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW) or not optimizer.defaults.get("fused"):
        return f"the optimizer is {type(optimizer).__name__}, not Adam or AdamW in its fused form"
    if type(step.totals) is not LocalTotals:
        return "several processes train the model"
    for rows in step.rows:
        if not rows.capturable:
            return "rows of a table are updated in a way that only a CPU supports"
    return ""


def hook_registries(model: BaseModel) -> list[dict]:
    """Return the dicts in which PyTorch keeps the hooks of a model's modules and of its optimizer.

    A hook is Python code, which a replay does not run.
    """
    names = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
    of_modules = [getattr(module, name) for module in model.modules() if not _is_view(module) for name in names]
    return [*of_modules, model.optimizer._optimizer_step_pre_hooks, model.optimizer._optimizer_step_post_hooks]


def _is_view(module: nn.Module) -> bool:
    """Whether a module is a FuxiCTR layer that only shows a part of a fused table, and is never called."""
    return type(module) is nn.Embedding and "weight" not in module._parameters
