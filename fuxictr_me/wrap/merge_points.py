"""Merge points of a model: named by the user, and checked against the trace of a batch."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from fuxictr_me.config.model_options import check_merge
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.wrap.autograd_graph import Node, find_nodes_behind, find_parameters_behind
from fuxictr_me.wrap.trace import Trace


@dataclass(frozen=True)
class MergePoint:
    """A place in a forward pass: ``>fc`` is the input of the module ``fc``, ``fc>`` its output."""

    path: str  # of the module
    side: str  # ``"input"`` or ``"output"``

    def __str__(self) -> str:
        return f">{self.path}" if self.side == "input" else f"{self.path}>"


@dataclass(frozen=True)
class ModelSplit:
    """Division of a model into the part that each set has and the head that exists once."""

    points: tuple[MergePoint, ...]  # where the sets are merged
    leaves: dict[MergePoint, tuple[int, ...]]  # point -> positions of its tensors that depend on embeddings
    set_parameters: frozenset[str]  # names of the trained parameters of a set
    head_parameters: list[str]  # names of the trained parameters behind the points
    tasks: dict[MergePoint, list[str]]  # point -> names of the predictions that depend on it
    hidden: dict[MergePoint, bool]  # point -> whether the merged value is the output of a hidden layer's activation


def parse_merge(merge: str | Sequence[str], trace: Trace) -> list[MergePoint]:
    """Return the merge points that a user names.

    Args:
        merge: ``">fc"``, ``"crossnet>"``, ``"dnn"`` (behind the first hidden layer in it), or ``"logits"``; a list if
            several branches meet.

    Raises:
        UsageError: if there is no such module, or the forward does not call it.
    """
    if merge == "logits":
        return _find_logits(trace)
    check_merge(merge)
    return [_parse_point(name.replace(" ", ""), trace) for name in ([merge] if isinstance(merge, str) else merge)]


def _parse_point(name: str, trace: Trace) -> MergePoint:
    path = name.strip(">")
    try:
        module = trace.model.get_submodule(path)
    except AttributeError:
        raise unknown("module in merge", path, {call.path for call in trace.calls}) from None
    paths = [call.path for call in trace.calls if call.module is module]
    if not paths:
        raise UsageError(f"merge: {name}: the forward of {type(trace.model).__name__} does not call this module")
    path = paths[0]  # the module's first name if it has two
    if name.startswith(">") or name.endswith(">"):
        return MergePoint(path, "input" if name.startswith(">") else "output")
    for call in trace.calls:
        entries = [node for node in call.inputs if trace.depends_on_embeddings(node)]
        is_inside = call.path.startswith(f"{path}.") and isinstance(call.module, nn.Linear)
        if is_inside and entries and all(map(trace.follows_activation, entries)):
            return MergePoint(call.path, "input")
    return MergePoint(path, "input")


def _find_logits(trace: Trace) -> list[MergePoint]:
    called = dict.fromkeys(call.path for call in trace.calls if call.path.split(".")[0] == "output_activation")
    if not called:
        raise UsageError(
            f"merge: logits is the input of output_activation, which {type(trace.model).__name__} does not call: "
            "name a module"
        )
    return [MergePoint(path, "input") for path in called]


@dataclass(frozen=True)
class Passage:
    """One call of the module of a merge point."""

    point: MergePoint
    entries: tuple[Node, ...]  # nodes of the values that depend on embeddings and are merged there
    exits: tuple[Node, ...]  # nodes of the module's output
    leaves: tuple[int, ...]  # positions of the entries among the tensors that pass


def list_passages(trace: Trace, points: Sequence[MergePoint]) -> list[Passage]:
    """Return every call of the modules of ``points``."""
    passages = []
    for point in points:
        for call in trace.calls:
            if call.path == point.path:
                passing = call.inputs if point.side == "input" else call.outputs
                leaves = tuple(i for i, node in enumerate(passing) if trace.depends_on_embeddings(node))
                exits = tuple(node for node in call.outputs if node is not None)
                passages.append(Passage(point, tuple(passing[i] for i in leaves), exits, leaves))
    return passages


def is_merged_once(trace: Trace, points: Sequence[MergePoint]) -> bool:
    """Return whether no merged value depends on a value that was merged at another point or in another call."""
    passages = list_passages(trace, points)
    behind = [find_nodes_behind(passage.entries) for passage in passages]
    pairs = ((a, b) for a in range(len(passages)) for b in range(len(passages)) if a != b)
    return all(behind[b].isdisjoint(passages[a].exits) for a, b in pairs)


def split_model(trace: Trace, points: Sequence[MergePoint], headless: bool = False) -> ModelSplit:
    """Check that a model can be merged at ``points``, and separate the sets from the head.

    A trained parameter belongs to a set if a merged value depends on it. Embeddings always belong to a set.

    Args:
        points: where the sets are merged.
        headless: whether the part behind the points may have no trained parameter, as with ``merge: logits``.

    Raises:
        UsageError: with the reason why the model cannot be merged there.
    """
    at = " and ".join(map(str, points))
    if trace.decides_on_values:
        raise UsageError("its forward branches on values that depend on its parameters: the sets could part ways there")
    _check_that_calls_are_seen(trace)
    passages = list_passages(trace, points)
    by_point = {point: [p for p in passages if p.point == point] for point in points}
    leaves = {point: _find_leaves(point, by_point[point]) for point in points}
    entries, exits = {node for p in passages for node in p.entries}, {node for p in passages for node in p.exits}
    if not is_merged_once(trace, points):
        raise UsageError(f"a value that is merged at {at} depends on one that was merged before")
    around = find_parameters_behind(trace.predictions.values(), stop=exits)
    inside = find_parameters_behind(exits, stop=entries)
    if past := [name for parameter, name in trace.embeddings.items() if parameter in around | inside]:
        raise UsageError(f"{past[0]} reaches the prediction past {at}: name a point in that branch, too")
    in_loss = find_parameters_behind([trace.loss], stop=exits)
    if past := [name for parameter, name in trace.embeddings.items() if parameter in in_loss]:
        raise UsageError(f"{past[0]} reaches the loss past {at}: an auxiliary loss would see only set 0")
    before, behind = find_parameters_behind(entries), (around | inside) - trace.linear_terms
    trained = [(name, id(p)) for name, p in trace.model.named_parameters() if p.requires_grad]
    if both := [name for name, p in trained if p in behind & before]:
        raise UsageError(f"{both[0]} is used both before and behind {at}: it would belong to a set and to the head")
    before |= set(trace.embeddings)
    head = [name for name, p in trained if p in behind - before]
    if not head and not headless:
        raise UsageError(f"nothing trained lies behind {at}: no head to share; merge: logits averages logits")
    return ModelSplit(
        points=tuple(points),
        leaves=leaves,
        set_parameters=frozenset(name for name, p in trained if p in before),
        head_parameters=head,
        tasks={point: trace.predictions_from(n for p in by_point[point] for n in p.exits) for point in points},
        hidden={
            point: all(trace.follows_activation(n) for p in by_point[point] for n in p.entries) for point in points
        },
    )


def _find_leaves(point: MergePoint, passages: Sequence[Passage]) -> tuple[int, ...]:
    """Return the positions of the tensors that depend on embeddings, which must be the same in every call."""
    leaves = {passage.leaves for passage in passages}
    if leaves in (set(), {()}):
        raise UsageError(f"nothing that depends on embeddings passes {point}")
    if len(leaves) > 1:
        raise UsageError(f"{point} is passed {len(passages)} times, by different kinds of values")
    return leaves.pop()


def _check_that_calls_are_seen(trace: Trace) -> None:
    """Check that no trained layer is called whose output has no gradient, because autograd does not see inside it."""
    used = find_parameters_behind([*trace.predictions.values(), trace.loss])
    for call in trace.calls:
        own = [p for p in call.module.parameters(recurse=False) if p.requires_grad]
        if own and not any(call.outputs) and used.isdisjoint(map(id, own)):
            raise UsageError(
                f"{call.path} is called, but no prediction depends on its weights: what happens there is hidden from "
                "autograd (a checkpoint?), so its sets cannot be determined"
            )
