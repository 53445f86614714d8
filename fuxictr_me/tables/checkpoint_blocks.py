"""The blocks W_{i→j} of the first interaction in a checkpoint of any FuxiCTR model, found by their names."""

import re
from dataclasses import dataclass

import torch

from fuxictr_me.collapse.sub_embeddings import cross_blocks, ffm_blocks, fmfm_blocks, fwfm_blocks, low_rank_cross_weight
from fuxictr_me.errors import UsageError
from fuxictr_me.tables.checkpoint_keys import of_each_set

CROSS, LOW_RANK = "full-matrix cross layer", "low-rank cross layer (its linear part)"
FIELD_WEIGHTED, FIELD_MATRIXED, FIELD_AWARE = "field-weighted products", "field-matrixed products", "field-aware tables"
WIDE_TABLES = ("FFMv2",)  # models whose one wide table is FFM's tables side by side, which no name tells
GROUP = re.compile(r"interaction\.(?P<group>\d+)\.(?P<shared>network\.)?.*")


@dataclass(frozen=True)
class FirstInteraction:
    """The first interaction of a model, where it is bilinear with weights of its own.

    Attributes:
        kind (str): what it is, in words.
        key (str): where its weights are in the state dict.
        layer (str): name of the embedding layer that it reads.
        fields (list of str): F, in the order of the blocks.
        blocks (list): of each set, ``blocks[i][j]`` = W_{i→j} as ``sub_embedding_abundance`` takes them; None
            for a set whose interaction has none.
    """

    kind: str
    key: str
    layer: str
    fields: list
    blocks: list


@torch.no_grad()
def first_interaction(state_dict, layers, model=None):
    """Find the first interaction's blocks: DCNv2's cross layers, FwFM, NFwFM, FmFM, FFM, of FuxiCTR's and ours.

    Args:
        state_dict (dict): name -> Tensor, of a whole model.
        layers (list of CheckpointLayer): of the same model.
        model (str): its name, which tells FFMv2 from other models of wide tables.

    Returns:
        (FirstInteraction or None, str): and, where there is none, why.
    """
    for layer in layers:
        if layer.field_aware or model in WIDE_TABLES:
            fields = list(layer.widths)
            dim = layer.widths[fields[0]][0] // (len(fields) - 1)
            blocks = [ffm_blocks(len(fields), dim)] * layer.num_sets
            return FirstInteraction(FIELD_AWARE, layer.name, layer.name, fields, blocks), ""
    of_sets = of_each_set(state_dict)
    found = [[one for find in FINDERS for one in find(own)] for own in of_sets]
    misfits = []
    for layer in layers:
        blocks, kinds, keys = [None] * layer.num_sets, {}, {}
        inner, rest = divmod(layer.num_sets, len(of_sets))  # sets of a MultiEmbedding in each; 1 where there is none
        if rest:  # a layer that the sets of the model share
            continue
        for outer, own in enumerate(of_sets):
            for kind, key, weights, make in found[outer]:
                try:
                    for m, weight in _by_set(key, weights, own, inner):
                        at = outer * inner + m
                        blocks[at] = _checked(make(weight, [dims[at] for dims in layer.widths.values()]), layer, at)
                except UsageError as error:
                    misfits.append(f"{key}: {error}")
                else:
                    kinds[kind] = keys[key] = None
        if keys:
            return FirstInteraction(", ".join(kinds), ", ".join(keys), layer.name, list(layer.widths), blocks), ""
    if misfits:
        return None, f"the checkpoint has weights of an interaction that do not fit its fields ({misfits[0]})"
    return (
        None,
        "the model's first interaction has no bilinear weights of its own, as that of DCNv2, FwFM or FFM has",
    )


def _full_matrix(state_dict):
    for key, prefix, weight in _matching(state_dict, r"(.*?)cross_layers\.0\.weight"):
        N = state_dict.get(f"{prefix}field_weights.0")
        weights = weight if weight.ndim == 3 else weight[None]
        pairs = [None] * len(weights) if N is None else N

        def blocks(weight_and_pairs, dims):
            W, N = weight_and_pairs
            of = torch.arange(len(dims)).repeat_interleave(torch.tensor(dims))
            if N is not None and W.shape == (len(of), len(of)):
                W = W * N[of[:, None], of]
            return cross_blocks(W, dims)

        yield CROSS, key, list(zip(weights, pairs, strict=True)), blocks


def _low_rank(state_dict):
    for key, prefix, U in _matching(state_dict, r"(.*?)(?:U_list|U)\.0"):
        C, V = (state_dict.get(prefix + key[len(prefix) :].replace("U", name)) for name in "CV")
        if C is not None and V is not None and U.ndim in (3, 4):
            weights = [(U, C, V)] if U.ndim == 3 else list(zip(U, C, V, strict=True))
            yield LOW_RANK, key, weights, lambda UCV, dims: cross_blocks(low_rank_cross_weight(*UCV), dims)


def _field_weighted(state_dict):
    for key, _, weights in _matching(state_dict, r"(interaction\..*?)products\.weight"):
        yield FIELD_WEIGHTED, key, list(weights), lambda weight, dims: fwfm_blocks(weight, _one_dim(dims))
    for key, _, weight in _matching(state_dict, r"(.*?)interaction_weight\.weight"):
        yield FIELD_WEIGHTED, key, [weight[0]], lambda weight, dims: fwfm_blocks(weight, _one_dim(dims))


def _field_matrixed(state_dict):
    for key, _, weight in _matching(state_dict, r"(.*?)interaction_weight"):
        yield FIELD_MATRIXED, key, [weight], lambda weight, dims: fmfm_blocks(weight)


FINDERS = (_full_matrix, _low_rank, _field_weighted, _field_matrixed)


def _matching(state_dict, pattern):
    """(key, prefix, Tensor) of each key of that form."""
    for key, tensor in state_dict.items():
        match = isinstance(key, str) and re.fullmatch(pattern, key)
        if match and isinstance(tensor, torch.Tensor) and tensor.ndim >= 2:
            yield key, match[1], tensor


def _one_dim(dims):
    if len(set(dims)) > 1:
        raise UsageError(f"products need fields of one dimension, got {sorted(set(dims))}")
    return dims[0]


def _checked(blocks, layer, m):
    widths = [dims[m] for dims in layer.widths.values()]
    if {len(blocks), *map(len, blocks)} != {len(widths)}:
        raise UsageError(f"it is of {len(blocks)} fields, {layer.name} of {len(widths)}")
    for i, row in enumerate(blocks):
        for j, W in enumerate(row):
            if W is not None and W.shape != (widths[j], widths[i]):
                raise UsageError(f"a block is {tuple(W.shape)}, two fields are {(widths[j], widths[i])}")
    return blocks


def _by_set(key, weights, state_dict, num_sets):
    """(set, its weight): a group of our sets holds those that follow the groups before it."""
    match = GROUP.fullmatch(key)
    if match is None or match["shared"]:
        if len(weights) != 1 or (match is None and num_sets != 1):
            raise UsageError(f"weights of {len(weights)} sets for {num_sets} embedding sets")
        return [(m, weights[0]) for m in range(num_sets)]
    sizes = {}
    for name, tensor in state_dict.items():
        of = re.match(r"(?:interaction|projection)\.(\d+)\.", str(name))
        if of and tensor.ndim >= 2:
            sizes[int(of[1])] = len(tensor)
    group = int(match["group"])
    start = sum(size for g, size in sizes.items() if g < group)
    if sum(sizes.values()) != num_sets or set(sizes) != set(range(len(sizes))) or len(weights) != sizes[group]:
        raise UsageError(f"interactions of {sum(sizes.values())} sets for {num_sets} embedding sets")
    return list(enumerate(weights, start))
