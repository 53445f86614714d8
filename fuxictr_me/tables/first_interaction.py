"""Find the blocks W_{i→j} of the first interaction in a checkpoint of any FuxiCTR model, by names of weights."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fuxictr_me.collapse.sub_embeddings import (
    Blocks,
    cross_blocks,
    ffm_blocks,
    fmfm_blocks,
    fwfm_blocks,
    low_rank_cross_weight,
)
from fuxictr_me.errors import UsageError
from fuxictr_me.tables.find_tables import EmbeddingLayer
from fuxictr_me.tables.table_keys import weights_of_each_set

CROSS, LOW_RANK = "full-matrix cross layer", "low-rank cross layer (its linear part)"
FIELD_WEIGHTED, FIELD_MATRIXED, FIELD_AWARE = "field-weighted products", "field-matrixed products", "field-aware tables"
WIDE_TABLES = ("FFMv2",)  # models whose one wide table is FFM's tables side by side, which no name shows
GROUP = re.compile(r"interaction\.(?P<group>\d+)\.(?P<shared>network\.)?.*")


@dataclass(frozen=True)
class FirstInteraction:
    """The first interaction of a model, if it is bilinear with weights of its own.

    Attributes:
        kind: name of the interaction.
        key: name of its weights in the state dict.
        layer: name of the embedding layer that it reads.
        fields: F, in the order of the blocks.
        blocks: for each set, ``blocks[i][j]`` = W_{i→j} as ``sub_embedding_abundance`` takes them; None for a set
            whose interaction has none.
    """

    kind: str
    key: str
    layer: str
    fields: list[str]
    blocks: list[Blocks | None]


@dataclass(frozen=True)
class _Weights:
    """Weights of an interaction in a state dict."""

    kind: str  # name of the interaction
    key: str  # name in the state dict
    sets: Sequence[Any]  # the weight of each set that the key holds
    to_blocks: Callable[[Any, list[int]], Blocks]  # (weight, K of each field) -> blocks


@torch.no_grad()
def find_first_interaction(
    state_dict: Mapping[str, Tensor], layers: Sequence[EmbeddingLayer], model: str | None = None
) -> tuple[FirstInteraction | None, str]:
    """Find the first interaction's blocks: DCNv2's cross layers, FwFM, NFwFM, FmFM, FFM, FuxiCTR's or fuxictr-me's.

    Args:
        state_dict: name -> Tensor, of a whole model.
        layers: embedding layers of the same model.
        model: its name, which tells FFMv2 from other models of wide tables.

    Returns:
        The interaction and an empty string, or None and the reason.
    """
    for layer in layers:
        if layer.field_aware or model in WIDE_TABLES:
            fields = list(layer.widths)
            dim = layer.widths[fields[0]][0] // (len(fields) - 1)
            return FirstInteraction(
                FIELD_AWARE, layer.name, layer.name, fields, [ffm_blocks(len(fields), dim)] * layer.num_sets
            ), ""
    weights_of_sets = weights_of_each_set(state_dict)
    interactions = [[weights for find in FINDERS for weights in find(own)] for own in weights_of_sets]
    misfits: list[str] = []
    for layer in layers:
        sets_inside, rest = divmod(layer.num_sets, len(weights_of_sets))  # sets of a MultiEmbedding in each set
        if rest:  # the sets of the model share this layer
            continue
        blocks: list[Blocks | None] = [None] * layer.num_sets
        kinds: dict[str, None] = {}  # as an ordered set
        keys: dict[str, None] = {}
        for outer, own in enumerate(weights_of_sets):
            for weights in interactions[outer]:
                try:
                    for inner, weight in _assign_to_sets(weights, own, sets_inside):
                        m = outer * sets_inside + inner
                        dims = [resolve_embedding_dims[m] for resolve_embedding_dims in layer.widths.values()]
                        blocks[m] = _check_blocks(weights.to_blocks(weight, dims), layer.name, dims)
                except UsageError as error:
                    misfits.append(f"{weights.key}: {error}")
                else:
                    kinds[weights.kind] = keys[weights.key] = None
        if keys:
            return FirstInteraction(", ".join(kinds), ", ".join(keys), layer.name, list(layer.widths), blocks), ""
    if misfits:
        return None, f"the checkpoint has weights of an interaction that do not fit its fields ({misfits[0]})"
    return (None, "the model's first interaction has no bilinear weights of its own, as that of DCNv2, FwFM or FFM has")


def _find_full_matrix(state_dict: Mapping[str, Tensor]) -> Iterator[_Weights]:
    def blocks(weight_and_pairs: tuple[Tensor, Tensor | None], dims: list[int]) -> Blocks:
        W, N = weight_and_pairs
        field = torch.arange(len(dims)).repeat_interleave(torch.tensor(dims))  # of each entry
        if N is not None and W.shape == (len(field), len(field)):
            W = W * N[field[:, None], field]
        return cross_blocks(W, dims)

    for key, prefix, weight in _match_keys(state_dict, r"(.*?)cross_layers\.0\.weight"):
        N = state_dict.get(f"{prefix}field_weights.0")
        weights = weight if weight.ndim == 3 else weight[None]
        pairs = [None] * len(weights) if N is None else N
        yield _Weights(CROSS, key, list(zip(weights, pairs, strict=True)), blocks)


def _find_low_rank(state_dict: Mapping[str, Tensor]) -> Iterator[_Weights]:
    for key, prefix, U in _match_keys(state_dict, r"(.*?)(?:U_list|U)\.0"):
        C, V = (state_dict.get(prefix + key[len(prefix) :].replace("U", name)) for name in "CV")
        if C is not None and V is not None and U.ndim in (3, 4):
            weights = [(U, C, V)] if U.ndim == 3 else list(zip(U, C, V, strict=True))
            yield _Weights(LOW_RANK, key, weights, lambda UCV, dims: cross_blocks(low_rank_cross_weight(*UCV), dims))


def _find_field_weighted(state_dict: Mapping[str, Tensor]) -> Iterator[_Weights]:
    def blocks(weight: Tensor, dims: list[int]) -> Blocks:
        if len(set(dims)) > 1:
            raise UsageError(f"products need fields of one dimension, got {sorted(set(dims))}")
        return fwfm_blocks(weight, dims[0])

    for key, _, weights in _match_keys(state_dict, r"(interaction\..*?)products\.weight"):
        yield _Weights(FIELD_WEIGHTED, key, list(weights), blocks)
    for key, _, weight in _match_keys(state_dict, r"(.*?)interaction_weight\.weight"):
        yield _Weights(FIELD_WEIGHTED, key, [weight[0]], blocks)


def _find_field_matrixed(state_dict: Mapping[str, Tensor]) -> Iterator[_Weights]:
    for key, _, weight in _match_keys(state_dict, r"(.*?)interaction_weight"):
        yield _Weights(FIELD_MATRIXED, key, [weight], lambda weight, dims: fmfm_blocks(weight))


FINDERS = (_find_full_matrix, _find_low_rank, _find_field_weighted, _find_field_matrixed)


def _match_keys(state_dict: Mapping[str, Tensor], pattern: str) -> Iterator[tuple[str, str, Tensor]]:
    """Yield (key, prefix, Tensor) of each key that matches."""
    for key, tensor in state_dict.items():
        match = isinstance(key, str) and re.fullmatch(pattern, key)
        if match and isinstance(tensor, Tensor) and tensor.ndim >= 2:
            yield key, match[1], tensor


def _check_blocks(blocks: Blocks, layer: str, widths: list[int]) -> Blocks:
    """Check that blocks fit the fields of a layer, whose embeddings have these widths."""
    if {len(blocks), *map(len, blocks)} != {len(widths)}:
        raise UsageError(f"it is of {len(blocks)} fields, {layer} of {len(widths)}")
    for i, row in enumerate(blocks):
        for j, W in enumerate(row):
            if W is not None and W.shape != (widths[j], widths[i]):
                raise UsageError(f"a block is {tuple(W.shape)}, two fields are {(widths[j], widths[i])}")
    return blocks


def _assign_to_sets(weights: _Weights, state_dict: Mapping[str, Tensor], num_sets: int) -> list[tuple[int, Any]]:
    """Return (set, its weight): a group of fuxictr-me's sets has those that follow the groups before it."""
    match = GROUP.fullmatch(weights.key)
    if match is None or match["shared"]:
        if len(weights.sets) != 1 or (match is None and num_sets != 1):
            raise UsageError(f"weights of {len(weights.sets)} sets for {num_sets} embedding sets")
        return [(m, weights.sets[0]) for m in range(num_sets)]
    sizes = {}
    for name, tensor in state_dict.items():
        part = re.match(r"(?:interaction|projection)\.(\d+)\.", name)
        if part and tensor.ndim >= 2:
            sizes[int(part[1])] = len(tensor)
    group = int(match["group"])
    start = sum(size for g, size in sizes.items() if g < group)
    if sum(sizes.values()) != num_sets or set(sizes) != set(range(len(sizes))) or len(weights.sets) != sizes[group]:
        raise UsageError(f"interactions of {sum(sizes.values())} sets for {num_sets} embedding sets")
    return list(enumerate(weights.sets, start))
