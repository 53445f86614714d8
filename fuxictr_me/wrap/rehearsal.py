"""Rehearse a merge before training: run the forward on one batch as it will run later."""

import functools
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_leaves

from fuxictr_me.compat import BaseModel
from fuxictr_me.errors import UsageError
from fuxictr_me.nn.preserve_state import preserve_state
from fuxictr_me.wrap.merge_gate import MergeGate
from fuxictr_me.wrap.merge_points import ModelSplit


def rehearse_merge(model: BaseModel, split: ModelSplit, batch: Any) -> dict[bool, int]:
    """Merge a model with itself. It must return exactly what it returns unmerged, because (a + a) / 2 = a.

    Args:
        model: of one set.
        split: its merge points.

    Returns:
        Training mode -> number of times that merge points are passed.

    Raises:
        UsageError: if the results differ: something bypasses the merge points, such as a change in place.
    """
    gate = MergeGate(model, split)
    try:
        return {training: _rehearse(model, gate, batch, training) for training in (True, False)}
    finally:
        gate.remove()


def check_no_bypass(
    forward: Callable, models: Sequence[BaseModel], gates: Sequence[MergeGate], split: ModelSplit, batch: Any
) -> None:
    """Check that set 1 predicts what set 0 predicts if it gets set 0's values at the merge points: the head is shared.

    This shows that nothing else of a set reaches the prediction, not even where autograd does not look: through an
    index, or behind ``detach``.

    Args:
        forward: of the backbone: (model, inputs).
        models: sets 0 and 1, which share the head.
        gates: of these models.
        split: the merge points.
        batch: as ``forward`` takes it.

    Raises:
        UsageError: if the predictions differ.
    """
    first, second = (functools.partial(forward, model) for model in models)
    captured = _run(models[0], False, batch, lambda inputs: gates[0].capture(first, inputs))
    expected = _run(models[0], False, batch, first)
    result = _run(
        models[1],
        False,
        batch,
        lambda inputs: gates[1].run_merged(second, inputs, [captured], merge=lambda point, values: values[1]),
    )
    names = {name for tasks in split.tasks.values() for name in tasks}
    if not all(_is_equal(expected[name], result[name]) for name in names):
        at = " and ".join(map(str, split.points))
        raise UsageError(f"its prediction depends on embeddings past {at}, where no gradient goes (detach, an index?)")


def _rehearse(model: BaseModel, gate: MergeGate, batch: Any, training: bool) -> int:
    mode = "training" if training else "evaluation"
    plain = _run(model, training, batch, model)
    captured = _run(model, training, batch, lambda inputs: gate.capture(model, inputs))
    if missed := [str(point) for point in gate.leaves if point not in {point for point, _ in captured}]:
        raise UsageError(f"{missed[0]} is not passed in {mode}")
    passes = len(captured)
    if len(_run(model, training, batch, lambda inputs: gate.capture(model, inputs, passes))) != passes:
        raise UsageError("its forward catches every exception, so that a set cannot end at its merge points")
    merged = _run(model, training, batch, lambda inputs: gate.run_merged(model, inputs, [captured]))
    if not all(map(_is_equal, tree_leaves(plain), tree_leaves(merged))):
        at = " and ".join(map(str, gate.leaves))
        raise UsageError(
            f"merged with itself at {at}, it does not predict in {mode} what it does unmerged: something goes "
            "around these points (a change in place?), or its forward is not the same twice"
        )
    return passes


def _run(model: BaseModel, training: bool, batch: Any, forward: Callable[[Any], Any]) -> Any:
    """Run a forward of ``model`` with seed 0 and without gradients, and restore its state."""
    with preserve_state(model):
        model.train(training)
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(0)
        with torch.no_grad():
            return forward(batch)


def _is_equal(a: Any, b: Any) -> bool:
    """Compare tensors exactly; on a GPU, where some kernels add in any order, to rounding."""
    if not (isinstance(a, torch.Tensor) and a.is_floating_point()):
        return True
    same = torch.allclose if a.is_cuda else torch.equal
    return a.shape == b.shape and same(a.nan_to_num(), b.nan_to_num())
