"""The embedding tables in a checkpoint of any FuxiCTR model, found by their names: no code of the model is needed."""

from dataclasses import dataclass

import torch

from fuxictr_me.errors import UsageError
from fuxictr_me.tables.checkpoint_keys import ID_PART, ID_TYPES, PRETRAINED, PROJECTION, tables_by_layer
from fuxictr_me.tables.model_tables import FieldTables


@dataclass(frozen=True)
class CheckpointLayer:
    """One embedding layer of a checkpoint, all its sets.

    Attributes:
        name (str): where it is in the model, as ``field_tables`` names it.
        tables (list of FieldTables): tables of ids, of dimension 2 or more; shared ones once.
        table_of (dict): field -> the field in ``tables`` whose table it reads.
        widths (dict): each embedded field, numeric ones too, in the order of the feature map -> K in each set.
        field_aware (bool): FFM, whose tables for each partner lie side by side as one.
    """

    name: str
    tables: list
    table_of: dict
    widths: dict
    field_aware: bool = False

    @property
    def num_sets(self):
        """M."""
        return len(next(iter(self.widths.values())))

    def sharing(self, field):
        """The fields that read the table of ``field``, itself first."""
        return [name for name, table in self.table_of.items() if table == field]


@torch.no_grad()
def checkpoint_layers(state_dict, feature_map, initializer=None):
    """The embedding layers in a state dict, checked against the feature map.

    FuxiCTR's layers, its ``FeatureEmbeddingDict`` alone, our sets, and FFM's tables for each partner. A
    pretrained field's table is what its ids look up, projection included. Layers of dimension 1, the linear
    terms of wide models, are left out, and so are numeric fields from ``tables``.

    Args:
        state_dict (dict): name -> Tensor, of a whole model.
        feature_map (FeatureMap): of FuxiCTR.
        initializer (callable): what the tables started from, for ``FieldTables``.

    Returns:
        list of CheckpointLayer: the one with the most numbers in its tables first.

    Raises:
        UsageError: no embedding layer at all, or one that does not fit the feature map.
    """
    features = feature_map.features
    found = tables_by_layer(state_dict, features)
    fitting = {name: sets for name, sets in found.items() if any(field in features for field in sets[0])}
    if not fitting:
        fields = ", ".join(list(next(iter(found.values()))[0])[:5]) if found else "none"
        raise UsageError(
            f"the checkpoint has no embedding layer of the fields of {feature_map.dataset_id!r} "
            f"(fields in it: {fields}; in the feature map: {', '.join(list(features)[:5])})"
        )
    for sets in fitting.values():
        for fields in sets:
            for field, parts in fields.items():
                _check(field, parts, features)
    embedded = {field for sets in fitting.values() for field in sets[0]}
    absent = [field for field, spec in features.items() if spec["type"] in ID_TYPES and field not in embedded]
    if absent:
        raise UsageError(f"the checkpoint has no table of {', '.join(absent)}, which the feature map has")
    layers = [_layer(name, sets, feature_map, initializer) for name, sets in fitting.items()]
    layers = [layer for layer in layers if layer.tables]
    return sorted(layers, key=lambda layer: -sum(t.numel() for tables in layer.tables for t in tables.sets))


def _check(field, parts, features):
    if field not in features:
        raise UsageError(f"the checkpoint embeds field {field!r}, which the feature map has not: {', '.join(features)}")
    spec = features[field]
    for part, tensor in parts.items():
        if tensor.ndim != 2 or not tensor.is_floating_point():
            raise UsageError(f"{part} of field {field!r} is no table: {tensor.dtype} of shape {tuple(tensor.shape)}")
    if spec["type"] in ID_TYPES:
        table = parts.get("weight", parts.get(PRETRAINED))
        if table is None or len(table) != spec.get("vocab_size"):
            has = "nothing" if table is None else f"{len(table)} rows"
            raise UsageError(
                f"field {field!r} does not fit: the checkpoint's table has {has}, "
                f"the feature map says {spec.get('vocab_size')} ids"
            )


def _layer(name, sets, feature_map, initializer):
    order = [field for field in feature_map.features if field in sets[0]]
    specs = feature_map.features
    tables, table_of, looked_up = [], {}, {}
    for field in order:
        if specs[field]["type"] not in ID_TYPES:
            continue
        base = _shared_with(field, specs[field], sets[0], looked_up)
        if base is None:
            padding = specs[field].get("padding_idx")
            pretrained = PRETRAINED in sets[0][field]
            looked_up[field] = FieldTables(
                layer=name,
                field=field,
                sets=[_table(fields[field], specs[field]) for fields in sets],
                exclude=() if padding is None else (padding,),
                initializer=None if pretrained else initializer,
            )
        table_of[field] = base or field
    tables = [table for table in looked_up.values() if max(table.dims) > 1]
    kept = {table.field for table in tables}
    return CheckpointLayer(
        name=name,
        tables=tables,
        table_of={field: table for field, table in table_of.items() if table in kept},
        widths={field: _widths(field, specs[field], sets, looked_up.get(table_of.get(field))) for field in order},
        field_aware=name.endswith("embedding_layers"),
    )


def _shared_with(field, spec, fields, known):
    """The earlier field that reads the same table: one storage, or equal numbers where the feature map says so."""
    own = fields[field].get("weight", fields[field].get(PRETRAINED))
    for base in known:
        other = fields[base].get("weight", fields[base].get(PRETRAINED))
        if other.shape != own.shape or set(fields[base]) != set(fields[field]):
            continue
        if (other.data_ptr(), other.stride()) == (own.data_ptr(), own.stride()):
            return base
        if base == spec.get("share_embedding") and torch.equal(other, own):
            return base
    return None


def _table(parts, spec):
    """(D, K): what the ids of a field look up, as FuxiCTR's ``PretrainedEmbedding`` computes it."""
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


def _widths(field, spec, sets, tables):
    if tables is not None:
        return [spec.get("emb_output_dim", dim) if dim > 1 else dim for dim in tables.dims]
    return [len(fields[field].get("encoder", fields[field].get("weight"))) for fields in sets]  # Linear: (K, in)
