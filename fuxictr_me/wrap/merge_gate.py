"""Hooks at the merge points of one set: capture the values there, or replace them with the mean over all sets."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from fuxictr_me.errors import RunError
from fuxictr_me.wrap.merge_points import MergePoint, ModelSplit

Captured = list[tuple[MergePoint, list[Tensor]]]  # for each pass of a point, the values that depend on embeddings
Merge = Callable[[MergePoint, list[Tensor]], Tensor]  # of the values of all sets, this set's first


class _AllCaptured(BaseException):
    """Ends the forward of a set at its last merge point. An ``except Exception`` in a model must not catch it."""


class MergeGate:
    """Hooks on the modules of one set's model. They do nothing until ``capture`` or ``run_merged`` runs a forward.

    Args:
        model: the model whose modules the points name.
        split: its merge points.
        task_sets: at a point that leads to task t, only sets 0 and t get a gradient.
    """

    def __init__(self, model: nn.Module, split: ModelSplit, task_sets: bool = False) -> None:
        self.leaves = split.leaves
        self.task_set: dict[MergePoint, int | None] = dict.fromkeys(split.points)
        if task_sets:
            tasks = list(dict.fromkeys(task for point in split.points for task in split.tasks[point]))
            self.task_set = {point: 1 + tasks.index(split.tasks[point][0]) for point in split.points}
        self.handle: Callable[[MergePoint, Any], Any] | None = None
        self.hooks = []
        for point in split.points:
            module = model.get_submodule(point.path)
            if point.side == "input":
                hook = module.register_forward_pre_hook(_BeforeModule(self, point), with_kwargs=True)
            else:
                hook = module.register_forward_hook(_AfterModule(self, point))
            self.hooks.append(hook)

    def remove(self) -> None:
        """Remove the hooks from the modules."""
        for hook in self.hooks:
            hook.remove()

    def capture(self, forward: Callable[[Any], Any], inputs: Any, passes: int | None = None) -> Captured:
        """Run ``forward`` up to the last merge point, and return the values at each pass of a point.

        Args:
            forward: of a set's model.
            inputs: its argument.
            passes: number of passes after which the forward ends; None: run it completely.
        """
        captured: Captured = []

        def handle(point: MergePoint, value: Any) -> Any:
            tensors = tree_leaves(value)
            # a copy, because changes in place behind the point must not reach it
            captured.append((point, [tensors[i].clone() for i in self.leaves[point]]))
            if len(captured) == passes:
                raise _AllCaptured
            return value

        try:
            self.handle = handle
            forward(inputs)
        except _AllCaptured:
            pass
        finally:
            self.handle = None
        return captured

    def run_merged(
        self, forward: Callable[[Any], Any], inputs: Any, others: Sequence[Captured], merge: Merge | None = None
    ) -> Any:
        """Run ``forward`` with the mean over this set and the others at each merge point, and return its result.

        Args:
            forward: of this set's model.
            inputs: its argument.
            others: the captured values of each other set.
            merge: replaces the mean.

        Raises:
            RunError: if this set passes other merge points than the others did.
        """
        passed: list[MergePoint] = []
        merge = merge or self._mean

        def handle(point: MergePoint, value: Any) -> Any:
            k = len(passed)
            passed.append(point)
            if any(k >= len(captured) or captured[k][0] != point for captured in others):
                raise RunError(_describe_difference(passed, others))
            tensors, form = tree_flatten(value)
            for j, i in enumerate(self.leaves[point]):
                tensors[i] = merge(point, [tensors[i], *(captured[k][1][j] for captured in others)])
            return tree_unflatten(tensors, form)

        try:
            self.handle = handle
            result = forward(inputs)
        finally:
            self.handle = None
        if any(len(captured) != len(passed) for captured in others):
            raise RunError(_describe_difference(passed, others))
        return result

    def _mean(self, point: MergePoint, values: list[Tensor]) -> Tensor:
        task_set = self.task_set[point]
        if task_set is not None:
            values = [h if m in (0, task_set) else h.detach() for m, h in enumerate(values)]
        return torch.stack(values).mean(dim=0)


class _BeforeModule:
    """A hook that is an object instead of a closure, so that a copy of the model refers to the copy's gate."""

    def __init__(self, gate: MergeGate, point: MergePoint) -> None:
        self.gate, self.point = gate, point

    def __call__(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        return self.gate.handle(self.point, (args, kwargs)) if self.gate.handle else None


class _AfterModule(_BeforeModule):
    def __call__(self, module: nn.Module, args: Any, output: Any) -> Any:
        return self.gate.handle(self.point, output) if self.gate.handle else None


def _describe_difference(passed: Sequence[MergePoint], others: Sequence[Captured]) -> str:
    names = {tuple(map(str, passed)), *(tuple(str(point) for point, _ in captured) for captured in others)}
    return f"the sets do not pass the same merge points in this batch: {' | '.join(' '.join(n) for n in sorted(names))}"
