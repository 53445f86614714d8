"""Build the parts of a model after its embeddings: groups of sets, interactions, projections, aggregation, head."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from fuxictr_me.config.model_options import OWN_HEADS
from fuxictr_me.errors import UsageError
from fuxictr_me.nn import SharedBySets
from fuxictr_me.nn.aggregation import build_aggregation
from fuxictr_me.nn.embedding_sets import MultiEmbedding
from fuxictr_me.nn.fusion import FUSIONS, Fusion, average_logits
from fuxictr_me.nn.head import Head, Projections, SplitMLP

InteractionMaker = Callable[[int, list[int]], Any]  # (num_sets, field_dims) -> an interaction module
JoinMaker = Callable[[int, list[int]], nn.Module]  # (number of heads, widths of the branches) -> the end of the head


class GroupModules(nn.ModuleList):
    """One module for each group of sets."""

    def forward(self, *inputs: Sequence[Any]) -> list[Any]:
        """Lists with one input for each group -> a list with one output for each group."""
        return [module(*group_inputs) for module, *group_inputs in zip(self, *inputs, strict=True)]


@dataclass
class Assembly:
    """The parts of a model after its embeddings."""

    groups: list[slice]  # sets that are computed together
    interaction: GroupModules  # for each group
    projection: GroupModules  # for each group
    aggregation: nn.Module  # see ``fuxictr_me.nn.aggregation``
    head: Head  # from the aggregated representation to the logit


def assemble(
    embedding: MultiEmbedding,
    interaction: InteractionMaker | list[InteractionMaker],
    split_mlps: Sequence[SplitMLP],
    join: JoinMaker,
    aggregation: str = "mean",
    shared: bool = False,
) -> Assembly:
    """Build interaction modules and projections for each group of sets, their aggregation, and the head.

    Args:
        embedding: the embedding sets.
        interaction: makes the interaction module; a list of M gives each set its own.
        split_mlps: the hidden layers of each branch.
        join: makes the module that ends the head.
        aggregation: one of ``AGGREGATIONS``.
        shared: use one interaction module and projection for all sets.

    Raises:
        UsageError: if sets have branches of unequal width and no projection makes them equal.
    """
    makers = interaction if isinstance(interaction, list) else [interaction] * embedding.num_sets
    groups = group_sets(makers, embedding.field_dims)
    interactions, projections, widths = GroupModules(), GroupModules(), []
    for group in groups:
        size = 1 if shared else group.stop - group.start
        module = makers[group.start](size, list(embedding.field_dims[group.start].values()))
        branches = list(zip(split_mlps, module.output_dims, strict=True))
        projection: nn.Module = Projections([mlp.build_projection(size, width) for mlp, width in branches])
        if shared:
            module, projection = (SharedBySets(part, embedding.num_sets) for part in (module, projection))
        interactions.append(module)
        projections.append(projection)
        widths.append([mlp.projection_width(width) for mlp, width in branches])
    if any(group_widths != widths[0] for group_widths in widths):
        raise UsageError(
            f"sets of dimensions {embedding.embedding_dims} give branches of widths "
            f"{' and '.join(map(str, widths))}, which no hidden layer makes equal before they are aggregated"
        )
    aggregate = build_aggregation(aggregation, embedding.num_sets, widths[0], sum(embedding.output_dims))
    num_heads = embedding.num_sets if aggregation in OWN_HEADS else 1
    copies = embedding.num_sets if aggregation == "concat" else 1
    fuse = FUSIONS.get(aggregation, average_logits)
    head = build_head(split_mlps, [copies * width for width in widths[0]], num_heads, join, fuse)
    return Assembly(groups, interactions, projections, aggregate, head)


def group_sets(makers: Sequence[InteractionMaker], field_dims: Sequence[dict[str, int]]) -> list[slice]:
    """Return slices of consecutive sets with the same interaction and dimensions."""

    def kind(m: int) -> tuple[int, tuple[int, ...]]:
        return id(makers[m]), tuple(field_dims[m].values())

    runs = (list(sets) for _, sets in itertools.groupby(range(len(makers)), key=kind))
    return [slice(sets[0], sets[-1] + 1) for sets in runs]


def build_head(
    split_mlps: Sequence[SplitMLP], widths: list[int], num_heads: int, join: JoinMaker, fuse: Fusion = average_logits
) -> Head:
    """Build the hidden layers after the aggregation, for branches of ``widths``, and the module that joins them."""
    branches = list(zip(split_mlps, widths, strict=True))
    towers = [mlp.build_tower(num_heads, width) for mlp, width in branches]
    return Head(widths, towers, join(num_heads, [mlp.tower_width(width) for mlp, width in branches]), fuse)


def check_options(
    num_sets: int, aggregation: str, nonlinear_projection: bool, shared_interaction: bool, embedding_dims: Sequence[int]
) -> None:
    """Check that options do not contradict each other.

    Raises:
        UsageError: with the reason.
    """
    if num_sets == 1:
        for option, value, plain in (
            ("aggregation", aggregation, "mean"),
            ("nonlinear_projection", nonlinear_projection, True),
            ("shared_interaction", shared_interaction, False),
        ):
            if value != plain:
                raise UsageError(f"{option}: {value} needs two sets or more, got num_sets 1")
    if not nonlinear_projection and aggregation in ("concat", *OWN_HEADS):
        raise UsageError(
            f"nonlinear_projection: False moves the activation behind the mean, but with aggregation {aggregation!r} "
            "each set would be activated by itself anyway"
        )
    if shared_interaction and len(set(embedding_dims)) > 1:
        raise UsageError(f"shared_interaction needs sets of one dimension, got {embedding_dims}")
