"""Finding the merge points: walking back from each prediction to the place where the paper merges."""

from dataclasses import dataclass

from torch import nn

from fuxictr_me.any_model.graph import operation
from fuxictr_me.any_model.merge_points import ACTIVATIONS, MergePoint, activates, side_by_side

LAYERS = (*ACTIVATIONS, "BatchNorm1d", "LayerNorm", "Dropout", "Identity", "Flatten")
RESHAPES = ("View", "UnsafeView", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Permute", "Clone", "ToCopy", "Alias")
LINEAR = (*RESHAPES, "Add", "Sub", "Cat", "Stack", "Neg")
PASSING = (*RESHAPES, "Cat", "Gather", "NativeLayerNorm", "NativeBatchNorm", "NativeDropout", "Mul")


def find(trace):
    """Where the sets of a model are merged, as the paper does it: after the first hidden layer of each branch.

    Back from every prediction:

    1. A module that mixes two or more representations, each behind a hidden layer, is the head: its inputs are merged
       (FinalMLP's fusion).
    2. Else the layers that follow one another up to here: what goes into the linear layer behind the first activation
       is merged.
    3. With the last linear layer alone: if its input is a concatenation or a sum of branches, one of which has a hidden
       layer, each branch is merged by itself, behind its first hidden layer or, where it has none, as it comes out
       (DCNv2's cross network); else what goes into the last layer is merged.
    4. Without a linear layer: the branches of a sum, a concatenation, or a product of towers, each by itself.

    Args:
        trace (Trace)

    Returns:
        list of MergePoint: empty where there is no such place.
    """
    return Search(trace).find()


@dataclass(frozen=True)
class Found:
    """A merge point, and whether a hidden layer was seen before it."""

    point: MergePoint
    projected: bool


class Search:
    """The walk; see ``find``."""

    def __init__(self, trace):
        self.trace = trace

    def find(self):
        points = []
        for node in self.trace.predictions.values():
            if self.trace.of_a_set(node):
                found = self.branch(node)
                if not found:
                    return []
                points += [f.point for f in found]
        points = list(dict.fromkeys(points))
        return points if side_by_side(self.trace, points) else []

    def branch(self, node, head=None):
        """The merge points of a branch that ends in ``node``; ``head``: the linear layer it goes into with others."""
        if mixing := self.mixing(node):
            return [Found(MergePoint(mixing.path, "input"), True)]
        calls, start = self.layers(node)
        linear = [i for i, call in enumerate(calls) if isinstance(call.module, nn.Linear)]
        hidden = [i for i, call in enumerate(calls) if type(call.module).__name__ in ACTIVATIONS]
        first = next((i for i in hidden if linear and i > linear[0]), None)  # the activation of the first hidden layer
        if first is not None:
            following = [i for i in linear if i > first]
            if following:
                return [Found(MergePoint(calls[following[0]].path, "input"), True)]
            if head:
                return [Found(MergePoint(calls[-1].path, "output"), True)]
        if head:
            return self.as_it_comes(node)
        return self.last_layer(calls[linear[0]]) if len(linear) == 1 else self.join(start)

    def last_layer(self, last):
        """Branches that meet in the last linear layer, or else what goes into it."""
        source = next(node for node in last.inputs if self.trace.of_a_set(node))
        parts = self.parts(source)
        if len(parts) > 1:
            branches = [self.branch(part, last) for part in parts]
            found = [f for of_branch in branches for f in of_branch]
            projected = any(f.projected and f.point.path != last.path for f in found)
            if all(branches) and projected and side_by_side(self.trace, [f.point for f in found]):
                return found
        return [Found(MergePoint(last.path, "input"), self.activated(source))]

    def join(self, start):
        """Branches that meet in a sum, a concatenation or a product, with no linear layer behind."""
        if mixing := self.mixing(start):
            return [Found(MergePoint(mixing.path, "input"), True)]
        operands = self.trace.operands(start)
        if operation(start) in ("Sum", "Mean") and len(operands) == 1:
            return self.branch(operands[0])
        if operation(start) not in (*LINEAR, "Mul"):
            return []
        found = []
        for operand in operands:
            of_branch = self.branch(operand)
            if not of_branch and not (operation(start) == "Mul" and len(operands) > 1):
                of_branch = [Found(f.point, False) for f in self.as_it_comes(operand)]
            if not of_branch:
                return []
            found += [f for f in of_branch if f not in found]
        inside = len(operands) == 1 or any(f.projected or f.point.side == "input" for f in found)
        return found if inside else []

    def as_it_comes(self, node):
        """The output of the outermost module that gives ``node``."""
        while not self.trace.given_by.get(node):
            operands = self.trace.operands(node)
            if operation(node) not in RESHAPES or len(operands) != 1:
                return []
            node = operands[0]
        return [Found(MergePoint(self.trace.given_by[node][-1].path, "output"), self.activated(node))]

    def layers(self, node):
        """Layers that follow one another, back from ``node``: ([calls in forward order], the node where they start)."""
        calls = []
        while True:
            operands = self.trace.operands(node)
            if found := self.layer_at(node):
                call, node = found
                calls.insert(0, call)
            elif operation(node) in RESHAPES and len(operands) == 1:
                node = operands[0]
            else:
                return calls, node

    def layer_at(self, node):
        """The layer that gives ``node``, and the node of its input, or None."""
        for call in self.trace.given_by.get(node, ()):
            inputs = [n for n in call.inputs if self.trace.of_a_set(n)]
            is_layer = isinstance(call.module, nn.Linear) or type(call.module).__name__ in LAYERS
            if len(inputs) == 1 and inputs[0] is not node and is_layer:
                return call, inputs[0]
        return None

    def mixing(self, node):
        """The call of a module that makes ``node`` of two or more representations, each behind a hidden layer."""
        for call in reversed(self.trace.given_by.get(node, ())):
            inputs = list(dict.fromkeys(n for n in call.inputs if self.trace.of_a_set(n)))
            if len(inputs) > 1 and node not in inputs and all(map(self.is_hidden, inputs)):
                return call
        return None

    def is_hidden(self, node):
        """Whether the layers that end in ``node`` hold a linear one and then an activation."""
        calls, _ = self.layers(node)
        linear = [isinstance(call.module, nn.Linear) for call in calls]
        return any(type(c.module).__name__ in ACTIVATIONS and any(linear[:i]) for i, c in enumerate(calls))

    def activated(self, node):
        """Whether an activation lies right before ``node``, but for reshapes, concatenations, norms and products."""
        while True:
            if activates(self.trace, node):
                return True
            operands = self.trace.operands(node)
            if operation(node) not in PASSING or not operands:
                return False
            node = operands[0]

    def parts(self, node):
        """The operands of concatenations and sums that no module encloses, reshapes seen through."""
        operands = self.trace.operands(node)
        if not self.trace.given_by.get(node):
            if operation(node) in RESHAPES and len(operands) == 1:
                return self.parts(operands[0])
            if operation(node) in ("Cat", "Add"):
                return [part for operand in operands for part in self.parts(operand)]
        return [node]
