"""Find the embedding tables of a model or a checkpoint, by one rule: the names in a state dict.

No code of the model is needed, so the rule covers fuxictr-me's models, FuxiCTR's, and yours.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from fuxictr.features import FeatureMap
from torch import Tensor, nn

from fuxictr_me.compat import FeatureEmbeddingDict
from fuxictr_me.errors import UsageError
from fuxictr_me.nn.embedding_settings import ID_TYPES
from fuxictr_me.nn.fused_table import FusedTable, unwrap_initializer
from fuxictr_me.tables.table_keys import (
    ENCODER,
    ID_PART,
    PRETRAINED,
    PROJECTION,
    Features,
    TableParts,
    group_tables,
    join_partner_tables,
    parse_layer_name,
)

Initializer = Callable[[Tensor], object]


@dataclass(frozen=True)
class FieldTables:
    """The tables of one field in one embedding layer.

    Attributes:
        layer: where the layer is in the model, e.g. ``embedding_layer``.
        field: the feature field.
        sets: a table (D, K) of each set. If a ``MultiEmbeddingOf`` model contains a ``MultiEmbedding``, the tables of
            the model's set 0 come first.
        exclude: rows that are not ids: the padding row.
        initializer: what the tables were initialised with; None if they were pretrained.
    """

    layer: str
    field: str
    sets: list[Tensor]
    exclude: tuple[int, ...]
    initializer: Initializer | None

    @property
    def num_ids(self) -> int:
        """D, without the rows that are not ids."""
        return len(self.sets[0]) - len(self.exclude)

    @property
    def dims(self) -> list[int]:
        """K of each set."""
        return [table.shape[1] for table in self.sets]

    def ceiling(self, dim: int) -> int:
        """Return min(``dim``, D), the largest possible IA of ``dim`` columns."""
        return min(dim, self.num_ids)


@dataclass(frozen=True)
class EmbeddingLayer:
    """One embedding layer with all its sets.

    Attributes:
        name: where it is in the model.
        tables: tables of ids, of dimension 2 or more; a table that several fields share is listed once.
        table_of: field -> the field in ``tables`` whose table it reads.
        widths: each embedded field, also numeric ones, in the order of the feature map -> K in each set.
        field_aware: whether it is FFM's, whose tables for each partner lie side by side as one.
    """

    name: str
    tables: list[FieldTables]
    table_of: dict[str, str]
    widths: dict[str, list[int]]
    field_aware: bool = False

    @property
    def num_sets(self) -> int:
        """M."""
        return len(next(iter(self.widths.values())))

    def sharing(self, field: str) -> list[str]:
        """Return the fields that read the table of ``field``, itself first."""
        return [name for name, table in self.table_of.items() if table == field]


def find_tables(model: nn.Module) -> list[FieldTables]:
    """Find the embedding tables of a model, fuxictr-me's or any of FuxiCTR's.

    Numeric fields, ``embedding`` fields and tables of dimension 1 (the linear terms of wide models) are left out,
    because information abundance has no meaning there.
    """
    return [tables for layer in find_model_layers(model) for tables in layer.tables]


@torch.no_grad()
def find_model_layers(model: nn.Module) -> list[EmbeddingLayer]:
    """Find the embedding layers of a model, in the order of its modules. FFM's layers for each partner stay apart."""
    for module in model.modules():
        if isinstance(module, FusedTable):
            module.settle()  # apply row updates that were put off
    dicts = {path: module for path, module in model.named_modules() if type(module) is FeatureEmbeddingDict}
    features: dict[str, Any] = {}
    weights: dict[str, Tensor] = {}
    initializers: dict[str, Initializer] = {}
    for path, embedding_dict in dicts.items():
        features |= embedding_dict._feature_map.features
        weights |= embedding_dict.state_dict(prefix=f"{path}." if path else "")
        name = parse_layer_name(path, dicts)
        if name.set_of_model == name.set_of_layer == 0:
            initializers[name.layer] = unwrap_initializer(embedding_dict.embedding_initializer)
    layers = group_tables(weights, features)
    found = [_build_layer(name, sets, features, initializers[name]) for name, sets in layers.items()]
    return [layer for layer in found if layer.tables]


@torch.no_grad()
def find_checkpoint_layers(
    state_dict: Mapping[str, Any], feature_map: FeatureMap, initializer: Initializer | None = None
) -> list[EmbeddingLayer]:
    """Find the embedding layers in a state dict, and check them against the feature map.

    FFM's tables for each partner are joined into one layer. A pretrained field's table is what its ids look up,
    projection included. Layers of dimension 1, the linear terms of wide models, are left out, and numeric fields are
    left out of ``tables``.

    Args:
        state_dict: name -> Tensor, of a whole model.
        initializer: what the tables were initialised with, for ``FieldTables``.

    Returns:
        The layers, the one with the most numbers in its tables first.

    Raises:
        UsageError: if there is no embedding layer, or one that does not fit the feature map.
    """
    features = feature_map.features
    grouped = join_partner_tables(group_tables(state_dict, features), features)
    fitting = {name: sets for name, sets in grouped.items() if any(field in features for field in sets[0])}
    if not fitting:
        fields = ", ".join(list(next(iter(grouped.values()))[0])[:5]) if grouped else "none"
        raise UsageError(
            f"the checkpoint has no embedding layer of the fields of {feature_map.dataset_id!r} "
            f"(fields in it: {fields}; in the feature map: {', '.join(list(features)[:5])})"
        )
    _check_layers(fitting, features)
    layers = [_build_layer(name, sets, features, initializer) for name, sets in fitting.items()]
    layers = [layer for layer in layers if layer.tables]
    return sorted(layers, key=lambda layer: -sum(t.numel() for tables in layer.tables for t in tables.sets))


def _check_layers(layers: Mapping[str, list[TableParts]], features: Features) -> None:
    for sets in layers.values():
        for fields in sets:
            for field, parts in fields.items():
                _check_field(field, parts, features)
    embedded = {field for sets in layers.values() for field in sets[0]}
    absent = [field for field, spec in features.items() if spec["type"] in ID_TYPES and field not in embedded]
    if absent:
        raise UsageError(f"the checkpoint has no table of {', '.join(absent)}, which the feature map has")


def _check_field(field: str, parts: Mapping[str, Tensor], features: Features) -> None:
    if field not in features:
        raise UsageError(f"the checkpoint embeds field {field!r}, which the feature map lacks: {', '.join(features)}")
    spec = features[field]
    for part, tensor in parts.items():
        if tensor.ndim != 2 or not tensor.is_floating_point():
            raise UsageError(f"{part} of field {field!r} is no table: {tensor.dtype} of shape {tuple(tensor.shape)}")
    if spec["type"] in ID_TYPES:
        table = parts.get("weight", parts.get(PRETRAINED))
        if table is None or len(table) != spec.get("vocab_size"):
            rows = "nothing" if table is None else f"{len(table)} rows"
            raise UsageError(
                f"field {field!r} does not fit: the checkpoint's table has {rows}, "
                f"the feature map says {spec.get('vocab_size')} ids"
            )


def _build_layer(
    name: str, sets: list[TableParts], features: Features, initializer: Initializer | None
) -> EmbeddingLayer:
    """Build a layer from the parts of its tables (field -> {part: Tensor}) in each set."""
    fields = [field for field in features if field in sets[0]]
    looked_up: dict[str, FieldTables] = {}
    table_of: dict[str, str] = {}
    holders: dict[object, str] = {}  # place in memory -> the first field whose table lies there
    for field in fields:
        spec = features[field]
        if spec["type"] not in ID_TYPES:
            continue
        memory = _memory_of(sets[0][field])
        base = holders.get(memory) if memory else None
        base = base or _find_equal_table(field, spec, sets[0], looked_up)
        if base is None:
            holders[memory] = field
            padding = spec.get("padding_idx")
            looked_up[field] = FieldTables(
                layer=name,
                field=field,
                sets=[_compose_table(parts[field], spec) for parts in sets],
                exclude=() if padding is None else (padding,),
                initializer=None if PRETRAINED in sets[0][field] else initializer,
            )
        table_of[field] = base or field
    kept = {field: tables for field, tables in looked_up.items() if max(tables.dims) > 1}
    return EmbeddingLayer(
        name=name,
        tables=list(kept.values()),
        table_of={field: table for field, table in table_of.items() if table in kept},
        widths={
            field: _widths(field, features[field], sets, looked_up.get(table_of.get(field, ""))) for field in fields
        },
        field_aware=name.endswith("embedding_layers"),
    )


def _find_equal_table(field: str, spec: Mapping[str, Any], fields: TableParts, earlier: Container[str]) -> str | None:
    """Return the field whose table a field shares, if it is among ``earlier`` and the two tables have equal numbers."""
    base = spec.get("share_embedding")
    if base is None or base not in earlier or set(fields[base]) != set(fields[field]):
        return None
    return base if torch.equal(_stored_table(fields[base]), _stored_table(fields[field])) else None


def _memory_of(parts: Mapping[str, Tensor]) -> tuple[object, ...] | None:
    """Return where a table lies in memory, or None for an empty table, which lies nowhere."""
    table = _stored_table(parts)
    return (table.data_ptr(), table.shape, table.stride(), *sorted(parts)) if table.data_ptr() else None


def _stored_table(parts: Mapping[str, Tensor]) -> Tensor:
    return parts["weight"] if "weight" in parts else parts[PRETRAINED]


def _compose_table(parts: Mapping[str, Tensor], spec: Mapping[str, Any]) -> Tensor:
    """Return what the ids of a field look up (D, K), as FuxiCTR's ``PretrainedEmbedding`` computes it."""
    if "weight" in parts:
        return parts["weight"]
    table, ids, projection = parts[PRETRAINED], parts.get(ID_PART), parts.get(PROJECTION)
    known = (torch.arange(len(table), device=table.device) <= spec.get("oov_idx", len(table)))[:, None]
    if not spec.get("freeze_emb", True) and not known.all():
        table = table * known
    if ids is None:
        return table if projection is None else table @ projection.T
    ids = ids * known
    if projection is not None and projection.shape[1] == table.shape[1] + ids.shape[1]:  # usage "concat"
        return torch.cat([table, ids], dim=1) @ projection.T
    return ids + (table if projection is None else table @ projection.T)


def _widths(field: str, spec: Mapping[str, Any], sets: list[TableParts], tables: FieldTables | None) -> list[int]:
    if tables is not None:
        return [spec.get("emb_output_dim", dim) if dim > 1 else dim for dim in tables.dims]
    part = ENCODER if ENCODER in sets[0][field] else "weight"  # of a Linear (K, in)
    return [len(parts[field][part]) for parts in sets]
