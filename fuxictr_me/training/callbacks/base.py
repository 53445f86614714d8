"""The base class of callbacks, and how a model's training loop calls them."""

import contextlib
import logging
import traceback
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch

from fuxictr_me.compat import BaseModel
from fuxictr_me.training.callbacks.step_record import StepRecord

Model = TypeVar("Model", bound=BaseModel)


class Callback:
    """Hooks into ``fit`` of a FuxiCTR model. Every hook of this base class does nothing.

    Constructors only store their arguments. A hook runs without gradients.
    """

    def on_fit_start(self, model: BaseModel) -> None:
        """Called before the first epoch."""

    def on_epoch_start(self, model: BaseModel) -> None:
        """Called before an epoch. ``model._epoch_index`` counts from 0."""

    def on_evaluation_end(self, model: BaseModel, logs: dict[str, float]) -> None:
        """Called after an evaluation during training, and after the checkpoint that it may have led to.

        Args:
            model: the model in training.
            logs: metric -> value on the validation data.
        """

    def on_epoch_end(self, model: BaseModel) -> None:
        """Called after an epoch, also after one that early stopping has cut short."""

    def on_fit_end(self, model: BaseModel) -> None:
        """Called after training, with the best weights loaded."""

    def save_state(self) -> Any:
        """Return what a resumed run needs of this callback: tensors, numbers, text, and dicts and lists of them."""

    def load_state(self, state: Any) -> None:
        """Restore what ``save_state`` returned. Called after ``on_fit_start``, before the first epoch that is left."""


class CallsCallbacks:
    """Base class of models whose training loop calls ``notify``."""

    _callbacks: ClassVar[list[Callback]] = []  # ``attach`` gives each model a list of its own
    _total_steps: int  # FuxiCTR's ``fit`` sets both
    _eval_steps: int
    step_record: StepRecord | None = None  # what steps leave behind for the callback ``Log``, if it is attached

    def forget_steps(self) -> None:
        """Called after a callback has changed the optimizer's state, for a model that keeps more state of its own."""

    def watch_clipping(self) -> contextlib.AbstractContextManager:
        """Return a context for FuxiCTR's training step, which records the gradient norm if an evaluation follows."""
        if self.step_record is None or self._total_steps % self._eval_steps:
            return contextlib.nullcontext()
        return self.step_record.watch_clipping()

    @torch.no_grad()
    def notify(self, hook: str, *args: Any) -> None:
        """Call a hook of every callback.

        A callback that raises an ``Exception`` is named in the log and removed. Training continues.
        """
        for callback in list(self._callbacks):
            try:
                getattr(callback, hook)(self, *args)
            except Exception as error:
                name = type(callback).__name__
                at = traceback.extract_tb(error.__traceback__)[-1]
                where = f"{Path(at.filename).name}:{at.lineno}"
                logging.error(
                    f"callback {name} failed in {hook} ({where}) and is left out from here on: "
                    f"{type(error).__name__}: {error}"
                )
                logging.debug("callback %s", name, exc_info=error)
                self._callbacks.remove(callback)


class ForeignTrainingLoop(CallsCallbacks, BaseModel):
    """FuxiCTR's training methods with calls of ``notify`` around them. ``attach`` puts this before a foreign class."""

    def fit(self, *args: Any, **kwargs: Any) -> None:
        self.notify("on_fit_start")
        super().fit(*args, **kwargs)
        self.notify("on_fit_end")

    def train_epoch(self, *args: Any, **kwargs: Any) -> None:
        self.notify("on_epoch_start")
        super().train_epoch(*args, **kwargs)
        self.notify("on_epoch_end")

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        with self.watch_clipping():
            loss = super().train_step(*args, **kwargs)
        if self.step_record is not None:
            self.step_record.add_loss(loss)
        return loss

    def eval_step(self, *args: Any, **kwargs: Any) -> None:
        if self.step_record is not None:
            self.step_record.close_mean()
        self._evaluation_logs: dict[str, float] = {}
        super().eval_step(*args, **kwargs)
        self.notify("on_evaluation_end", self._evaluation_logs)

    def checkpoint_and_earlystop(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        self._evaluation_logs = dict(logs)
        super().checkpoint_and_earlystop(logs, *args, **kwargs)


def attach(model: Model, callbacks: list[Callback]) -> Model:
    """Let ``callbacks`` act while ``model.fit`` runs. This works for any FuxiCTR model.

    A callback that raises an ``Exception`` is named in the log and left out from there on. Training continues.

    Args:
        model: a model of this package, of FuxiCTR, or a class of your own. The class of a model that is not derived
            from ``FastTraining`` is replaced by a subclass of the same name.
        callbacks: appended to those that are attached already.

    Returns:
        The same ``model``.
    """
    if not callbacks:
        return model
    if not isinstance(model, CallsCallbacks):
        # FuxiCTR's loop has no hooks, and an instance's class is all of a stranger's model that can be extended.
        cls = type(model)
        model.__class__ = type(cls.__name__, (ForeignTrainingLoop, cls), {"__module__": cls.__module__})
    model._callbacks = [*model._callbacks, *callbacks]
    return model
