"""Share the head of a model: sets 1 … M - 1 are whole models whose head is replaced with that of set 0."""

from collections.abc import Container
from typing import Any

import torch
from torch import nn

from fuxictr_me.compat import PretrainedEmbedding
from fuxictr_me.wrap.merge_points import ModelSplit


class StandIn(nn.Module):
    """Calls a module of set 0's head in its place in another set. It is not registered here, so that it counts once.

    A set runs into the head if several branches are merged one after the other. No merged value depends on its output
    there, so it provides only a shape, without gradient, running statistics or dropout.

    Args:
        module: of set 0.
    """

    module: nn.Module

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.__dict__["module"] = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Return what the module returns in evaluation mode."""
        training = [module for module in self.module.modules() if module.training]
        for module in training:
            module.training = False
        try:
            with torch.no_grad():
                return self.module.forward(*args, **kwargs)
        finally:
            for module in training:
                module.training = True


def share_head(model: nn.Module, other: nn.Module, split: ModelSplit, called: Container[str]) -> None:
    """Replace everything in ``other`` that does not belong to a set with that of ``model``.

    Args:
        model: set 0.
        other: another set, of the same class.
        split: which parameters belong to a set.
        called: paths of the modules that a forward calls.
    """
    shared: list[str] = []
    for path, module in list(model.named_modules()):
        trained = [name for name, p in module.named_parameters(prefix=path) if p.requires_grad]
        holds_a_point = any(point.path.startswith(f"{path}.") for point in split.points)
        is_within = any(path.startswith(f"{outer}.") for outer in shared)
        if path in called and trained and split.set_parameters.isdisjoint(trained) and not (holds_a_point or is_within):
            parent, _, name = path.rpartition(".")
            other.get_submodule(parent)._modules[name] = StandIn(module)
            shared.append(path)
    # parameters of a module that is not called, and those beside a set's parameters in one module
    for name, p in list(other.named_parameters()):
        if p.requires_grad and name not in split.set_parameters:
            path, _, attribute = name.rpartition(".")
            owner = other.get_submodule(path)
            del owner._parameters[attribute]
            owner.__dict__[attribute] = model.get_parameter(name)
    for path, embedding in model.named_modules():
        if isinstance(embedding, PretrainedEmbedding) and not embedding.pretrain_embedding.weight.requires_grad:
            table: Any = other.get_submodule(path)
            table.pretrain_embedding.weight = embedding.pretrain_embedding.weight
