"""Modules with embedding layers under the names of FuxiCTR's models, and a walk through their tables."""

import re
from functools import partial

import torch
from fuxictr.pytorch.layers import FeatureEmbedding, FeatureEmbeddingDict, LogisticRegression
from torch import nn

from fuxictr_me import MultiEmbedding
from fuxictr_me.compat import PretrainedEmbedding

INITIALIZER = partial(nn.init.normal_, std=1e-4)


class Holder(nn.Module):
    """Modules under given names."""

    def __init__(self, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)


class FFM(nn.Module):
    """FuxiCTR's FFM: for each field one embedding layer per partner, without the field itself."""

    def __init__(self, feature_map, dim):
        super().__init__()
        self.lr_layer = LogisticRegression(feature_map)
        self.embedding_layers = nn.ModuleList(
            FeatureEmbedding(feature_map, dim) for _ in range(feature_map.num_fields - 1)
        )


def fill(model):
    """Fill all parameters with random numbers, which makes no row of a table zero."""
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    return model


def wrapped(make, num_sets):
    """Modules with the names that ``MultiEmbeddingOf`` gives: set 0 is the model itself."""
    model = make()
    model.sets = nn.ModuleDict({str(m): make() for m in range(1, num_sets)})
    return fill(model)


def walk_tables(model):
    """Find tables by walking through the modules, with no use of the names of weights.

    Returns:
        (name of the layer, field) -> (table (D, K) of each set, padding row or None, whether it is pretrained).
    """
    layers, inside_multi = {}, ()
    for path, module in model.named_modules():
        if isinstance(module, MultiEmbedding):
            inside_multi += (f"{path}.",) if path else ("",)
            layers[path] = path, [one_set.embedding_layer for one_set in module.sets]
        elif type(module) is FeatureEmbeddingDict and not path.startswith(inside_multi):
            layers[path] = path.removesuffix(".embedding_layer"), [module]
    joined = {}
    for path, (name, dicts) in layers.items():
        further_set = re.fullmatch(r"sets\.\d+\.(.+)", path)
        if further_set and further_set[1] in layers:
            joined[further_set[1]][1].extend(dicts)
        else:
            joined[path] = name, dicts
    return {key: table for name, dicts in joined.values() for key, table in _tables_of(name, dicts)}


def _tables_of(name, dicts):
    seen = set()
    for field, layer in dicts[0].embedding_layers.items():
        if isinstance(layer, nn.Embedding | PretrainedEmbedding) and id(layer) not in seen:
            seen.add(id(layer))
            is_pretrained = isinstance(layer, PretrainedEmbedding)
            padding = (layer.pretrain_embedding if is_pretrained else layer).padding_idx
            sets = [_look_up_all(embedding_dict.embedding_layers[field]) for embedding_dict in dicts]
            if max(table.shape[1] for table in sets) > 1:
                yield (name, field), (sets, padding, is_pretrained)


def _look_up_all(layer):
    weight = layer.pretrain_embedding.weight if isinstance(layer, PretrainedEmbedding) else layer.weight
    return layer(torch.arange(len(weight))).detach()


def assert_same_tables(layers, model):
    """Check that the tables in ``layers`` are those that a walk through the model finds."""
    expected = walk_tables(model)
    found = {(tables.layer, tables.field): tables for layer in layers for tables in layer.tables}
    assert found.keys() == expected.keys()
    for key, (sets, padding, is_pretrained) in expected.items():
        assert found[key].exclude == (() if padding is None else (padding,))
        assert (found[key].initializer is None) == is_pretrained
        for table, walked in zip(found[key].sets, sets, strict=True):
            torch.testing.assert_close(table, walked)
