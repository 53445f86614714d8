"""The fields of each embedding set in groups, each with an interaction module of its own."""

import itertools
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from fuxictr_me.errors import UsageError


class FieldGroups:
    """The fields of every set, in random order, divided into T groups of almost equal size.

    This carries RankUp's "randomized permutation splitting" (arXiv 2604.17878) over to multi-embedding. RankUp orders
    its sparse fields at random, divides them evenly, and makes one token of the embeddings of each part. The aim is
    tokens that depend less on each other than tokens of related fields. Here a part gets an interaction module and a
    projection of its own in place of a token, and its representation is aggregated with those of all other parts and
    sets. RankUp's layers that mix tokens have no counterpart: fields of different groups meet in the head only.

    This follows the paper's abstract and a published summary of its section, which says that the paper leaves open when
    the permutation is drawn. Here it is fixed, and each set has its own, so that the sets group the fields differently.
    Merely exchanging which set's embedding of a field goes to which interaction module would change nothing, because it
    only renames embeddings.

    Args:
        field_dims: for each set, field -> width of its embedding.
        num_groups: T.
        seed: of the permutations; None keeps the order of the feature map in every set.

    Attributes:
        sets: each set by itself.
        parts: (set, positions of the fields of one group), M·T of them, the first group of every set first.
        field_dims: for each part, field -> width.

    Raises:
        UsageError: if a group would have fewer than two fields, between which there is no interaction.
    """

    def __init__(self, field_dims: Sequence[dict[str, int]], num_groups: int, seed: int | None) -> None:
        num_fields = len(field_dims[0])
        if num_groups > num_fields // 2:
            raise UsageError(
                f"field_groups: {num_groups} needs two fields or more in every group, got {num_fields} fields in all"
            )
        self._widths = [list(dims.values()) for dims in field_dims]
        sets = range(len(field_dims))
        self.sets = [slice(m, m + 1) for m in sets]
        orders = [list(range(num_fields)) if seed is None else permute(num_fields, seed, m) for m in sets]
        size, larger = divmod(num_fields, num_groups)  # the first groups have one field more
        starts = [size * t + min(t, larger) for t in range(num_groups + 1)]
        self.parts = [(m, orders[m][a:b]) for a, b in itertools.pairwise(starts) for m in sets]
        names = list(field_dims[0])
        self.field_dims = [{names[f]: self._widths[m][f] for f in fields} for m, fields in self.parts]

    def __call__(self, e: Sequence[Tensor], groups: Sequence[slice]) -> list[Tensor]:
        """Arrange the embeddings of all sets by parts.

        Args:
            e: (B, 1, ΣK) for each set.
            groups: parts that are computed together.

        Returns:
            (B, parts of the group, ΣK of a part) for each group.
        """
        by_field = [z.squeeze(1).split(widths, dim=-1) for z, widths in zip(e, self._widths, strict=True)]
        parts = [torch.cat([by_field[m][f] for f in fields], dim=-1) for m, fields in self.parts]
        return [torch.stack(parts[group]).transpose(0, 1) for group in groups]


def permute(num_fields: int, seed: int, m: int) -> list[int]:
    """Return the permutation of set ``m``, which is the same in every version of Python, so that checkpoints fit."""
    generator = random.Random(seed * 1_000_003 + m)  # noqa: S311 - no secret
    keys = [generator.random() for _ in range(num_fields)]
    return sorted(range(num_fields), key=keys.__getitem__)
