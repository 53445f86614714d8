"""The optimizer's state of a model under the names of its state dict, so that it can be cut by sets as weights are."""

import torch

from fuxictr_me.nn.embedding_sets import MultiEmbedding


def moments(model):
    """What an optimizer remembers of each parameter, e.g. Adam's ``exp_avg``, ``exp_avg_sq``, ``step``.

    Args:
        model (MultiEmbeddingModel): with its ``optimizer``.

    Returns:
        dict: name of the moment -> (name in the state dict -> Tensor). Those of a fused table are views, a set and
        field each; a number for a whole parameter, such as ``step``, stands under every name of it.
    """
    found = {}
    for name, parameter in model.named_parameters():
        for moment, value in model.optimizer.state.get(parameter, {}).items():
            if isinstance(value, torch.Tensor):
                found.setdefault(moment, {}).update(_named(model, name, value))
    return found


def make_room(model, kinds_of):
    """Give a fresh optimizer moments of zeros, to be filled.

    Args:
        model (MultiEmbeddingModel): with its ``optimizer``.
        kinds_of (callable): name in the state dict -> name of a moment -> whether it is one number a parameter.
    """
    state = model.optimizer.state_dict()
    places = {id(p): at for at, p in enumerate(p for group in model.optimizer.param_groups for p in group["params"])}
    for name, parameter in model.named_parameters():
        kinds = kinds_of(next(iter(_named(model, name, parameter))))
        state["state"][places[id(parameter)]] = {
            moment: torch.zeros(()) if is_number else torch.zeros_like(parameter) for moment, is_number in kinds.items()
        }
    state["state"] = {at: of for at, of in state["state"].items() if of}
    model.optimizer.load_state_dict(state)


def _named(model, name, value):
    """A parameter's tensor by the names of the state dict: those of a fused table are M · F."""
    if not name.endswith(".table.weight"):
        return {name: value}
    layer = model.get_submodule(name.removesuffix(".table.weight"))
    if not isinstance(layer, MultiEmbedding):
        return {name: value}
    prefix, table = name.removesuffix("table.weight"), layer.table
    return {
        f"{prefix}sets.{m}.embedding_layer.embedding_layers.{field}.weight": value[rows, columns]
        if value.ndim
        else value
        for m, columns in enumerate(table.columns)
        for field, rows in zip(table.fields, table.rows, strict=True)
    }
