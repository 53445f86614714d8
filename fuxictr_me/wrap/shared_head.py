"""Sets 1 ... M - 1 of a model: whole models, from which the head is taken out."""

import torch
from torch import nn

from fuxictr_me.compat import PretrainedEmbedding


class StandIn(nn.Module):
    """In the place of a module of the head, in sets 1 ...: set 0's, not registered here, so that it counts once.

    A set runs on into the head where several branches are merged one after the other. Nothing that is merged depends on
    it there: it gives a shape, without gradient, running statistics or dropout.

    Args:
        module (nn.Module): of set 0.
    """

    def __init__(self, module):
        super().__init__()
        self.__dict__["module"] = module

    def forward(self, *args, **kwargs):
        training = [module for module in self.module.modules() if module.training]
        for module in training:
            module.training = False
        try:
            with torch.no_grad():
                return self.module.forward(*args, **kwargs)
        finally:
            for module in training:
                module.training = True


def share_head(model, other, split, called):
    """Let ``other`` keep only what is a set's, and use ``model``'s for the rest.

    Args:
        model (nn.Module): set 0.
        other (nn.Module): another of the same class.
        split (Split)
        called (set of str): paths of the modules that a forward calls.
    """
    shared = []
    for path, module in list(model.named_modules()):
        trained = [name for name, p in module.named_parameters(prefix=path) if p.requires_grad]
        holds_a_point = any(point.path.startswith(f"{path}.") for point in split.points)
        within = any(path.startswith(f"{outer}.") for outer in shared)
        if path in called and trained and split.of_a_set.isdisjoint(trained) and not holds_a_point and not within:
            parent, _, name = path.rpartition(".")
            other.get_submodule(parent)._modules[name] = StandIn(module)
            shared.append(path)
    for name, p in list(other.named_parameters()):  # of a module that is not called, or beside a set's parameters
        if p.requires_grad and name not in split.of_a_set:
            path, _, attribute = name.rpartition(".")
            owner = other.get_submodule(path)
            del owner._parameters[attribute]
            owner.__dict__[attribute] = model.get_parameter(name)
    for path, module in model.named_modules():
        if isinstance(module, PretrainedEmbedding) and not module.pretrain_embedding.weight.requires_grad:
            other.get_submodule(path).pretrain_embedding.weight = module.pretrain_embedding.weight
