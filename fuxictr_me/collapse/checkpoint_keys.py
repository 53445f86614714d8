"""The names of embedding tables in the state dict of any FuxiCTR model."""

import re

import torch

from fuxictr_me.errors import UsageError

ID_TYPES = ("categorical", "sequence")
PRETRAINED, ID_PART, PROJECTION = "pretrain_embedding.weight", "id_embedding.weight", "proj.weight"
TABLE_KEY = re.compile(
    r"(?:(?P<layer>.+)\.)?embedding_layers\.(?P<field>[^.]+)"
    r"\.(?P<part>weight|pretrain_embedding\.weight|id_embedding\.weight|proj\.weight)"
)
ENCODER_KEY = re.compile(r"(?:(?P<layer>.+)\.)?feature_encoders\.(?P<field>[^.]+)\.(?P<part>weight)")
SET = re.compile(r"(?:(?P<layer>.+)\.)?sets\.(?P<number>\d+)")
PARTNER = re.compile(r"(?P<layer>(?:.+\.)?embedding_layers)\.(?P<number>\d+)")


def tables_by_layer(state_dict, features):
    """Group the tensors of embedding layers by their names.

    FFM's F - 1 layers of F fields become one layer, each field's tables for its partners side by side.

    Args:
        state_dict (dict): name -> Tensor, of a whole model.
        features (dict): field -> its spec in the feature map.

    Returns:
        dict: layer -> a list of one dict a set: field -> {part: Tensor}. Parts are ``weight``, those of a
        pretrained field, and ``encoder``, the projection of a field of type ``embedding``.

    Raises:
        UsageError: sets of one layer that do not have the same fields.
    """
    layers = {}
    for key, tensor in state_dict.items():
        match = isinstance(key, str) and (TABLE_KEY.fullmatch(key) or ENCODER_KEY.fullmatch(key))
        if match and isinstance(tensor, torch.Tensor):
            name = (match["layer"] or "").removesuffix(".embedding_layer")
            part = "encoder" if match.re is ENCODER_KEY else match["part"]
            layers.setdefault(name, {}).setdefault(match["field"], {})[part] = tensor
    for fields in layers.values():  # encoders of sequences are no part of a table
        for field in [f for f, parts in fields.items() if set(parts) == {"encoder"}]:
            if features.get(field, {}).get("type") != "embedding":
                del fields[field]
    sets = {}
    for name, fields in layers.items():
        match = SET.fullmatch(name)
        layer, number = ((match["layer"] or ""), int(match["number"])) if match else (name, 0)
        if fields:
            sets.setdefault(layer, {})[number] = fields
    merged = {name: [numbered[m] for m in sorted(numbered)] for name, numbered in sets.items()}
    for name, fields_of_sets in merged.items():
        if any(set(fields) != set(fields_of_sets[0]) for fields in fields_of_sets):
            raise UsageError(f"the embedding sets of {name or 'the checkpoint'!r} do not have the same fields")
    return _join_partners(merged, features)


def _join_partners(layers, features):
    """FFM's ``embedding_layers.{n}`` -> one layer ``embedding_layers``."""
    partners = {}
    for name in layers:
        if match := PARTNER.fullmatch(name):
            partners.setdefault(match["layer"], {})[int(match["number"])] = name
    for joint, numbered in partners.items():
        parts = [layers[numbered[n]][0] for n in sorted(numbered)]
        alike = all(set(fields) == set(parts[0]) for fields in parts)
        plain = alike and all(set(kinds) == {"weight"} for fields in parts for kinds in fields.values())
        if plain and len(parts) == len(parts[0]) - 1:
            layers = {name: sets for name, sets in layers.items() if name not in numbered.values()}
            layers[joint] = [{field: {"weight": _beside(field, parts, features)} for field in parts[0]}]
    return layers


def _beside(field, parts, features):
    of_ids = features.get(field, {}).get("type") in ID_TYPES  # else a Linear's (K, 1)
    return torch.cat([fields[field]["weight"] for fields in parts], dim=1 if of_ids else 0)
