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
SET = re.compile(r"(?:(?P<layer>.+)\.)?sets\.(?P<number>\d+)")  # of a MultiEmbedding
SET_OF_MODEL = re.compile(r"sets\.(?P<number>\d+)\.(?P<path>.+)")  # of MultiEmbeddingOf a model; its set 0 is <path>
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
            part = "encoder" if match.re is ENCODER_KEY else match["part"]
            layers.setdefault(match["layer"] or "", {}).setdefault(match["field"], {})[part] = tensor
    for fields in layers.values():  # encoders of sequences are no part of a table
        for field in [f for f, parts in fields.items() if set(parts) == {"encoder"}]:
            if features.get(field, {}).get("type") != "embedding":
                del fields[field]
    sets = {}
    for path, fields in layers.items():
        if fields:
            path, outer = of_set_0(path, layers)
            name = path.removesuffix(".embedding_layer")
            inner = SET.fullmatch(name)
            layer, number = ((inner["layer"] or ""), int(inner["number"])) if inner else (name, 0)
            sets.setdefault(layer, {})[outer, number] = fields  # in this order they stand side by side
    merged = {name: [numbered[m] for m in sorted(numbered)] for name, numbered in sets.items()}
    for name, fields_of_sets in merged.items():
        if any(set(fields) != set(fields_of_sets[0]) for fields in fields_of_sets):
            raise UsageError(f"the embedding sets of {name or 'the checkpoint'!r} do not have the same fields")
    return _join_partners(merged, features)


def of_set_0(path, paths):
    """Where set 0 of a model by ``MultiEmbeddingOf`` has what another set has at a path.

    Args:
        path (str): in the model.
        paths (container of str): all of its kind: ``sets.1.<path>`` is of set 1 only where ``<path>`` is there.

    Returns:
        (str, int): the path in set 0, and the set that the given one is of, 0 where it is of none.
    """
    match = SET_OF_MODEL.fullmatch(path)
    return (match["path"], int(match["number"])) if match and match["path"] in paths else (path, 0)


def of_each_set(state_dict):
    """The weights that each set of a model by ``MultiEmbeddingOf`` computes with, under the names of set 0.

    Args:
        state_dict (dict): name -> Tensor, of a whole model.

    Returns:
        list of dict: a state dict a set; what there is once is in all of them. One of any other model.
    """
    placed = {key: of_set_0(key, state_dict) for key in state_dict if isinstance(key, str)}
    shared = {path: state_dict[key] for key, (path, m) in placed.items() if m == 0}
    further = {}
    for key, (path, m) in placed.items():
        if m:
            further.setdefault(m, dict(shared))[path] = state_dict[key]
    return [shared, *(further[m] for m in sorted(further))]


def _join_partners(layers, features):
    """FFM's ``embedding_layers.{n}`` -> one layer ``embedding_layers``."""
    partners = {}
    for name in layers:
        if match := PARTNER.fullmatch(name):
            partners.setdefault(match["layer"], {})[int(match["number"])] = name
    for joint, numbered in partners.items():
        parts = [layers[numbered[n]] for n in sorted(numbered)]  # a list of sets each
        alike = all(len(sets) == len(parts[0]) and set(sets[0]) == set(parts[0][0]) for sets in parts)
        plain = alike and all(set(kinds) == {"weight"} for sets in parts for kinds in sets[0].values())
        if plain and len(parts) == len(parts[0][0]) - 1:
            layers = {name: sets for name, sets in layers.items() if name not in numbered.values()}
            by_set = zip(*parts, strict=True)
            layers[joint] = [{f: {"weight": _beside(f, of_set, features)} for f in of_set[0]} for of_set in by_set]
    return layers


def _beside(field, parts, features):
    of_ids = features.get(field, {}).get("type") in ID_TYPES  # else a Linear's (K, 1)
    return torch.cat([fields[field]["weight"] for fields in parts], dim=1 if of_ids else 0)
