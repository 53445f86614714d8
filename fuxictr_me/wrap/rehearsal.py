"""Before training: the forward is run as it will be, on one batch."""

import contextlib
import functools
import random

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from fuxictr_me.errors import UsageError
from fuxictr_me.wrap.set_average import Gate


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


def exchange(forward, models, gates, split, batch):
    """Given what passes the merge points of set 0, set 1 must predict what set 0 predicts, as it has the same head.

    It shows that nothing else of a set reaches the prediction, not even where autograd does not look: by an index, or
    behind ``detach``.

    Args:
        forward (callable): of the backbone: (model, inputs).
        models (tuple of BaseModel): sets 0 and 1, the head shared.
        gates (list of Gate): theirs.
        split (Split)
        batch: as ``forward`` takes it.

    Raises:
        UsageError: it does not.
    """
    first, second = (functools.partial(forward, model) for model in models)
    taken = _answer(models[0], False, batch, lambda inputs: gates[0].take(first, inputs))
    expected = _answer(models[0], False, batch, first)
    found = _answer(
        models[1],
        False,
        batch,
        lambda inputs: gates[1].put(second, inputs, [taken], merge=lambda point, of_sets: of_sets[1]),
    )
    names = {name for tasks in split.tasks.values() for name in tasks}
    if not all(_equal(expected[name], found[name]) for name in names):
        at = " and ".join(map(str, split.points))
        raise UsageError(f"its prediction depends on embeddings past {at}, where no gradient goes (detach, an index?)")


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
    if not all(map(_equal, tree_leaves(plain), tree_leaves(merged))):
        at = " and ".join(map(str, gate.leaves))
        raise UsageError(
            f"merged with itself at {at}, it does not predict in {mode} what it does unmerged: something goes "
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
    """Exactly; on a GPU, where some kernels add in any order, to rounding."""
    if not (isinstance(a, torch.Tensor) and a.is_floating_point()):
        return True
    same = torch.allclose if a.is_cuda else torch.equal
    return a.shape == b.shape and same(a.nan_to_num(), b.nan_to_num())
