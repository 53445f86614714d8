"""Callbacks for FuxiCTR's training loop, which has none."""

import logging
import traceback
from pathlib import Path

import torch


class Callback:
    """Hooks into ``fit`` of a FuxiCTR model; each is empty here. Constructors only store, hooks act."""

    def on_fit_start(self, model):
        """Before the first epoch."""

    def on_epoch_start(self, model):
        """Before an epoch; ``model._epoch_index`` counts from 0."""

    def on_evaluation_end(self, model, logs):
        """After an evaluation during training, and the checkpoint that it may have led to.

        Args:
            model (BaseModel): in training.
            logs (dict): metric -> value on the validation data.
        """

    def on_epoch_end(self, model):
        """After an epoch, also the one that early stopping cut short."""

    def on_fit_end(self, model):
        """After training, with the best weights loaded."""


def attach(model, callbacks):
    """Let ``callbacks`` act while ``model.fit`` runs. Works on any FuxiCTR model, ours or not.

    The model's class becomes a subclass of what it was, with the same name, whose training methods call
    the hooks around FuxiCTR's own. A callback that raises an ``Exception`` is named in the log and left
    out from there on; training goes on.

    Args:
        model (BaseModel): of FuxiCTR.
        callbacks (list of Callback)

    Returns:
        BaseModel: the same ``model``.
    """
    if not callbacks:
        return model
    if not isinstance(model, _CallsBack):
        cls = type(model)
        model.__class__ = type(cls.__name__, (_CallsBack, cls), {"__module__": cls.__module__})
        model._callbacks = []
    model._callbacks.extend(callbacks)
    return model


class _CallsBack:
    """Mixed in front of a model's class by ``attach``."""

    def fit(self, *args, **kwargs):
        self._call("on_fit_start")
        result = super().fit(*args, **kwargs)
        self._call("on_fit_end")
        return result

    def train_epoch(self, *args, **kwargs):
        self._call("on_epoch_start")
        result = super().train_epoch(*args, **kwargs)
        self._call("on_epoch_end")
        return result

    def eval_step(self, *args, **kwargs):
        self._evaluation_logs = {}
        result = super().eval_step(*args, **kwargs)
        self._call("on_evaluation_end", self._evaluation_logs)
        return result

    def checkpoint_and_earlystop(self, logs, *args, **kwargs):
        self._evaluation_logs = dict(logs)
        return super().checkpoint_and_earlystop(logs, *args, **kwargs)

    @torch.no_grad()
    def _call(self, hook, *args):
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
