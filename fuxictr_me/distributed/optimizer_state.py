"""The optimizer's state of a model under the names of its state dict, so that it can be divided by sets as weights."""

from collections.abc import Callable

import torch
from torch import Tensor

from fuxictr_me.models import MultiEmbeddingModel
from fuxictr_me.nn.embedding_sets import MultiEmbedding


def collect_moments(model: MultiEmbeddingModel) -> dict[str, dict[str, Tensor]]:
    """Return what an optimizer remembers of each parameter, e.g. Adam's ``exp_avg``, ``exp_avg_sq``, ``step``.

    Returns:
        Name of the moment -> (name in the state dict -> tensor). Those of a fused table are views, one per set and
        field. A number for a whole parameter, such as ``step``, stands under every name of the parameter.
    """
    found: dict[str, dict[str, Tensor]] = {}
    for name, parameter in model.named_parameters():
        for moment, value in model.optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                found.setdefault(moment, {}).update(_name_views(model, name, value))
    return found


def allocate_moments(model: MultiEmbeddingModel, kinds_of: Callable[[str], dict[str, bool]]) -> None:
    """Give a fresh optimizer moments of zeros, to be filled.

    Args:
        model: with its optimizer.
        kinds_of: maps a name in the state dict to {name of a moment: whether it is one number per parameter}.
    """
    state = model.optimizer.state_dict()
    places = {id(p): i for i, p in enumerate(p for group in model.optimizer.param_groups for p in group["params"])}
    for name, parameter in model.named_parameters():
        kinds = kinds_of(next(iter(_name_views(model, name, parameter))))
        state["state"][places[id(parameter)]] = {
            moment: torch.zeros(()) if is_number else torch.zeros_like(parameter) for moment, is_number in kinds.items()
        }
    state["state"] = {i: moments for i, moments in state["state"].items() if moments}
    model.optimizer.load_state_dict(state)


def _name_views(model: MultiEmbeddingModel, name: str, value: Tensor) -> dict[str, Tensor]:
    """Return a parameter's tensor by its names in the state dict. A fused table has M · F of them."""
    if not name.endswith(".table.weight"):
        return {name: value}
    layer = model.get_submodule(name.removesuffix(".table.weight"))
    if not isinstance(layer, MultiEmbedding) or layer.table is None:
        return {name: value}
    prefix, table = name.removesuffix("table.weight"), layer.table
    return {
        f"{prefix}sets.{m}.embedding_layer.embedding_layers.{field}.weight": value[rows, columns]
        if value.ndim
        else value
        for m, columns in enumerate(table.columns)
        for field, rows in zip(table.fields, table.rows, strict=True)
    }
