"""Before training: the forward is run as it will be, on a model that can be spoilt."""

import contextlib
import random

import numpy as np
import torch

from fuxictr_me.any_model.gate import Gate
from fuxictr_me.any_model.nested import tensors
from fuxictr_me.errors import UsageError


@contextlib.contextmanager
def aside(model):
    """Random numbers, running statistics and the training mode are afterwards as they were before."""
    states = random.getstate(), np.random.get_state()
    devices = {tensor.device for tensor in model.parameters() if tensor.is_cuda}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    training = model.training
    with torch.random.fork_rng(devices=devices):
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            model.train(training)
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])


def rehearse(model, split, batch):
    """Merge a model with itself: it must return what it returns unmerged, exactly, as (a + a) / 2 = a.

    Args:
        model (BaseModel)
        split (Split)
        batch: as its ``forward`` takes it.

    Returns:
        dict: training mode (bool) -> how often merge points are passed.

    Raises:
        UsageError: it does not: something goes around the merge points, such as a change in place.
    """
    gate = Gate(model, split)
    try:
        return {training: _rehearse(model, gate, batch, training) for training in (True, False)}
    finally:
        gate.remove()


def _rehearse(model, gate, batch, training):
    def run(forward):
        return _answer(model, training, batch, forward)

    mode = "training" if training else "evaluation"
    plain = run(model)
    taken = run(lambda inputs: gate.take(model, inputs))
    if missed := [str(point) for point in gate.leaves if point not in {point for point, _ in taken}]:
        raise UsageError(f"{missed[0]} is not passed in {mode}")
    if len(run(lambda inputs: gate.take(model, inputs, len(taken)))) != len(taken):
        raise UsageError("its forward catches every exception, so that a set cannot end at its merge points")
    merged = run(lambda inputs: gate.put(model, inputs, [taken]))
    if not all(map(_equal, tensors(plain), tensors(merged))):
        at = " and ".join(map(str, gate.leaves))
        raise UsageError(
            f"merged with itself at {at}, it does not predict in {mode} what it predicts unmerged: something goes "
            "around these points (a change in place?), or its forward is not the same twice"
        )
    return len(taken)


def _answer(model, training, batch, run):
    with aside(model):
        model.train(training)
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(0)
        with torch.no_grad():
            return run(batch)


def _equal(a, b):
    return a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num()) if a.is_floating_point() else True
