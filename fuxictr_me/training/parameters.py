"""The trained parameters of a model, as FuxiCTR's two regularisers tell them apart."""

from typing import NamedTuple

from torch import nn
from torch.nn import Parameter

from fuxictr_me.compat import FeatureEmbeddingDict
from fuxictr_me.nn.fused_table import FusedTable


class ParameterGroups(NamedTuple):
    """The trained parameters of a model in three groups.

    Attributes:
        tables: the weights of fused tables.
        embeddings: other parameters of feature-embedding layers.
        networks: all other parameters.
    """

    tables: list[Parameter]
    embeddings: list[Parameter]
    networks: list[Parameter]


def fused_tables(model: nn.Module) -> list[FusedTable]:
    """Return the ``FusedTable`` modules of a model."""
    return [module for module in model.modules() if isinstance(module, FusedTable)]


def split_parameters(model: nn.Module) -> ParameterGroups:
    """Split the trained parameters of a model as FuxiCTR's regularisers tell them apart."""
    tables, embeddings = [table.weight for table in fused_tables(model)], {}
    for module in model.modules():
        if type(module) is FeatureEmbeddingDict:
            embeddings.update({id(p): p for p in module.parameters() if p.requires_grad})
    known = {id(p) for p in tables} | set(embeddings)
    networks = [p for p in model.parameters() if p.requires_grad and id(p) not in known]
    return ParameterGroups(tables, list(embeddings.values()), networks)


def count_parameters(model: nn.Module, count_embedding: bool = True) -> int:
    """Return the number of trained parameters, with or without those of embeddings."""
    tables, embeddings, networks = split_parameters(model)
    return sum(p.numel() for p in networks + (tables + embeddings if count_embedding else []))
