"""Finding the merge points: walking back from each prediction to the place where the paper merges."""

from dataclasses import dataclass

from torch import nn

from fuxictr_me.wrap.autograd_graph import operation
from fuxictr_me.wrap.merge_points import MergePoint, side_by_side
from fuxictr_me.wrap.operations import ACTIVATION_OPERATIONS, LAYERS, LINEAR, RESHAPES, SCALINGS, activated
from fuxictr_me.wrap.trace import Call


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


@dataclass(frozen=True)
class Layer:
    """A layer on the way to a prediction.

    Attributes:
        kind (str): ``linear``, ``activation``, or ``other``: what changes nothing in this.
        call (Call or None): of its module; None of a function.
    """

    kind: str
    call: Call = None


def first_hidden(layers):
    """The position of the first activation behind a linear layer; 0 if there is none."""
    kinds = [layer.kind for layer in layers]
    return next((i for i, kind in enumerate(kinds) if kind == "activation" and "linear" in kinds[:i]), 0)


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
        layers, start = self.layers(node)
        first = first_hidden(layers)
        linear = [layer.call for layer in layers if layer.kind == "linear"]
        behind = [layer.call for layer in layers[first:] if layer.kind == "linear"]
        if first and behind:
            return [Found(MergePoint(behind[0].path, "input"), True)]
        if head:
            return [Found(f.point, first > 0 or f.projected) for f in self.as_it_comes(node)]
        return self.last_layer(linear[0]) if len(linear) == 1 else self.join(start)

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
        return [Found(MergePoint(last.path, "input"), activated(self.trace, source))]

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
        return [Found(MergePoint(self.trace.given_by[node][-1].path, "output"), activated(self.trace, node))]

    def layers(self, node):
        """Layers that follow one another, back from ``node``: ([Layer] in forward order, the node where they start)."""
        layers = []
        while True:
            operands = self.trace.operands(node)
            if found := self.layer_at(node):
                layer, node = found
                layers.insert(0, layer)
            elif len(operands) == 1 and operation(node) in (*ACTIVATION_OPERATIONS, *RESHAPES, *SCALINGS):
                if operation(node) in ACTIVATION_OPERATIONS:
                    layers.insert(0, Layer("activation"))
                node = operands[0]
            else:
                return layers, node

    def layer_at(self, node):
        """The layer that gives ``node``, and the node of its input, or None."""
        for call in self.trace.given_by.get(node, ()):
            inputs = [n for n in call.inputs if self.trace.of_a_set(n)]
            name = "Linear" if isinstance(call.module, nn.Linear) else type(call.module).__name__
            if len(inputs) == 1 and inputs[0] is not node and name in LAYERS:
                return Layer(LAYERS[name], call), inputs[0]
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
        return first_hidden(self.layers(node)[0]) > 0

    def parts(self, node):
        """The operands of concatenations and sums that no module encloses, reshapes seen through."""
        operands = self.trace.operands(node)
        if not self.trace.given_by.get(node):
            if operation(node) in RESHAPES and len(operands) == 1:
                return self.parts(operands[0])
            if operation(node) in ("Cat", "Add"):
                return [part for operand in operands for part in self.parts(operand)]
        return [node]
