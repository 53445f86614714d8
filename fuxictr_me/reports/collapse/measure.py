"""All numbers of a collapse report, out of a state dict and a feature map; nothing is drawn or judged here."""

import itertools
import math
from dataclasses import asdict
from statistics import fmean

import torch
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
from fuxictr_me.tables import find_checkpoint_layers
from fuxictr_me.tables.first_interaction import find_first_interaction

ALL = "all"  # the sets side by side, [E¹ … Eᴹ]


def measure(state_dict, feature_map, initializer, model=None, count=None, device="cpu"):
    """The numbers of one model.

    Args:
        state_dict (dict): name -> Tensor, of a whole model.
        feature_map (FeatureMap): of FuxiCTR.
        initializer (callable): what its tables started from.
        model (str): its name, see ``find_first_interaction``.
        count (callable): {field: D} -> how often the training data have each id, as ``id_counts`` gives it;
            None leaves out what needs it.
        device (str): where the linear algebra is done; tables are moved there one field at a time.

    Returns:
        dict: ready for ``json.dump``, ``layers`` (the largest first), ``interaction`` (or None, and
        ``interaction_note`` why) and ``skipped`` (tables that are not finite).

    Raises:
        UsageError: a checkpoint that does not fit the feature map.
    """
    layers = find_checkpoint_layers(state_dict, feature_map, initializer)
    found, note = find_first_interaction(state_dict, layers, model)
    rows = {f: len(t.sets[0]) for layer in layers for t in layer.tables for f in layer.sharing(t.field)}
    counts = count(rows) if count else {}
    measured, skipped, factors = [], [], {}
    for layer in layers:
        fields, R = [], {}
        for tables in tqdm(layer.tables, desc=layer.name, unit="field", disable=None, leave=False):
            sets = [table.to(device) for table in tables.sets]
            try:
                R[tables.field] = triangular_factor(sets, tables.exclude).cpu()
            except ValueError as error:
                skipped.append({"layer": layer.name, "field": tables.field, "why": str(error)})
                continue
            sharing = layer.sharing(tables.field)
            seen = sum(counts[field] for field in sharing) if counts else None
            fields.append(_field(tables, R[tables.field], sharing, sets, seen))
        factors[layer.name] = R
        measured.append(
            {
                "layer": layer.name,
                "num_sets": layer.num_sets,
                "fields": fields,
                "apart": [field for field in layer.widths if field not in layer.table_of],  # numeric, of dimension 1
                "between_sets": _between_sets(layer, R),
            }
        )
    interaction = None
    if found:
        layer = next(layer for layer in layers if layer.name == found.layer)
        try:
            interaction = _interaction(found, layer, factors[layer.name])
        except ValueError as error:
            note = f"{found.key}: {error}"
        measured.sort(key=lambda layer: layer["layer"] != found.layer)  # the one that interacts leads
    return {"layers": measured, "interaction": interaction, "interaction_note": note, "skipped": skipped}


def _field(tables, R, sharing, sets, seen):
    blocks = R.split(tables.dims, dim=1)
    parts = [_part(m, block, tables, (dim,)) for m, (block, dim) in enumerate(zip(blocks, tables.dims, strict=True))]
    parts.append(_part(ALL, R, tables, tuple(tables.dims)) if len(blocks) > 1 else {**parts[0], "set": ALL})
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


def _part(name, R, tables, dims):
    """One set, or all side by side, from its columns of the triangular factor."""
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
        "alpha_req": _number(alpha_req(sigma)),
        "rms": rms,
        "rms_initial": random and random.rms,
        "spectrum": (sigma / sigma[0]).tolist() if len(sigma) and sigma[0] > 0 else [],
    }


def _between_sets(layer, factors):
    """How far the spaces of the sets differ, field by field, over pairs of sets; None for one set."""
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


def _interaction(found, layer, factors):
    dims = {tables.field: tables.dims for tables in layer.tables}
    sets, norms = [], []
    for m, blocks in enumerate(found.blocks):
        if blocks is None:
            continue
        R = [_columns(factors, dims, layer.table_of.get(field), m) for field in found.fields]
        sub = sub_embedding_abundance(R, blocks)
        own = torch.tensor([math.nan if r is None else abundance(torch.linalg.svdvals(r)) for r in R])
        law = interaction_collapse(sub, own.double())
        norms.append(block_norms(blocks))
        one = {"set": m, "sub_ia": _numbers(sub), "norms": _numbers(norms[-1])}
        one["law"] = {
            "num_fields": law.num_fields,
            **{side: {k: _number(v) for k, v in asdict(getattr(law, side)).items()} for side in ("partner", "own")},
        }
        sets.append(one)
    several = len(norms) > 1
    return {
        "kind": found.kind,
        "key": found.key,
        "layer": found.layer,
        "fields": found.fields,
        "table_of": [layer.table_of.get(field) for field in found.fields],
        "sets": sets,
        "variance_of_norms": _numbers(variance_of_norms(torch.stack(norms))) if several else None,
    }


def _columns(factors, dims, field, m):
    """The columns of set ``m`` in the factor of a field; None where it has none."""
    return factors[field].split(dims[field], dim=1)[m] if field in factors else None


def _numbers(matrix):
    return [[_number(value) for value in row] for row in matrix.tolist()]


def _number(value):
    """None for NaN, which JSON has not."""
    return None if isinstance(value, float) and math.isnan(value) else value
