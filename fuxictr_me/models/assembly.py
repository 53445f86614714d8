"""How a model is put together behind its embeddings: groups of sets, projections, aggregation, head."""

import itertools
from dataclasses import dataclass

from torch import nn

from fuxictr_me.errors import UsageError
from fuxictr_me.nn import SharedBySets
from fuxictr_me.nn.aggregation import build_aggregation
from fuxictr_me.nn.head import Head, Projections


class EachGroup(nn.ModuleList):
    """A module for each group of sets."""

    def forward(self, *inputs):
        """Lists of one input a group -> a list of one output a group."""
        return [module(*of_group) for module, *of_group in zip(self, *inputs, strict=True)]


@dataclass
class Assembly:
    """The parts of a model.

    Attributes:
        groups (list of slice): sets that are computed together.
        interaction, projection (EachGroup)
        aggregation (nn.Module): see ``fuxictr_me.nn.aggregation``.
        head (Head)
    """

    groups: list
    interaction: EachGroup
    projection: EachGroup
    aggregation: nn.Module
    head: Head


def assemble(embedding, interaction, cuts, join, aggregation="mean", shared=False):
    """Build interaction modules and projections for each group of sets, and the head behind their aggregation.

    Args:
        embedding (MultiEmbedding)
        interaction (callable, or a list of M): (num_sets, field_dims) -> an interaction module.
        cuts (list of SplitMLP): the hidden layers of each branch.
        join (callable): (number of heads, widths of the branches) -> the module that ends the head.
        aggregation (str): one of ``AGGREGATIONS``.
        shared (bool): one interaction module and projection for all sets.

    Returns:
        Assembly

    Raises:
        UsageError: branches of unequal width that nothing projects.
    """
    makers = interaction if isinstance(interaction, list) else [interaction] * embedding.num_sets
    groups = group_sets(makers, embedding.field_dims)
    interactions, projections, widths = EachGroup(), EachGroup(), []
    for group in groups:
        size = 1 if shared else group.stop - group.start
        crossing = makers[group.start](size, list(embedding.field_dims[group.start].values()))
        inputs = list(zip(cuts, crossing.output_dims, strict=True))
        projecting = Projections([cut.build_projection(size, width) for cut, width in inputs])
        if shared:
            crossing, projecting = (SharedBySets(part, embedding.num_sets) for part in (crossing, projecting))
        interactions.append(crossing)
        projections.append(projecting)
        widths.append([cut.projection_width(width) for cut, width in inputs])
    if any(of_group != widths[0] for of_group in widths):
        raise UsageError(
            f"sets of dimensions {embedding.embedding_dims} give branches of widths "
            f"{' and '.join(map(str, widths))}, which no hidden layer makes equal before they are aggregated"
        )
    aggregating = build_aggregation(aggregation, embedding.num_sets, widths[0], sum(embedding.output_dims))
    heads = embedding.num_sets if aggregation == "ensemble" else 1
    copies = embedding.num_sets if aggregation == "concat" else 1
    head = build_head(cuts, [copies * width for width in widths[0]], heads, join)
    return Assembly(groups, interactions, projections, aggregating, head)


def group_sets(makers, field_dims):
    """Slices of sets that follow one another and are alike in interaction and dimensions."""

    def alike(m):
        return id(makers[m]), tuple(field_dims[m].values())

    runs = (list(sets) for _, sets in itertools.groupby(range(len(makers)), key=alike))
    return [slice(sets[0], sets[-1] + 1) for sets in runs]


def build_head(cuts, widths, num_heads, join):
    """The hidden layers behind the cuts, for branches of ``widths``, and what joins them."""
    inputs = list(zip(cuts, widths, strict=True))
    towers = [cut.build_tower(num_heads, width) for cut, width in inputs]
    return Head(widths, towers, join(num_heads, [cut.tower_width(width) for cut, width in inputs]))


def check_options(num_sets, aggregation, nonlinear_projection, shared_interaction, embedding_dims):
    """Refuse options that mean nothing together.

    Raises:
        UsageError: one line that gives the reason.
    """
    if num_sets == 1:
        for option, value, plain in (
            ("aggregation", aggregation, "mean"),
            ("nonlinear_projection", nonlinear_projection, True),
            ("shared_interaction", shared_interaction, False),
        ):
            if value != plain:
                raise UsageError(f"{option}: {value} needs two sets or more, got num_sets 1")
    if not nonlinear_projection and aggregation in ("concat", "ensemble"):
        raise UsageError(
            f"nonlinear_projection: False is about what is averaged; with aggregation {aggregation!r} each set "
            "would be activated by itself all the same"
        )
    if shared_interaction and len(set(embedding_dims)) > 1:
        raise UsageError(f"shared_interaction needs sets of one dimension, got {embedding_dims}")
