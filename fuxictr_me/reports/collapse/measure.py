"""Measure all numbers of a collapse report from a state dict and a feature map."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from statistics import fmean

import torch
from fuxictr.features import FeatureMap
from tqdm import tqdm

from fuxictr_me.collapse import (
    abundance,
    alpha_req,
    block_norms,
    effective_rank,
    interaction_collapse,
    participation_ratio,
    principal_angles,
    stable_rank,
    sub_embedding_abundance,
    table_space_similarity,
    triangular_factor,
    variance_of_norms,
    weighted_abundance,
)
from fuxictr_me.collapse.random_tables import random_reference
from fuxictr_me.tables import EmbeddingLayer, FieldTables, find_checkpoint_layers
from fuxictr_me.tables.first_interaction import FirstInteraction, find_first_interaction

ALL = "all"  # the sets side by side, [E¹ … Eᴹ]


def measure_collapse(
    state_dict: Mapping[str, torch.Tensor],
    feature_map: FeatureMap,
    initializer: Callable,
    model: str | None = None,
    count: Callable[[dict[str, int]], dict[str, torch.Tensor]] | None = None,
    device: str = "cpu",
) -> dict:
    """Measure one model.

    Args:
        state_dict: of the whole model.
        feature_map: FuxiCTR's.
        initializer: that the tables started from.
        model: its name, see ``first_interaction``.
        count: field -> D to how often each id occurs in the training data, as ``id_counts`` does. If None, the numbers
            that need it are left out.
        device: of the linear algebra. Tables are moved to it one field at a time.

    Returns:
        ready for ``json.dump``: ``layers`` (the largest first), ``interaction`` (or None, and ``interaction_note`` says
        why) and ``skipped`` (tables that are not finite).

    Raises:
        UsageError: the checkpoint does not fit the feature map.
    """
    layers = find_checkpoint_layers(state_dict, feature_map, initializer)
    found, note = find_first_interaction(state_dict, layers, model)
    rows = {f: len(t.sets[0]) for layer in layers for t in layer.tables for f in layer.sharing(t.field)}
    counts = count(rows) if count else {}
    measured, skipped, factors = [], [], {}
    for layer in layers:
        numbers, factors[layer.name], left_out = _measure_layer(layer, counts, device)
        measured.append(numbers)
        skipped += left_out
    interaction = None
    if found:
        layer = next(layer for layer in layers if layer.name == found.layer)
        try:
            interaction = _measure_interaction(found, layer, factors[layer.name])
        except ValueError as error:
            note = f"{found.key}: {error}"
        measured.sort(key=lambda layer: layer["layer"] != found.layer)  # the layer of the interaction comes first
    return {"layers": measured, "interaction": interaction, "interaction_note": note, "skipped": skipped}


def _measure_layer(
    layer: EmbeddingLayer, counts: Mapping[str, torch.Tensor], device: str
) -> tuple[dict, dict[str, torch.Tensor], list[dict]]:
    """Return the numbers of an embedding layer, the triangular factor of each field, and the fields left out."""
    fields, factors, skipped = [], {}, []
    for tables in tqdm(layer.tables, desc=layer.name, unit="field", disable=None, leave=False):
        sets = [table.to(device) for table in tables.sets]
        try:
            factors[tables.field] = triangular_factor(sets, tables.exclude).cpu()
        except ValueError as error:
            skipped.append({"layer": layer.name, "field": tables.field, "why": str(error)})
            continue
        sharing = layer.sharing(tables.field)
        seen = torch.stack([counts[field] for field in sharing]).sum(dim=0) if counts else None
        fields.append(_measure_field(tables, factors[tables.field], sharing, sets, seen))
    numbers = {
        "layer": layer.name,
        "num_sets": layer.num_sets,
        "fields": fields,
        "apart": [field for field in layer.widths if field not in layer.table_of],  # numeric, or of dimension 1
        "between_sets": _compare_sets(layer, factors),
    }
    return numbers, factors, skipped


def _measure_field(
    tables: FieldTables, R: torch.Tensor, sharing: list[str], sets: list[torch.Tensor], seen: torch.Tensor | None
) -> dict:
    blocks = R.split(tables.dims, dim=1)
    parts = [
        _measure_part(m, block, tables, (dim,)) for m, (block, dim) in enumerate(zip(blocks, tables.dims, strict=True))
    ]
    parts.append(_measure_part(ALL, R, tables, tuple(tables.dims)) if len(blocks) > 1 else {**parts[0], "set": ALL})
    field = {
        "field": tables.field,
        "shared_with": sharing[1:],
        "num_ids": tables.num_ids,
        "pretrained": tables.initializer is None,
        "parts": parts,
    }
    if seen is not None:
        never = seen == 0
        never[list(tables.exclude)] = False
        field["unseen_ids"] = int(never.sum()) / max(1, tables.num_ids)
        for part, columns in zip(parts, [*([table] for table in sets), sets], strict=True):
            part["weighted_ia"] = weighted_abundance(columns, seen, tables.exclude)
    return field


def _measure_part(name: int | str, R: torch.Tensor, tables: FieldTables, dims: tuple[int, ...]) -> dict:
    """Measure one set, or all sets side by side, from their columns ``R`` of the triangular factor."""
    sigma, dim = torch.linalg.svdvals(R), sum(dims)
    ia, ceiling = abundance(sigma), tables.ceiling(dim)
    rms = float(R.norm()) / math.sqrt(max(1, tables.num_ids * dim))
    random = tables.initializer and random_reference(tables.num_ids, dims, tables.initializer)
    return {
        "set": name,
        "dim": dim,
        "ceiling": ceiling,
        "ia": ia,
        "ia_ratio": ia / max(1, ceiling),
        "ia_random": random and random.ia,
        "ia_of_random": ia / random.ia if random and random.ia else None,
        "effective_rank": effective_rank(sigma),
        "stable_rank": stable_rank(sigma),
        "participation_ratio": participation_ratio(sigma),
        "alpha_req": _nan_to_none(alpha_req(sigma)),
        "rms": rms,
        "rms_initial": random and random.rms,
        "spectrum": (sigma / sigma[0]).tolist() if len(sigma) and sigma[0] > 0 else [],
    }


def _compare_sets(layer: EmbeddingLayer, factors: Mapping[str, torch.Tensor]) -> dict | None:
    """Measure the angles between the spaces of the sets, over pairs of sets, for each field; None for one set."""
    if layer.num_sets == 1:
        return None
    columns = {t.field: factors[t.field].split(t.dims, dim=1) for t in layer.tables if t.field in factors}
    fields = {}
    for field, sets in columns.items():
        angles = [principal_angles(A, B) for A, B in itertools.combinations(sets, 2)]
        angles = [torch.rad2deg(a) for a in angles if len(a)]
        fields[field] = {
            "mean_angle": fmean(float(a.mean()) for a in angles) if angles else None,
            "max_angle": max(float(a.max()) for a in angles) if angles else None,
        }
    equal = len({tuple(R.shape[1] for R in sets) for sets in columns.values()}) == 1
    equal = equal and len({R.shape[1] for sets in columns.values() for R in sets}) == 1
    return {"fields": fields, "space_similarity": table_space_similarity(list(columns.values())) if equal else None}


def _measure_interaction(found: FirstInteraction, layer: EmbeddingLayer, factors: Mapping[str, torch.Tensor]) -> dict:
    dims = {tables.field: tables.dims for tables in layer.tables}
    sets, norms = [], []
    for m, blocks in enumerate(found.blocks):
        if blocks is None:
            continue
        R = [_columns_of_set(factors, dims, layer.table_of.get(field), m) for field in found.fields]
        sub = sub_embedding_abundance(R, blocks)
        own = torch.tensor([math.nan if r is None else abundance(torch.linalg.svdvals(r)) for r in R])
        law = interaction_collapse(sub, own.double())
        norms.append(block_norms(blocks))
        one = {"set": m, "sub_ia": _to_json(sub), "norms": _to_json(norms[-1])}
        one["law"] = {
            "num_fields": law.num_fields,
            **{
                side: {k: _nan_to_none(v) for k, v in asdict(getattr(law, side)).items()} for side in ("partner", "own")
            },
        }
        sets.append(one)
    return {
        "kind": found.kind,
        "key": found.key,
        "layer": found.layer,
        "fields": found.fields,
        "table_of": [layer.table_of.get(field) for field in found.fields],
        "sets": sets,
        "variance_of_norms": _to_json(variance_of_norms(torch.stack(norms))) if len(norms) > 1 else None,
    }


def _columns_of_set(
    factors: Mapping[str, torch.Tensor], dims: Mapping[str, Sequence[int]], field: str | None, m: int
) -> torch.Tensor | None:
    """Return the columns of set ``m`` in the factor of a field; None if the field has no factor."""
    return factors[field].split(dims[field], dim=1)[m] if field is not None and field in factors else None


def _to_json(matrix: torch.Tensor) -> list[list[float | None]]:
    return [[_nan_to_none(value) for value in row] for row in matrix.tolist()]


def _nan_to_none(value: float) -> float | None:
    """Return None for NaN, which JSON does not have."""
    return None if isinstance(value, float) and math.isnan(value) else value
