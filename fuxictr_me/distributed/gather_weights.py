"""Weights between the ranks that have them and rank 0, where the whole model's state dict is."""

import torch

from fuxictr_me.distributed.sharded_table import shards_of
from fuxictr_me.distributed.weights_by_set import OF_SET, joined, of_no_set, of_set
from fuxictr_me.errors import UsageError


def gather_whole(model):
    """The whole model's state dict on the CPU of rank 0, set by set; elsewhere None.

    Args:
        model (Distributed)
    """
    ranks, shards, state_dict, sets = model.ranks, shards_of(model), model.state_dict(), []
    for m in range(model.all_sets):
        whole = {}
        for name, tensor in _of_set_or_like(model, state_dict, m):
            shard = shards.get(name)
            if ranks.is_first:
                whole[name] = torch.empty(_whole_shape(tensor, shard), dtype=tensor.dtype)
            for rank, rows in _holders(model.engine, m, shard)[: None if shard else 1]:
                if ranks.rank == rank == 0:
                    whole[name][rows] = tensor.detach().cpu()
                elif ranks.rank == rank:
                    ranks.move(tensor, rank, 0)
                elif ranks.is_first:
                    whole[name][rows] = ranks.move(torch.empty_like(whole[name][rows]), rank, 0)
        sets.append(whole)
    if not ranks.is_first:
        return None
    return joined(sets, {name: x.detach().cpu() for name, x in of_no_set(state_dict).items()})


def scatter_whole(whole, model, name):
    """The opposite of ``gather_whole``: fill the weights of every rank from the whole state dict on rank 0.

    Args:
        whole (dict or None): on rank 0; a state dict of one machine.
        model (Distributed)
        name (str): of the checkpoint, for messages.

    Raises:
        UsageError: ``whole`` is of another model.
    """
    ranks, shards, state_dict = model.ranks, shards_of(model), model.state_dict()
    ranks.on_first(lambda: _check(whole, model, state_dict, shards, name))
    for m in range(model.all_sets):
        given = of_set(whole, m, model.all_sets) if ranks.is_first else {}
        for key, tensor in _of_set_or_like(model, state_dict, m):
            for rank, rows in _holders(model.engine, m, shards.get(key)):
                if ranks.rank == rank == 0:
                    tensor.copy_(given[key][rows])
                elif ranks.rank == rank:
                    ranks.move(tensor, 0, rank)
                elif ranks.is_first:
                    ranks.move(given[key][rows], 0, rank)
    for key, tensor in sorted(of_no_set(state_dict).items()):
        if ranks.is_first:
            tensor.copy_(whole[key])
        ranks.broadcast(tensor)


def _of_set_or_like(model, state_dict, m):
    """What this rank has of set ``m``, or, if that is another group's, of a set of its own: (name, Tensor), sorted."""
    at = model.own.index(m) if m in model.own else 0
    return sorted(of_set(state_dict, at, len(model.own)).items())


def _holders(engine, m, shard):
    """(rank, index of its rows) of all ranks that hold a tensor of set ``m``."""
    first = m % engine.groups * engine.members
    return [(first + g, shard.ids(g) if shard else ...) for g in range(engine.members)]


def _whole_shape(tensor, shard):
    return (shard.size, *tensor.shape[1:]) if shard else tuple(tensor.shape)


def _check(whole, model, state_dict, shards, name):
    """On rank 0: every set of ``whole`` must be as the rank's first set is, and its head as the rank's head."""
    there, num_sets = {int(match[2]) for key in whole if (match := OF_SET.fullmatch(key))}, model.all_sets
    if there != set(range(num_sets)):
        raise UsageError(f"{name} does not fit this model: it is of {len(there)} sets, num_sets is {num_sets}")
    pairs = [(of_set(whole, m, num_sets), of_set(state_dict, 0, len(model.own))) for m in range(num_sets)]
    for given, wanted in (*pairs, (of_no_set(whole), of_no_set(state_dict))):
        given = {key: tuple(x.shape) for key, x in given.items()}
        wanted = {key: _whole_shape(x, shards.get(key)) for key, x in wanted.items()}
        for key in sorted({*given, *wanted}):
            if given.get(key) != wanted.get(key):
                raise UsageError(
                    f"{name} does not fit this model: {key} is {given.get(key, 'not there')}, "
                    f"in the model {wanted.get(key, 'not there')}"
                )
