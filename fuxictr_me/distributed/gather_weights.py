"""Weights between the ranks that hold them and rank 0, which has the whole model's state dict."""

from collections.abc import Mapping
from types import EllipsisType
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fuxictr_me.distributed.engines import Engine
from fuxictr_me.distributed.sharded_table import Shard, find_shards
from fuxictr_me.distributed.weights_by_set import SET_KEY, join_sets, select_shared, slice_set
from fuxictr_me.errors import UsageError

if TYPE_CHECKING:
    from fuxictr_me.distributed.distributed_model import DistributedModel


def gather_state_dict(model: "DistributedModel") -> dict[str, Tensor] | None:
    """Return the whole model's state dict on the CPU of rank 0, gathered set by set; None on other ranks."""
    ranks, shards, state_dict, sets = model.ranks, find_shards(model), model.state_dict(), []
    for m in range(model.all_sets):
        whole: dict[str, Tensor] = {}
        for name, tensor in _template_of_set(model, state_dict, m):
            shard = shards.get(name)
            if ranks.is_first:
                whole[name] = torch.empty(_whole_shape(tensor, shard), dtype=tensor.dtype)
            for rank, rows in _find_holders(model.engine, m, shard)[: None if shard else 1]:
                if ranks.rank == rank == 0:
                    whole[name][rows] = tensor.detach().cpu()
                elif ranks.rank == rank:
                    ranks.send(tensor, rank, 0)
                elif ranks.is_first:
                    whole[name][rows] = ranks.send(torch.empty_like(whole[name][rows]), rank, 0)
        sets.append(whole)
    if not ranks.is_first:
        return None
    return join_sets(sets, {name: x.detach().cpu() for name, x in select_shared(state_dict).items()})


def scatter_state_dict(whole: dict[str, Tensor] | None, model: "DistributedModel", checkpoint: object) -> None:
    """Invert ``gather_state_dict``: fill the weights of every rank from the whole state dict on rank 0.

    Args:
        whole: on rank 0, a state dict of one machine; None on other ranks.
        model: this rank's part.
        checkpoint: name of the file, for messages.

    Raises:
        UsageError: ``whole`` belongs to another model.
    """
    ranks, shards, state_dict = model.ranks, find_shards(model), model.state_dict()
    weights = whole or {}
    ranks.run_on_first(lambda: _check_fit(weights, model, state_dict, shards, checkpoint))
    for m in range(model.all_sets):
        given = slice_set(weights, m, model.all_sets)
        for key, tensor in _template_of_set(model, state_dict, m):
            for rank, rows in _find_holders(model.engine, m, shards.get(key)):
                if ranks.rank == rank == 0:
                    tensor.copy_(given[key][rows])
                elif ranks.rank == rank:
                    ranks.send(tensor, 0, rank)
                elif ranks.is_first:
                    ranks.send(given[key][rows], 0, rank)
    for key, tensor in sorted(select_shared(state_dict).items()):
        if ranks.is_first:
            tensor.copy_(weights[key])
        ranks.broadcast(tensor)


def _template_of_set(model: "DistributedModel", state_dict: dict[str, Tensor], m: int) -> list[tuple[str, Tensor]]:
    """Return this rank's tensors of set ``m``, or of one of its own sets if another group has set ``m``, sorted."""
    i = model.own_sets.index(m) if m in model.own_sets else 0
    return sorted(slice_set(state_dict, i, len(model.own_sets)).items())


def _find_holders(engine: Engine, m: int, shard: Shard | None) -> list[tuple[int, slice | EllipsisType]]:
    """Return (rank, index of its rows) for all ranks that hold a tensor of set ``m``."""
    first = m % engine.groups * engine.members
    return [(first + g, shard.ids(g) if shard else ...) for g in range(engine.members)]


def _whole_shape(tensor: Tensor, shard: Shard | None) -> tuple[int, ...]:
    return (shard.size, *tensor.shape[1:]) if shard else tuple(tensor.shape)


def _check_fit(
    whole: dict[str, Tensor],
    model: "DistributedModel",
    state_dict: dict[str, Tensor],
    shards: Mapping[str, Shard],
    checkpoint: object,
) -> None:
    """Check on rank 0 that every set of ``whole`` has the shapes of the rank's first set, and the head those of its."""
    found, num_sets = {int(match[2]) for key in whole if (match := SET_KEY.fullmatch(key))}, model.all_sets
    if found != set(range(num_sets)):
        raise UsageError(f"{checkpoint} does not fit this model: it is of {len(found)} sets, num_sets is {num_sets}")
    own = slice_set(state_dict, 0, len(model.own_sets))
    pairs = [(slice_set(whole, m, num_sets), own) for m in range(num_sets)]
    for given, wanted in (*pairs, (select_shared(whole), select_shared(state_dict))):
        shapes = {key: tuple(x.shape) for key, x in given.items()}
        expected = {key: _whole_shape(x, shards.get(key)) for key, x in wanted.items()}
        for key in sorted({*shapes, *expected}):
            if shapes.get(key) != expected.get(key):
                raise UsageError(
                    f"{checkpoint} does not fit this model: {key} is {shapes.get(key, 'missing')}, "
                    f"in the model {expected.get(key, 'missing')}"
                )
