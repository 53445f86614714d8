"""Hooks at the merge points of one set: take what passes there, or put the mean of all sets in its place."""

import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from fuxictr_me.errors import RunError


class AllTaken(BaseException):
    """Ends the forward of a set at its last merge point; no ``except Exception`` of a model's should hold it."""


class Gate:
    """Hooks on the modules of one set's model, which do nothing until ``take`` or ``put`` runs a forward.

    Args:
        model (nn.Module): whose modules the points name.
        split (Split)
        task_sets (bool): at a point that leads to task t, only sets 0 and t get a gradient.
    """

    def __init__(self, model, split, task_sets=False):
        self.leaves = split.leaves
        self.own_set = dict.fromkeys(split.points)
        if task_sets:
            tasks = list(dict.fromkeys(task for point in split.points for task in split.tasks[point]))
            self.own_set = {point: 1 + tasks.index(*split.tasks[point]) for point in split.points}
        self.at, self.hooks = None, []
        for point in split.points:
            module = model.get_submodule(point.path)
            if point.side == "input":
                hook = module.register_forward_pre_hook(_BeforeModule(self, point), with_kwargs=True)
            else:
                hook = module.register_forward_hook(_AfterModule(self, point))
            self.hooks.append(hook)

    def remove(self):
        """Take the hooks off the modules."""
        for hook in self.hooks:
            hook.remove()

    def take(self, forward, inputs, passes=None):
        """Run ``forward`` up to the last merge point.

        Args:
            forward (callable): of a set's model.
            inputs: what it takes.
            passes (int or None): how often merge points are passed; None: run it to its end.

        Returns:
            list of (MergePoint, list of Tensor): what depends on embeddings, at each pass.
        """
        taken = []

        def at(point, value):
            given = tree_leaves(value)
            # a copy: what is done in place behind the point must not reach it
            taken.append((point, [given[i].clone() for i in self.leaves[point]]))
            if len(taken) == passes:
                raise AllTaken
            return value

        try:
            self.at = at
            forward(inputs)
        except AllTaken:
            pass
        finally:
            self.at = None
        return taken

    def put(self, forward, inputs, others, merge=None):
        """Run ``forward``, with the mean over this set and the others at each merge point.

        Args:
            forward (callable): of this set's model.
            inputs: what it takes.
            others (list): what ``take`` gave of each other set.
            merge (callable): (point, [Tensor of this set, of the others ...]) -> Tensor; None: the mean.

        Returns:
            What ``forward`` returns.

        Raises:
            RunError: this set passes other merge points than the others did.
        """
        merge, passed = merge or self._mean, []

        def at(point, value):
            k = len(passed)
            passed.append(point)
            if any(k >= len(taken) or taken[k][0] != point for taken in others):
                raise RunError(_parted(passed, others))
            given, form = tree_flatten(value)
            for j, i in enumerate(self.leaves[point]):
                given[i] = merge(point, [given[i], *(taken[k][1][j] for taken in others)])
            return tree_unflatten(given, form)

        try:
            self.at = at
            result = forward(inputs)
        finally:
            self.at = None
        if any(len(taken) != len(passed) for taken in others):
            raise RunError(_parted(passed, others))
        return result

    def _mean(self, point, of_sets):
        own = self.own_set[point]
        if own is not None:
            of_sets = [h if m in (0, own) else h.detach() for m, h in enumerate(of_sets)]
        return torch.stack(of_sets).mean(dim=0)


class _BeforeModule:
    """An object, not a closure, so that a copy of the model has the copy's gate."""

    def __init__(self, gate, point):
        self.gate, self.point = gate, point

    def __call__(self, module, args, kwargs):
        return self.gate.at(self.point, (args, kwargs)) if self.gate.at else None


class _AfterModule(_BeforeModule):
    def __call__(self, module, args, output):
        return self.gate.at(self.point, output) if self.gate.at else None


def _parted(passed, others):
    names = {tuple(map(str, passed)), *(tuple(str(point) for point, _ in taken) for taken in others)}
    return f"the sets do not pass the same merge points in this batch: {' | '.join(' '.join(n) for n in sorted(names))}"
