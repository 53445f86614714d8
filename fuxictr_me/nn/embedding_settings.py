"""Settings of embedding sets: dimensions and initialisers."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from fuxictr_me.errors import UsageError, check_positive_int

FUXICTR_INITIALIZER = "partial(nn.init.normal_, std=1e-4)"  # the default of FuxiCTR's FeatureEmbedding
ID_TYPES = ("categorical", "sequence")  # types of fields whose values are ids, which have a table


def paper_initializer(
    features: Mapping[str, Mapping[str, Any]],
    embedding_dim: int,
    required: Sequence[str] | None = None,
    excluded: Sequence[str] | None = None,
) -> Callable[[Tensor], Tensor]:
    """Return xavier_uniform as over one table of all fields of a set, (ΣD, K) (authors' code), for each field's table.

    Args:
        features: field -> its spec in the feature map. Fields that share another's table are counted once.
        required: fields to keep; None keeps all.
        excluded: fields to leave out.
    """
    num_ids = sum(
        spec["vocab_size"]
        for field, spec in features.items()
        if spec["type"] in ID_TYPES and "share_embedding" not in spec
        if (not required or field in required) and field not in (excluded or ())
    )
    bound = (6 / (num_ids + embedding_dim)) ** 0.5
    return partial(nn.init.uniform_, a=-bound, b=bound)


def resolve_embedding_dims(embedding_dim: int | Sequence[int], num_sets: int | None) -> list[int]:
    """Return K of each of the M sets.

    Args:
        embedding_dim: one K for all sets, or one for each.
        num_sets: M; None uses the length of the list.

    Raises:
        UsageError: if a number is not a positive integer, or the length of the list is not M.
    """
    if not isinstance(embedding_dim, list | tuple):
        return [check_positive_int("embedding_dim", embedding_dim)] * check_positive_int("num_sets", num_sets)
    dims = [check_positive_int("each of embedding_dim", dim) for dim in embedding_dim]
    if not dims or num_sets not in (None, len(dims)):
        raise UsageError(f"embedding_dim {list(dims)} names {len(dims)} sets, num_sets is {num_sets}")
    return dims
