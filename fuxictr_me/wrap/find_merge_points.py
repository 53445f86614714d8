"""Find the merge points of a model: walk back from each prediction to the place where the paper merges."""

from dataclasses import dataclass

from torch import nn

from fuxictr_me.wrap.autograd_graph import ACTIVATION_OPERATIONS, LAYERS, LINEAR, RESHAPES, SCALINGS, Node
from fuxictr_me.wrap.autograd_graph import operation_name as operation
from fuxictr_me.wrap.merge_points import MergePoint, is_merged_once
from fuxictr_me.wrap.trace import Call, Trace


def find_merge_points(trace: Trace) -> list[MergePoint]:
    """Return the points where the sets of a model are merged as in the paper: after the first hidden layer per branch.

    Starting from every prediction, going back:

    1. A module that mixes two or more representations, each behind a hidden layer, is the head: its inputs are merged
       (FinalMLP's fusion).
    2. Otherwise, in the sequence of layers up to here, the input of the linear layer behind the first activation
       is merged.
    3. If there is only the last linear layer, and its input is a concatenation or a sum of branches, one of which has a
       hidden layer, each branch is merged separately: behind its first hidden layer or, without one, at its output
       (DCNv2's cross network). Otherwise the input of the last layer is merged.
    4. Without a linear layer, the branches of a sum, a concatenation, or a product of towers are treated separately.

    Returns:
        The points; empty if there is no such place.
    """
    search, points = _Search(trace), []
    for node in trace.predictions.values():
        if trace.depends_on_embeddings(node):
            candidates = search.follow_branch(node)
            if not candidates:
                return []
            points += [candidate.point for candidate in candidates]
    points = list(dict.fromkeys(points))
    return points if is_merged_once(trace, points) else []


@dataclass(frozen=True)
class _Candidate:
    """A merge point, and whether there is a hidden layer before it."""

    point: MergePoint
    is_projected: bool


@dataclass(frozen=True)
class _Layer:
    """A layer on the way to a prediction."""

    kind: str  # ``linear``, ``activation``, or ``other``: a layer that does not matter here
    call: Call | None = None  # of its module; None for a function


def _first_hidden(layers: list[_Layer]) -> int:
    """Return the position of the first activation behind a linear layer; 0 if there is none."""
    kinds = [layer.kind for layer in layers]
    return next((i for i, kind in enumerate(kinds) if kind == "activation" and "linear" in kinds[:i]), 0)


class _Search:
    """The walk of ``find_merge_points``."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    def follow_branch(self, node: Node, head: Call | None = None) -> list[_Candidate]:
        """Return the merge points of a branch that ends in ``node``.

        Args:
            node: the end of the branch.
            head: the linear layer that takes this branch together with others.
        """
        if mixing := self.find_mixing(node):
            return [_Candidate(MergePoint(mixing.path, "input"), True)]
        layers, start = self.collect_layers(node)
        first = _first_hidden(layers)
        linear = [layer.call for layer in layers if layer.kind == "linear" and layer.call]
        behind = [layer.call for layer in layers[first:] if layer.kind == "linear" and layer.call]
        if first and behind:
            return [_Candidate(MergePoint(behind[0].path, "input"), True)]
        if head:
            return [_Candidate(c.point, first > 0 or c.is_projected) for c in self.merge_at_output(node)]
        return self.split_last_layer(linear[0]) if len(linear) == 1 else self.split_join(start)

    def split_last_layer(self, last: Call) -> list[_Candidate]:
        """Return the points of the branches that meet in the last linear layer, or else its input."""
        source = next(node for node in last.inputs if self.trace.depends_on_embeddings(node))
        parts = self.list_parts(source)
        if len(parts) > 1:
            branches = [self.follow_branch(part, last) for part in parts]
            candidates = [candidate for branch in branches for candidate in branch]
            is_projected = any(c.is_projected and c.point.path != last.path for c in candidates)
            if all(branches) and is_projected and is_merged_once(self.trace, [c.point for c in candidates]):
                return candidates
        return [_Candidate(MergePoint(last.path, "input"), self.trace.follows_activation(source))]

    def split_join(self, start: Node) -> list[_Candidate]:
        """Return the points of branches that meet in a sum, a concatenation or a product without a linear layer."""
        if mixing := self.find_mixing(start):
            return [_Candidate(MergePoint(mixing.path, "input"), True)]
        operands = self.trace.operands(start)
        if operation(start) in ("Sum", "Mean") and len(operands) == 1:
            return self.follow_branch(operands[0])
        if operation(start) not in (*LINEAR, "Mul"):
            return []
        candidates: list[_Candidate] = []
        for operand in operands:
            branch = self.follow_branch(operand)
            if not branch and not (operation(start) == "Mul" and len(operands) > 1):
                branch = [_Candidate(c.point, False) for c in self.merge_at_output(operand)]
            if not branch:
                return []
            candidates += [c for c in branch if c not in candidates]
        is_inside = len(operands) == 1 or any(c.is_projected or c.point.side == "input" for c in candidates)
        return candidates if is_inside else []

    def merge_at_output(self, node: Node) -> list[_Candidate]:
        """Return the output of the outermost module that returns ``node``."""
        while not self.trace.calls_by_output.get(node):
            operands = self.trace.operands(node)
            if operation(node) not in RESHAPES or len(operands) != 1:
                return []
            node = operands[0]
        path = self.trace.calls_by_output[node][-1].path
        return [_Candidate(MergePoint(path, "output"), self.trace.follows_activation(node))]

    def collect_layers(self, node: Node) -> tuple[list[_Layer], Node]:
        """Return the sequence of layers that ends in ``node``, in forward order, and the node where it starts."""
        layers: list[_Layer] = []
        while True:
            operands = self.trace.operands(node)
            if found := self.find_layer(node):
                layer, node = found
                layers.insert(0, layer)
            elif len(operands) == 1 and operation(node) in (*ACTIVATION_OPERATIONS, *RESHAPES, *SCALINGS):
                if operation(node) in ACTIVATION_OPERATIONS:
                    layers.insert(0, _Layer("activation"))
                node = operands[0]
            else:
                return layers, node

    def find_layer(self, node: Node) -> tuple[_Layer, Node] | None:
        """Return the layer that returns ``node`` and the node of its input, or None."""
        for call in self.trace.calls_by_output.get(node, ()):
            inputs = [n for n in call.inputs if self.trace.depends_on_embeddings(n)]
            name = "Linear" if isinstance(call.module, nn.Linear) else type(call.module).__name__
            if len(inputs) == 1 and inputs[0] is not node and name in LAYERS:
                return _Layer(LAYERS[name], call), inputs[0]
        return None

    def find_mixing(self, node: Node) -> Call | None:
        """Return the call that computes ``node`` from two or more representations, each behind a hidden layer."""
        for call in reversed(self.trace.calls_by_output.get(node, ())):
            inputs = list(dict.fromkeys(n for n in call.inputs if self.trace.depends_on_embeddings(n)))
            if len(inputs) > 1 and node not in inputs and all(map(self.is_hidden, inputs)):
                return call
        return None

    def is_hidden(self, node: Node) -> bool:
        """Return whether the layers that end in ``node`` contain a linear layer and then an activation."""
        return _first_hidden(self.collect_layers(node)[0]) > 0

    def list_parts(self, node: Node) -> list[Node]:
        """Return the operands of concatenations and sums outside modules, looking through reshapes."""
        operands = self.trace.operands(node)
        if not self.trace.calls_by_output.get(node):
            if operation(node) in RESHAPES and len(operands) == 1:
                return self.list_parts(operands[0])
            if operation(node) in ("Cat", "Add"):
                return [part for operand in operands for part in self.list_parts(operand)]
        return [node]
