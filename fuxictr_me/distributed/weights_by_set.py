"""The state dict of a model, by sets: between one machine and ranks that hold some sets each.

In our models' state dicts a set owns its embedding layers, ``embedding_layer.sets.m.…`` (in FinalMLP
``contexts.i.sets.m.…`` too), and the m-th of M equal parts of every tensor of ``interaction`` and ``projection``: of
weights (M, …), of channels (M·H,). A counter is one number, the same in all sets. The rest, the head, belongs to none.

All functions return views, not copies, where they can.
"""

import re

import torch

OF_SET = re.compile(r"((?:embedding_layer|contexts\.\d+)\.sets)\.(\d+)\.(.+)")
STACKED = ("interaction.", "projection.")
OWNED = ("embedding_layer.", "contexts.", *STACKED)


def of_set(tensors, m, num_sets):
    """What set ``m`` of ``num_sets`` owns, under the names that it has in a model of one set.

    Args:
        tensors (dict): name -> Tensor, a state dict or what is shaped like parts of it.
        m (int), num_sets (int)

    Returns:
        dict: name -> Tensor.
    """
    own = {}
    for name, tensor in tensors.items():
        if match := OF_SET.fullmatch(name):
            if int(match[2]) == m:
                own[f"{match[1]}.0.{match[3]}"] = tensor
        elif name.startswith(STACKED):
            own[name] = tensor.chunk(num_sets)[m] if tensor.ndim else tensor
    return own


def of_no_set(tensors):
    """What all sets share: the head, a linear term."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(OWNED)}


def joined(sets, shared):
    """The opposite of ``of_set`` and ``of_no_set``.

    Args:
        sets (list of dict): of each set, in order.
        shared (dict): what no set owns.

    Returns:
        dict: name -> Tensor; stacks are new tensors.
    """
    whole = {}
    for name in sets[0]:
        if match := OF_SET.fullmatch(name):
            whole |= {f"{match[1]}.{m}.{match[3]}": one[name] for m, one in enumerate(sets)}
        else:
            whole[name] = torch.cat([one[name] for one in sets]) if sets[0][name].ndim else sets[0][name]
    return whole | shared


def to_rank(state_dict, own, num_sets):
    """The state dict of the rank that owns the sets ``own`` (iterable of int) of ``num_sets``, out of the whole."""
    return joined([of_set(state_dict, m, num_sets) for m in own], of_no_set(state_dict))


def to_whole(parts):
    """The state dict of one machine.

    Args:
        parts (list): (own, state dict) of each rank; the head is taken from the first.

    Returns:
        dict: name -> Tensor.
    """
    sets = {m: of_set(part, at, len(own)) for own, part in parts for at, m in enumerate(own)}
    return joined([sets[m] for m in range(len(sets))], of_no_set(parts[0][1]))
