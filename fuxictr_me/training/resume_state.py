"""The state of training in one process after an epoch: from it, training continues as if it had not stopped."""

import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fuxictr_me.compat import BaseModel
from fuxictr_me.errors import UsageError

State = dict[str, Any]  # tensors, numbers, text, and dicts, lists and tuples of them
COUNTERS: dict[str, type] = {"_total_steps": int, "_best_metric": float, "_stopping_steps": int, "_stop_training": bool}


def collect_state(model: BaseModel) -> State:
    """Return everything that the next epoch depends on, except the loader. Tensors are not copied.

    Postponed updates of table rows stay postponed, so that saving a state changes no result.
    """
    return {
        "counters": {name: kind(getattr(model, name)) for name, kind in COUNTERS.items()},
        "weights": _weights(model),
        "optimizers": {name: part.state_dict() for name, part in _optimizers(model).items()},
        "rows": [rows.save_state() for rows in _row_updates(model)],
        "callbacks": {name: callback.save_state() for name, callback in _callbacks(model).items()},
        "random": _random_state(model.device),
    }


def restore_state(model: BaseModel, state: State) -> None:
    """Restore what ``collect_state`` returned, in a model that has been built from the same settings.

    Raises:
        UsageError: the state is of another model, or damaged.
    """
    try:
        _copy_weights(_weights(model), state["weights"])
        optimizers = _optimizers(model)
        for name, of_part in state["optimizers"].items():
            optimizers[name].load_state_dict(of_part)
        for rows, of_rows in zip(_row_updates(model, len(state["rows"])), state["rows"], strict=True):
            rows.load_state(of_rows)
        for name, kind in COUNTERS.items():
            setattr(model, name, kind(state["counters"][name]))
        for name, callback in _callbacks(model).items():
            if name in state["callbacks"]:
                callback.load_state(state["callbacks"][name])
        _set_random_state(state["random"], model.device)  # last, because the rest may draw numbers
    except UsageError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:200]
        raise UsageError(f"it is of another model, or damaged: {reason}") from error


class ResumableTraining(BaseModel):
    """Skips the epochs that are completed, and keeps the state after each other one. See ``make_resumable``."""

    _epochs_done: int
    _restore: Callable[[BaseModel], None]
    _keep: Callable[[BaseModel, int], None]
    _saved_at_step: int | None = None

    def train_epoch(self, data_generator: Iterable, *args: Any, **kwargs: Any) -> None:
        """Train on every batch once. Of an epoch that is completed already, only the order of the rows is drawn."""
        epoch = self._epoch_index + 1
        if epoch > self._epochs_done:
            super().train_epoch(data_generator, *args, **kwargs)
            self._keep(self, epoch)
            return
        next(iter(data_generator), None)
        if epoch == self._epochs_done:
            self._restore(self)

    def save_weights(self, checkpoint: Any) -> None:
        """Save the weights as the model does, and remember after which step."""
        super().save_weights(checkpoint)
        self._saved_at_step = self._total_steps

    @property
    def checkpoint_is_current(self) -> bool:
        """Whether the checkpoint holds the present weights."""
        return self._saved_at_step == self._total_steps


def make_resumable(
    model: BaseModel,
    epochs_done: int,
    restore: Callable[[BaseModel], None],
    keep: Callable[[BaseModel, int], None],
) -> None:
    """Let ``fit`` of any FuxiCTR model skip completed epochs, and keep a state after each of the others.

    Args:
        model: the class of it is replaced by a subclass of the same name, because FuxiCTR's loop has no hooks.
        epochs_done: number of completed epochs.
        restore: called with the model in place of the last of them.
        keep: called with the model and the number of epochs after each other one.
    """
    cls = type(model)
    model.__class__ = type(cls.__name__, (ResumableTraining, cls), {"__module__": cls.__module__})
    model._epochs_done, model._restore, model._keep = epochs_done, restore, keep


def _weights(model: BaseModel) -> dict[str, Tensor]:
    """Return name -> parameter or buffer. Buffers that are views of a parameter, as of a fused table, are left out."""
    parameters = dict(model.named_parameters())
    held = {parameter.untyped_storage().data_ptr() for parameter in parameters.values()}
    buffers = {n: b for n, b in model.named_buffers() if b.untyped_storage().data_ptr() not in held}
    return {name: tensor.detach() for name, tensor in {**parameters, **buffers}.items()}


@torch.no_grad()
def _copy_weights(weights: dict[str, Tensor], saved: dict[str, Tensor]) -> None:
    for name in weights.keys() | saved.keys():
        shapes = [tuple(tensors[name].shape) if name in tensors else "none" for tensors in (saved, weights)]
        if shapes[0] != shapes[1]:
            raise UsageError(f"it is of another model: {name} has shape {shapes[0]} in it and {shapes[1]} here")
    for name, tensor in weights.items():
        tensor.copy_(saved[name])


def _optimizers(model: BaseModel) -> dict[str, Any]:
    """Return attribute -> optimizer or schedule of a learning rate, optimizers first. A model may have several."""
    kinds = torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler
    return {name: value for kind in kinds for name, value in vars(model).items() if isinstance(value, kind)}


def _row_updates(model: BaseModel, expected: int | None = None) -> list[Any]:
    """Return what updates the rows of the fused tables of a fuxictr-me model; of others there is nothing.

    Args:
        model: in training.
        expected: the number of tables that the state must have. The model creates its training step if needed.
    """
    step = model.make_step() if expected else getattr(model, "_step", None)
    return step.rows if step else []


def _callbacks(model: BaseModel) -> dict[str, Any]:
    callbacks = getattr(model, "_callbacks", [])
    return {f"{i}:{type(callback).__name__}": callback for i, callback in enumerate(callbacks)}


def _random_state(device: torch.device) -> State:
    generator: Any = np.random.get_state()
    name, keys, position, has_gauss, gauss = generator
    numpy_state = name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)
    state: State = {"torch": torch.get_rng_state(), "numpy": numpy_state, "python": random.getstate()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _set_random_state(state: State, device: torch.device) -> None:
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
