"""Weights of sets between their ranks and rank 0, where the whole model's state dict is."""

from fuxictr_me.distributed.weights import OF_SET, joined, of_no_set, of_set
from fuxictr_me.errors import UsageError


def gather_whole(state_dict, own, num_sets, ranks):
    """The whole model's state dict on the CPU of rank 0, set by set; elsewhere None.

    Args:
        state_dict (dict): of this rank.
        own (range): its sets.
        num_sets (int): M.
        ranks (Ranks)
    """
    sets = []
    for m in range(num_sets):
        owner = m % ranks.size
        if ranks.rank not in (0, owner):
            continue
        at = own.index(m) if ranks.rank == owner else 0
        tensors = of_set(state_dict, at, len(own))
        if ranks.is_first:
            tensors = {name: x.detach().cpu().clone() for name, x in tensors.items()}
            sets.append(tensors)
        if owner != 0:
            for tensor in tensors.values():
                ranks.move(tensor, source=owner, target=0)
    if not ranks.is_first:
        return None
    return joined(sets, {name: x.detach().cpu() for name, x in of_no_set(state_dict).items()})


def scatter_whole(whole, state_dict, own, num_sets, ranks, name):
    """The opposite of ``gather_whole``: fill every rank's ``state_dict`` from the whole one on rank 0.

    Args:
        whole (dict or None): on rank 0; a state dict of one machine.
        state_dict (dict): of this rank, filled in place.
        own (range), num_sets (int), ranks (Ranks)
        name (str): of the checkpoint, for messages.

    Raises:
        UsageError: ``whole`` is of another model.
    """
    ranks.on_first(lambda: _check(whole, state_dict, len(own), num_sets, name))
    for m in range(num_sets):
        owner = m % ranks.size
        if ranks.rank not in (0, owner):
            continue
        given = of_set(whole, m, num_sets) if ranks.is_first else {}
        mine = of_set(state_dict, own.index(m), len(own)) if ranks.rank == owner else {}
        for key in sorted(mine or given):
            if owner == 0:
                mine[key].copy_(given[key])
            else:
                ranks.move(given[key] if ranks.is_first else mine[key], source=0, target=owner)
    for key, tensor in sorted(of_no_set(state_dict).items()):
        if ranks.is_first:
            tensor.copy_(whole[key])
        ranks.broadcast(tensor)


def _check(whole, state_dict, num_own, num_sets, name):
    """On rank 0: every set of ``whole`` must be as the rank's first set is, and its head as the rank's head."""
    there = {int(match[2]) for key in whole if (match := OF_SET.fullmatch(key))}
    if there != set(range(num_sets)):
        raise UsageError(f"{name} does not fit this model: it is of {len(there)} sets, num_sets is {num_sets}")
    pairs = [(of_set(whole, m, num_sets), of_set(state_dict, 0, num_own)) for m in range(num_sets)]
    for given, wanted in (*pairs, (of_no_set(whole), of_no_set(state_dict))):
        given, wanted = _shapes(given), _shapes(wanted)
        for key in sorted({*given, *wanted}):
            if given.get(key) != wanted.get(key):
                raise UsageError(
                    f"{name} does not fit this model: {key} is {given.get(key, 'not there')}, "
                    f"in the model {wanted.get(key, 'not there')}"
                )


def _shapes(tensors):
    return {key: tuple(x.shape) for key, x in tensors.items()}
