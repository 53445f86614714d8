"""The state dict of a model divided by sets, to convert between one machine and ranks that hold some sets each.

In the state dicts of fuxictr-me's models a set owns its embedding layers, ``embedding_layer.sets.m.…`` (in FinalMLP
``contexts.i.sets.m.…`` too), and the m-th of M equal parts of every tensor of ``interaction`` and ``projection``:
weights are (M, …), channels (M·H,). A counter is one number, the same in all sets. All other tensors, those of the
head, belong to no set.

All functions return views instead of copies if they can.
"""

import re

import torch
from torch import Tensor

SET_KEY = re.compile(r"((?:embedding_layer|contexts\.\d+)\.sets)\.(\d+)\.(.+)")
STACKED = ("interaction.", "projection.")
OWNED = ("embedding_layer.", "contexts.", *STACKED)


def slice_set(tensors: dict[str, Tensor], m: int, num_sets: int) -> dict[str, Tensor]:
    """Return what set ``m`` of ``num_sets`` owns, under the names that it has in a model of one set.

    Args:
        tensors: name -> tensor, a state dict or tensors shaped like parts of it.
    """
    found = {}
    for name, tensor in tensors.items():
        if match := SET_KEY.fullmatch(name):
            if int(match[2]) == m:
                found[f"{match[1]}.0.{match[3]}"] = tensor
        elif name.startswith(STACKED):
            found[name] = tensor.chunk(num_sets)[m] if tensor.ndim else tensor
    return found


def select_shared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what all sets share: the head, a linear term."""
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(OWNED)}


def join_sets(sets: list[dict[str, Tensor]], shared: dict[str, Tensor]) -> dict[str, Tensor]:
    """Invert ``slice_set`` and ``select_shared``.

    Args:
        sets: what each set owns, in order.
        shared: what no set owns.

    Returns:
        name -> tensor. Stacked tensors are new.
    """
    whole: dict[str, Tensor] = {}
    for name in sets[0]:
        if match := SET_KEY.fullmatch(name):
            whole |= {f"{match[1]}.{m}.{match[3]}": one[name] for m, one in enumerate(sets)}
        else:
            whole[name] = torch.cat([one[name] for one in sets]) if sets[0][name].ndim else sets[0][name]
    return whole | shared
