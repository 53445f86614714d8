"""The embedding tables in a model, ours or any of FuxiCTR's."""

import itertools
from dataclasses import dataclass

import torch

from fuxictr_me.collapse.spectrum import abundance, abundance_by_gram, gram_matrix, triangular_factor
from fuxictr_me.compat import FeatureEmbeddingDict, PretrainedEmbedding
from fuxictr_me.nn.embedding_sets import MultiEmbedding, id_tables
from fuxictr_me.nn.fused_table import given_initializer
from fuxictr_me.tables.checkpoint_keys import of_set_0


@dataclass(frozen=True)
class FieldTables:
    """The tables of one field in one embedding layer.

    Attributes:
        layer (str): where the layer is in the model, e.g. ``embedding_layer``.
        field (str): the feature field.
        sets (list of Tensor): M tables (D, K), one a set; of a ``MultiEmbedding`` in a model by ``MultiEmbeddingOf``
            those of set 0 of the model first.
        exclude (tuple of int): rows that are no ids: the padding row.
        initializer (callable or None): what the tables started from; None where that was pretrained.
    """

    layer: str
    field: str
    sets: list
    exclude: tuple
    initializer: object

    @property
    def num_ids(self):
        """D, without the rows that are no ids."""
        return len(self.sets[0]) - len(self.exclude)

    @property
    def dims(self):
        """K of each set."""
        return [table.shape[1] for table in self.sets]

    def ceiling(self, dim):
        """min(K, D), the most that IA can be at ``dim`` columns."""
        return min(dim, self.num_ids)


def field_tables(model):
    """Find the embedding tables of a model by walking its feature-embedding layers.

    Left out, because IA says nothing there: numeric fields, ``embedding`` fields, and tables of dimension
    1 (the linear terms of wide models).

    Args:
        model (nn.Module): ours or any FuxiCTR model.

    Returns:
        list of FieldTables
    """
    layers, inside_multi = {}, ()
    for path, module in model.named_modules():
        if isinstance(module, MultiEmbedding):
            inside_multi += (f"{path}.",) if path else ("",)
            layers[path] = path, module.sets[0].embedding_layer, module.tables()
        elif type(module) is FeatureEmbeddingDict and not path.startswith(inside_multi):
            tables = {field: [table] for field, table in id_tables(module).items()}
            layers[path] = path.removesuffix(".embedding_layer"), module, tables
    sets = {}
    for path, layer in layers.items():
        path_in_set_0, m = of_set_0(path, layers)
        sets.setdefault(path_in_set_0, {})[m] = layer
    found = [tables for numbered in sets.values() for tables in _of_sets([numbered[m] for m in sorted(numbered)])]
    return [tables for tables in found if max(tables.dims) > 1]


def _of_sets(layers):
    """(name, embedding dict, field -> tables) of each set of a model -> its fields' tables, all sets'."""
    name, embedding_dict, tables = layers[0]
    side_by_side = {field: [table for _, _, own in layers for table in own[field]] for field in tables}
    return _of_layer(name, embedding_dict, side_by_side)


def _of_layer(name, embedding_dict, tables):
    for field, sets in tables.items():
        layer = embedding_dict.embedding_layers[field]
        pretrained = isinstance(layer, PretrainedEmbedding)
        padding = (layer.pretrain_embedding if pretrained else layer).padding_idx
        yield FieldTables(
            layer=name,
            field=field,
            sets=sets,
            exclude=() if padding is None else (padding,),
            initializer=None if pretrained else given_initializer(embedding_dict.embedding_initializer),
        )


def abundance_of_fields(found: list[FieldTables], by_gram: bool | None = None) -> list:
    """Return ``abundance_of_sets`` of all fields of a model; fields on a GPU share one transfer to the CPU.

    Args:
        found (list of FieldTables)
        by_gram (bool or None): whether to take the way of a GPU: the fields' Gram matrices are made where the tables
            lie, and their eigenvalues, the squares of the singular values, found on the CPU. IA is then exact to
            about K · 1e-8, see ``gram_matrix``. None: by the tables' device.

    Returns:
        list of (list of float, float), or of ValueError for tables with entries that are not finite.
    """
    chosen = [i for i, tables in enumerate(found) if (tables.sets[0].is_cuda if by_gram is None else by_gram)]
    grams = _to_cpu([gram_matrix(found[i].sets, found[i].exclude) for i in chosen])
    finite = {i: gram for i, gram in zip(chosen, grams, strict=True) if gram.isfinite().all()}
    parts = [part for i, gram in finite.items() for part in (*diagonal_blocks(gram, found[i].dims), gram)]
    measured = iter(abundance_by_gram(parts))
    return [
        ([next(measured) for _ in tables.dims], next(measured)) if i in finite else _abundance_or_error(tables)
        for i, tables in enumerate(found)
    ]


def diagonal_blocks(gram: torch.Tensor, dims: list[int]) -> list[torch.Tensor]:
    """Return the Gram matrices of the column blocks, ``dims`` columns each, out of that of all blocks side by side."""
    ends = itertools.accumulate(dims)
    return [gram[end - dim : end, end - dim : end] for dim, end in zip(dims, ends, strict=True)]


def _to_cpu(tensors):
    """The tensors, in one transfer."""
    if not tensors:
        return []
    flat = torch.cat([tensor.flatten() for tensor in tensors]).cpu()
    return [part.view(x.shape) for part, x in zip(flat.split([x.numel() for x in tensors]), tensors, strict=True)]


def _abundance_or_error(tables):
    try:
        return abundance_of_sets(tables)
    except ValueError as error:
        return error


def abundance_of_sets(tables):
    """IA of every set, and of all sets side by side, from one pass over the tables of a field.

    Args:
        tables (FieldTables)

    Returns:
        (list of float, float): IA(E¹) … IA(Eᴹ), and IA([E¹ … Eᴹ]).

    Raises:
        ValueError: entries that are not finite.
    """
    R = triangular_factor(tables.sets, tables.exclude)
    blocks = R.split(tables.dims, dim=1)
    return [abundance(torch.linalg.svdvals(block)) for block in blocks], abundance(torch.linalg.svdvals(R))
