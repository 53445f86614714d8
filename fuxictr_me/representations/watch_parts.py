"""Record the representations of a fuxictr-me model by the parts of ŷ = head(aggregate(projection(interaction(e))))."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fuxictr_me.nn import SetLinear, SharedBySets
from fuxictr_me.nn.aggregation import Ensemble
from fuxictr_me.nn.head import Head
from fuxictr_me.representations.recorder import Recorder

EMBEDDINGS, AGGREGATED, LOGITS = "embeddings", "aggregated", "logits"


def has_parts(model: nn.Module) -> bool:
    """Return whether a model was put together by ``MultiEmbeddingModel.assemble``."""
    return isinstance(getattr(model, "head", None), Head)


def watch_parts(model: Any, recorder: Recorder) -> Iterator[RemovableHandle]:
    """Let ``recorder`` see the representations of a fuxictr-me model, and yield the handles of the hooks.

    These are the embeddings of each set, the output of the interaction and of each cross layer, each hidden layer of
    the projections, the aggregated representation, each hidden layer of the head, and the logits. A hidden layer ends
    with its activation.
    """
    watch = _Watch(recorder)
    groups = model.groups
    yield model.interaction.register_forward_pre_hook(lambda _, inputs: watch.record_embeddings(inputs[0], groups))
    for interaction, projection, group in zip(model.interaction, model.projection, groups, strict=True):
        sets = range(group.start, group.stop)
        yield from watch.follow_interaction(interaction, sets)
        inner = projection.network if isinstance(projection, SharedBySets) else projection
        yield from watch.follow_branches("projection", inner.branches, sets)
    heads = range(model.num_sets) if isinstance(model.aggregation, Ensemble) else None
    yield model.aggregation.register_forward_hook(watch.make_hook(AGGREGATED, heads))
    yield from watch.follow_branches("head", model.head.towers, heads)
    yield model.head.join.register_forward_hook(watch.make_hook(LOGITS, heads))


class _Watch:
    """Makes the hooks.

    Attributes:
        rows: B of the batch.
    """

    def __init__(self, recorder: Recorder) -> None:
        self.recorder, self.rows = recorder, 0

    def record_embeddings(self, e: list[Tensor], groups: list[slice]) -> None:
        self.rows = len(e[0])
        for of_group, group in zip(e, groups, strict=True):
            self.record(EMBEDDINGS, of_group, range(group.start, group.stop), ())

    def record(self, name: str, x: Tensor, sets: range | None, inputs: Any) -> None:
        """Record (B, M_g, ·) of the given sets, or (B, 1, ·) if None. ``SharedBySets`` folds the sets into the rows."""
        if len(x) != self.rows:
            x = x.squeeze(1).unflatten(0, (self.rows, -1))
        parts: dict[int | None, Tensor] = {None: x[:, 0]}
        if sets is not None:
            parts = {m: x[:, i] for i, m in enumerate(sets)}
        self.recorder.add(name, parts, x, inputs)

    def make_hook(self, name: str, sets: range | None) -> Callable[[nn.Module, Any, Tensor], None]:
        """Make a hook that records a module's output. Its source counts as the representation before it."""
        return lambda _, __, output: self.record(name, output, sets, ())

    def follow_interaction(self, interaction: Any, sets: range) -> Iterator[RemovableHandle]:
        """Yield the handles of hooks on the cross layers of a group of sets, and on its whole interaction."""
        network: Any = interaction.network if isinstance(interaction, SharedBySets) else interaction
        for module in network.modules():
            if hasattr(module, "layer_outputs"):
                yield module.register_forward_hook(self._make_layer_hook(sets))
        widths = network.output_dims

        def record_branches(_: nn.Module, inputs: Any, output: list[Tensor]) -> None:
            for b, (z, width) in enumerate(zip(output, widths, strict=True)):  # on a GPU zeros follow the columns
                self.record(f"interaction{_name_branch(b, len(widths))}", z[..., :width], sets, inputs)

        yield interaction.register_forward_hook(record_branches)

    def _make_layer_hook(self, sets: range) -> Callable[[Any, Any, Tensor], None]:
        def record_layers(module: Any, inputs: Any, output: Tensor) -> None:
            *earlier, _ = module.layer_outputs(*inputs)
            for layer, x in enumerate([*earlier, output], start=1):
                source = inputs if layer == 1 else ()
                self.record(f"interaction layer {layer}", x[..., : inputs[0].shape[-1]], sets, source)

        return record_layers

    def follow_branches(self, part: str, branches: Any, sets: range | None) -> Iterator[RemovableHandle]:
        """Yield the handles of hooks on the hidden layers of each branch."""
        for b, branch in enumerate(branches):
            for number, layer in enumerate(_split_into_layers(branch), start=1):
                name = f"{part} layer {number}{_name_branch(b, len(branches))}"
                yield from self._follow_layer(name, layer, sets)

    def _follow_layer(self, name: str, layer: list[nn.Module], sets: range | None) -> Iterator[RemovableHandle]:
        """Record the output of the last module of a layer, as computed from the input of the first."""
        given: list[Any] = []

        def keep(_: nn.Module, inputs: Any) -> None:
            given[:] = [inputs]

        def record(_: nn.Module, __: Any, output: Tensor) -> None:
            self.record(name, output, sets, given)
            given.clear()

        yield layer[0].register_forward_pre_hook(keep)
        yield layer[-1].register_forward_hook(record)


def _split_into_layers(branch: nn.Module) -> list[list[nn.Module]]:
    """Return the modules of each hidden layer. A layer begins with a ``SetLinear``."""
    layers: list[list[nn.Module]] = []
    for module in branch if isinstance(branch, nn.Sequential) else [branch]:
        if isinstance(module, SetLinear) or not layers:
            layers.append([])
        layers[-1].append(module)
    return [layer for layer in layers if not isinstance(layer[0], nn.Identity)]


def _name_branch(b: int, num_branches: int) -> str:
    return f" (branch {b + 1})" if num_branches > 1 else ""
