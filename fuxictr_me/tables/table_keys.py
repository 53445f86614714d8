"""Names of embedding tables in the state dict of any FuxiCTR model."""

import re
from collections.abc import Container, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fuxictr_me.errors import UsageError
from fuxictr_me.nn.embedding_settings import ID_TYPES

Features = Mapping[str, Mapping[str, Any]]  # field -> its spec in the feature map
TableParts = dict[str, dict[str, Tensor]]  # field -> {part: Tensor}

PRETRAINED, ID_PART, PROJECTION = "pretrain_embedding.weight", "id_embedding.weight", "proj.weight"
ENCODER = "encoder"
TABLE_KEY = re.compile(
    r"(?:(?P<layer>.+)\.)?embedding_layers\.(?P<field>[^.]+)"
    r"\.(?P<part>weight|pretrain_embedding\.weight|id_embedding\.weight|proj\.weight)"
)
ENCODER_KEY = re.compile(r"(?:(?P<layer>.+)\.)?feature_encoders\.(?P<field>[^.]+)\.weight")
SET = re.compile(r"(?:(?P<layer>.+)\.)?sets\.(?P<number>\d+)")  # of a MultiEmbedding
SET_OF_MODEL = re.compile(r"sets\.(?P<number>\d+)\.(?P<path>.+)")  # of MultiEmbeddingOf, whose set 0 is at <path>
PARTNER = re.compile(r"(?P<layer>(?:.+\.)?embedding_layers)\.(?P<number>\d+)")


class LayerName(NamedTuple):
    """The embedding layer to which a FuxiCTR ``FeatureEmbeddingDict`` belongs, and which of its sets it is."""

    layer: str  # where the layer is in the model, without the parts of the path that all layers have
    set_of_model: int  # number of the set of ``MultiEmbeddingOf``, else 0
    set_of_layer: int  # number of the set of a ``MultiEmbedding``, else 0


def parse_layer_name(path: str, paths: Container[str]) -> LayerName:
    """Return the layer and set to which the ``FeatureEmbeddingDict`` at ``path`` belongs; ``paths``: of all of them."""
    path, outer = locate_in_set_0(path, paths)
    name = path.removesuffix(".embedding_layer")
    inner = SET.fullmatch(name)
    return LayerName(inner["layer"] or "", outer, int(inner["number"])) if inner else LayerName(name, outer, 0)


def locate_in_set_0(path: str, paths: Container[str]) -> tuple[str, int]:
    """Return where set 0 of a ``MultiEmbeddingOf`` model has what another set has at ``path``, and that set's number.

    Args:
        path: of a module or tensor in the model.
        paths: all paths of this kind: ``sets.1.<path>`` belongs to set 1 only if ``<path>`` exists, too.

    Returns:
        The path in set 0 and the number of the set; ``path`` itself and 0 if it belongs to no further set.
    """
    match = SET_OF_MODEL.fullmatch(path)
    return (match["path"], int(match["number"])) if match and match["path"] in paths else (path, 0)


def weights_of_each_set(state_dict: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the weights with which each set of a ``MultiEmbeddingOf`` model computes, under the names of set 0.

    Weights that all sets share are in every result. Any other model gives one state dict.
    """
    located = {key: locate_in_set_0(key, state_dict) for key in state_dict if isinstance(key, str)}
    shared = {path: state_dict[key] for key, (path, m) in located.items() if m == 0}
    further: dict[int, dict[str, Tensor]] = {}
    for key, (path, m) in located.items():
        if m:
            further.setdefault(m, dict(shared))[path] = state_dict[key]
    return [shared, *(further[m] for m in sorted(further))]


def group_tables(state_dict: Mapping[str, Any], features: Features) -> dict[str, list[TableParts]]:
    """Group the tensors of embedding layers by layer, set, field and part.

    Args:
        state_dict: name -> Tensor; other values are ignored.
        features: field -> its spec in the feature map.

    Returns:
        Name of the layer -> for each set, field -> {part: Tensor}. Parts are ``weight``, those of a pretrained field,
        and ``encoder``, the projection of a field of type ``embedding``.

    Raises:
        UsageError: if the sets of one layer do not have the same fields.
    """
    by_path: dict[str, TableParts] = {}
    for key, tensor in state_dict.items():
        match = isinstance(key, str) and (TABLE_KEY.fullmatch(key) or ENCODER_KEY.fullmatch(key))
        if match and isinstance(tensor, Tensor):
            part = ENCODER if match.re is ENCODER_KEY else match["part"]
            by_path.setdefault(match["layer"] or "", {}).setdefault(match["field"], {})[part] = tensor
    for fields in by_path.values():  # an encoder of a sequence is not part of a table
        for field in [f for f, parts in fields.items() if set(parts) == {ENCODER}]:
            if features.get(field, {}).get("type") != "embedding":
                del fields[field]
    sets: dict[str, dict[tuple[int, int], TableParts]] = {}
    for path, fields in by_path.items():
        if fields:
            layer, *number = parse_layer_name(path, by_path)
            sets.setdefault(layer, {})[number[0], number[1]] = fields
    layers = {layer: [numbered[number] for number in sorted(numbered)] for layer, numbered in sets.items()}
    for layer, fields_of_sets in layers.items():
        if any(set(fields) != set(fields_of_sets[0]) for fields in fields_of_sets):
            raise UsageError(f"the embedding sets of {layer or 'the checkpoint'!r} do not have the same fields")
    return layers


def join_partner_tables(layers: dict[str, list[TableParts]], features: Features) -> dict[str, list[TableParts]]:
    """Join FFM's F - 1 layers ``embedding_layers.{n}`` of F fields into one layer, a field's tables side by side."""
    partners: dict[str, dict[int, str]] = {}
    for name in layers:
        if match := PARTNER.fullmatch(name):
            partners.setdefault(match["layer"], {})[int(match["number"])] = name
    for joint, numbered in partners.items():
        parts = [layers[numbered[n]] for n in sorted(numbered)]  # for each partner, its sets
        is_alike = all(len(sets) == len(parts[0]) and set(sets[0]) == set(parts[0][0]) for sets in parts)
        is_plain = is_alike and all(set(kinds) == {"weight"} for sets in parts for kinds in sets[0].values())
        if is_plain and len(parts) == len(parts[0][0]) - 1:
            layers = {name: sets for name, sets in layers.items() if name not in numbered.values()}
            layers[joint] = [
                {field: {"weight": _lay_side_by_side(field, one_set, features)} for field in one_set[0]}
                for one_set in zip(*parts, strict=True)
            ]
    return layers


def _lay_side_by_side(field: str, parts: tuple[TableParts, ...], features: Features) -> Tensor:
    has_ids = features.get(field, {}).get("type") in ID_TYPES  # other fields have the (K, 1) weight of a Linear
    return torch.cat([fields[field]["weight"] for fields in parts], dim=1 if has_ids else 0)
