"""Where the sets of a model are merged: named by the user, and checked against what a batch shows."""

from dataclasses import dataclass

from torch import nn

from fuxictr_me.config.model_options import check_merge
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.wrap.autograd_graph import nodes_behind, parameters_behind
from fuxictr_me.wrap.operations import activated


@dataclass(frozen=True)
class MergePoint:
    """A place in a forward pass: ``>fc`` is what goes into the module ``fc``, ``fc>`` what comes out of it.

    Attributes:
        path (str): of the module.
        side (str): ``"input"`` or ``"output"``.
    """

    path: str
    side: str

    def __str__(self):
        return f">{self.path}" if self.side == "input" else f"{self.path}>"


@dataclass(frozen=True)
class Split:
    """What is a set's, and what there is once.

    Attributes:
        points (tuple of MergePoint)
        leaves (dict): point -> which of its tensors depend on embeddings, by position.
        of_a_set (frozenset): names of the trained parameters of a set.
        head (list of str): names of the trained parameters behind the points.
        tasks (dict): point -> names of the predictions that it leads to.
        hidden (dict): point -> whether what is merged there comes right out of a hidden layer's activation.
    """

    points: tuple
    leaves: dict
    of_a_set: frozenset
    head: list
    tasks: dict
    hidden: dict


def named(merge, trace):
    """The merge points that a user names.

    Args:
        merge (str or list of str): ``">fc"``, ``"crossnet>"``, ``"dnn"`` (behind the first hidden layer in it), or
            ``"logits"``; several where branches meet.
        trace (Trace)

    Returns:
        list of MergePoint

    Raises:
        UsageError: no such module, or one that the forward does not call.
    """
    if merge == "logits":
        return _logits(trace)
    check_merge(merge)
    return [_named(name.replace(" ", ""), trace) for name in ([merge] if isinstance(merge, str) else merge)]


def _named(name, trace):
    path = name.strip(">")
    try:
        module = trace.model.get_submodule(path)
    except AttributeError:
        raise unknown("module in merge", path, {call.path for call in trace.calls}) from None
    path = next((call.path for call in trace.calls if call.module is module), None)  # its first name, if it has two
    if path is None:
        raise UsageError(f"merge: {name}: the forward of {type(trace.model).__name__} does not call this module")
    if name.startswith(">") or name.endswith(">"):
        return MergePoint(path, "input" if name.startswith(">") else "output")
    for call in trace.calls:
        entries = [node for node in call.inputs if trace.of_a_set(node)]
        is_inside = call.path.startswith(f"{path}.") and isinstance(call.module, nn.Linear)
        if is_inside and entries and all(activated(trace, node) for node in entries):
            return MergePoint(call.path, "input")
    return MergePoint(path, "input")


def _logits(trace):
    called = dict.fromkeys(call.path for call in trace.calls if call.path.split(".")[0] == "output_activation")
    if not called:
        raise UsageError(
            f"merge: logits is what goes into output_activation, which {type(trace.model).__name__} does not call: "
            "name a module"
        )
    return [MergePoint(path, "input") for path in called]


@dataclass(frozen=True)
class Passage:
    """One call of the module of a merge point.

    Attributes:
        point (MergePoint)
        entries (tuple): nodes of what depends on embeddings and is merged there.
        exits (tuple): nodes of what comes out of the module.
        leaves (tuple): positions of the entries among the tensors that pass.
    """

    point: MergePoint
    entries: tuple
    exits: tuple
    leaves: tuple


def passages(trace, point):
    """Every call of the module of ``point``."""
    found = []
    for call in trace.calls:
        if call.path == point.path:
            passing = call.inputs if point.side == "input" else call.outputs
            leaves = tuple(i for i, node in enumerate(passing) if trace.of_a_set(node))
            exits = tuple(node for node in call.outputs if node is not None)
            found.append(Passage(point, tuple(passing[i] for i in leaves), exits, leaves))
    return found


def side_by_side(trace, points):
    """Whether nothing that is merged has been merged before, in another point or call."""
    every = [passage for point in points for passage in passages(trace, point)]
    behind = [nodes_behind(passage.entries) for passage in every]
    pairs = ((a, b) for a in range(len(every)) for b in range(len(every)) if a != b)
    return all(behind[b].isdisjoint(every[a].exits) for a, b in pairs)


def split(trace, points, headless=False):
    """Check that a model can be merged at ``points``, and tell the sets from the head.

    A trained parameter is a set's if what is merged depends on it; embeddings are always.

    Args:
        trace (Trace)
        points (list of MergePoint)
        headless (bool): whether there need be nothing trained behind the points: ``merge: logits``.

    Returns:
        Split

    Raises:
        UsageError: one line, why not.
    """
    at = " and ".join(map(str, points))
    if trace.decides_on_values:
        raise UsageError("its forward branches on values that depend on its parameters: the sets could part ways there")
    _check_that_calls_are_seen(trace)
    every = [passage for point in points for passage in passages(trace, point)]
    leaves = {point: _leaves(point, [p for p in every if p.point == point]) for point in points}
    entries, exits = {node for p in every for node in p.entries}, {node for p in every for node in p.exits}
    if not side_by_side(trace, points):
        raise UsageError(f"of what is merged at {at}, something has been merged before")
    around = parameters_behind(trace.predictions.values(), stop=exits)
    inside = parameters_behind(exits, stop=entries)
    if past := [name for parameter, name in trace.embeddings.items() if parameter in around | inside]:
        raise UsageError(f"{past[0]} reaches the prediction past {at}: name a point in that branch, too")
    in_loss = parameters_behind([trace.loss], stop=exits)
    if past := [name for parameter, name in trace.embeddings.items() if parameter in in_loss]:
        raise UsageError(f"{past[0]} reaches the loss past {at}: an auxiliary loss, which would see set 0 alone")
    of_a_set, behind = parameters_behind(entries), (around | inside) - trace.linear_terms
    if both := [name for name, p in _trained(trace) if id(p) in behind & of_a_set]:
        raise UsageError(f"{both[0]} is used both before and behind {at}: no set could own it")
    of_a_set |= set(trace.embeddings)
    head = [name for name, p in _trained(trace) if id(p) in behind - of_a_set]
    if not head and not headless:
        raise UsageError(f"nothing trained lies behind {at}: no head to share; merge: logits averages logits")
    return Split(
        points=tuple(points),
        leaves=leaves,
        of_a_set=frozenset(name for name, p in _trained(trace) if id(p) in of_a_set),
        head=head,
        tasks={point: trace.leads_to([n for p in every if p.point == point for n in p.exits]) for point in points},
        hidden={
            point: all(activated(trace, n) for p in every if p.point == point for n in p.entries) for point in points
        },
    )


def _trained(trace):
    return [(name, p) for name, p in trace.model.named_parameters() if p.requires_grad]


def _leaves(point, of_point):
    """Positions of the tensors that depend on embeddings, the same in every call."""
    leaves = {passage.leaves for passage in of_point}
    if leaves in (set(), {()}):
        raise UsageError(f"nothing that depends on embeddings passes {point}")
    if len(leaves) > 1:
        raise UsageError(f"{point} is passed {len(of_point)} times, by different kinds of values")
    return leaves.pop()


def _check_that_calls_are_seen(trace):
    """A layer that is trained, but gives what has no gradient, hides from autograd what happens in it."""
    used = parameters_behind([*trace.predictions.values(), trace.loss])
    for call in trace.calls:
        own = [p for p in call.module.parameters(recurse=False) if p.requires_grad]
        if own and not any(call.outputs) and used.isdisjoint(map(id, own)):
            raise UsageError(
                f"{call.path} is called, but no prediction depends on its weights: what happens there is hidden from "
                "autograd (a checkpoint?), so that nothing can be said of its sets"
            )
