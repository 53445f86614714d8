"""M embedding sets over a FuxiCTR feature map."""

from functools import partial

import torch
from torch import nn

from fuxictr_me.compat import FeatureEmbedding, PretrainedEmbedding
from fuxictr_me.config.expressions import check_feature_encoder
from fuxictr_me.config.pretrained import check_widths
from fuxictr_me.errors import UsageError, check_positive_int
from fuxictr_me.nn.foreign_layer import find_layer
from fuxictr_me.nn.fused_table import FusedTable, past_the_table, plain_fields

FUXICTR_INITIALIZER = "partial(nn.init.normal_, std=1e-4)"  # the default of FuxiCTR's FeatureEmbedding


class MultiEmbedding(nn.Module):
    """M independent embedding sets: e⁽ᵐ⁾ = lookup of x in set m (paper, section 4).

    Each set is one FuxiCTR ``FeatureEmbedding``, so whatever the feature map says (categorical, numeric,
    sequence with its encoder, pretrained, shared, own dimension, padding row) holds in every set, and
    FuxiCTR's ``embedding_regularizer`` counts each set as it counts one. With ``num_sets=1`` and equal
    weights the output is FuxiCTR's, bit for bit.

    With ``fused`` the plain categorical fields of all sets lie in one ``FusedTable``, which is read in one look-up;
    sequence, numeric, pretrained and shared fields, and those of a dimension of their own, stay with FuxiCTR's
    layers. The state dict, the numbers drawn by the initialiser, and all results are the same either way.

    Two things differ from M separate layers. A *frozen* pretrained table is held once and read by all
    sets. And a field whose ``share_embedding`` names a field that is not in this layer, or comes later in
    the feature map, is initialised like any other; FuxiCTR leaves its table at N(0, 1).

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        embedding_dim (int or list of int): K, the dimension of ONE set; a list gives each set its own.
        num_sets (int or None): M; None takes it from the list.
        embedding_initializer (str or callable): as in FuxiCTR's ``FeatureEmbedding``, or ``"paper"``:
            xavier_uniform over the table of all fields of a set, (ΣD, K), so U(±√(6/(ΣD + K))) (authors' code).
        required_feature_columns, not_required_feature_columns (list of str): fields to keep, to leave out.
        use_pretrain, use_sharing (bool): as in FuxiCTR's ``FeatureEmbedding``.
        fused (bool): one table for all plain categorical fields. It wants a model whose regulariser and training
            step know it (``fuxictr_me.training.FastTraining``): FuxiCTR's ``embedding_regularizer`` would pass it by.
        table (callable): (fields, sizes, dims) -> what ``FusedTable`` is, or holds a part of it.

    Attributes:
        table (FusedTable or None): of the plain categorical fields.
        field_dims (list of dict): of each set, field -> width of its embedding, in the order of the output.
        output_dims (list of int): of each set, ΣK, its width with all fields side by side.

    Raises:
        UsageError: no fields, M or K not a positive integer, not as many K as M, or a sequence field without
            an encoder, or pretrained vectors of another width than a set asks for.
    """

    def __init__(
        self,
        feature_map,
        embedding_dim,
        num_sets=None,
        embedding_initializer=FUXICTR_INITIALIZER,
        required_feature_columns=None,
        not_required_feature_columns=None,
        use_pretrain=True,
        use_sharing=True,
        fused=False,
        table=FusedTable,
    ):
        super().__init__()
        self.embedding_dims = dims_of_sets(embedding_dim, num_sets)
        self.num_sets = len(self.embedding_dims)
        self.feature_map = feature_map
        for field, spec in feature_map.features.items():  # FuxiCTR evaluates it as Python
            check_feature_encoder(f"feature_encoder of field {field!r}", spec.get("feature_encoder"))
        if embedding_initializer == "paper":
            rows = self._total_ids(required_feature_columns, not_required_feature_columns)
        check_widths(
            feature_map, self.embedding_dims, required_feature_columns, not_required_feature_columns, use_pretrain
        )
        self.register_module("table", None)  # before the sets: a state dict that is loaded passes it first
        self.sets = nn.ModuleList()
        for m, dim in enumerate(self.embedding_dims):
            embedding = FeatureEmbedding(
                feature_map,
                dim,
                embedding_initializer=paper_initializer(rows, dim)
                if embedding_initializer == "paper"
                else embedding_initializer,
                required_feature_columns=required_feature_columns,
                not_required_feature_columns=not_required_feature_columns,
                use_pretrain=use_pretrain,
                use_sharing=use_sharing,
            )
            self.sets.append(embedding)
            if fused:
                self._fuse(m, embedding.embedding_layer, table)
        self.field_dims = [
            {field: self._field_dim(field, dim) for field in self._layers(m)}
            for m, dim in enumerate(self.embedding_dims)
        ]
        self.output_dims = [sum(dims.values()) for dims in self.field_dims]
        if not self.field_dims[0]:
            raise UsageError(
                f"the feature map of {feature_map.dataset_id!r} has no field to embed "
                f"(its features: {', '.join(feature_map.features) or 'none'})"
            )
        self._share_frozen_tables()
        self.init_weights()

    def forward(self, X, feature_source=None, feature_type=None, flatten_emb=False):
        """Look up a batch in every set.

        Args:
            X (dict): field -> ids (B,), values (B,) or sequences of ids (B, L), as FuxiCTR feeds them.
            feature_source, feature_type (str or list of str): keep only the fields of these sources, types.
            flatten_emb (bool): fields side by side, for fields of unequal dimension.

        Returns:
            Tensor: (B, M, F, K), or (B, M, ΣK) with ``flatten_emb``.

        Raises:
            UsageError: an id past its field's table, sets of unequal dimension (``per_set`` takes them), or
                fields of unequal dimension without ``flatten_emb``.
        """
        if len(set(self.output_dims)) > 1:
            raise UsageError(f"sets of unequal dimensions {self.embedding_dims} do not stack; use per_set")
        return torch.stack(self.per_set(X, feature_source, feature_type, flatten_emb), dim=1)

    def per_set(self, X, feature_source=None, feature_type=None, flatten_emb=False):
        """As ``forward``, but a list of M tensors (B, F, K), or (B, ΣK), which may differ in K."""
        try:
            if self.table is None:
                return [embedding(X, feature_source, feature_type, flatten_emb) for embedding in self.sets]
            return self._per_set_fused(X, feature_source, feature_type, flatten_emb)
        except IndexError as error:
            raise (self._id_past_the_table(X) or UsageError(str(error))) from error
        except RuntimeError as error:
            if not flatten_emb and len(set(self.field_dims[0].values())) > 1:
                raise UsageError(
                    f"fields have unequal dimensions {self.field_dims[0]}; use flatten_emb=True"
                ) from error
            raise

    def by_group(self, X, groups):
        """Look up a batch for sets that are computed together.

        Args:
            X (dict): as ``forward`` takes it.
            groups (list of slice): of sets of equal dimension that follow one another.

        Returns:
            list of Tensor: (B, M_g, ΣK) a group.

        Raises:
            UsageError: an id past its field's table.
        """
        return self.arrange(self.look_up(X), groups)

    def look_up(self, X: dict) -> list[torch.Tensor]:
        """Look up a batch, in the order in which it is found in memory, for ``arrange``.

        Returns:
            (B, F, ΣK of all sets) alone if all fields lie in the fused table, else (B, ΣK) of each set.
        """
        if self.is_one_table:
            return [self.table(X)]
        return self.per_set(X, flatten_emb=True)

    def arrange(self, looked_up: list[torch.Tensor], groups: list[slice]) -> list[torch.Tensor]:
        """Put what ``look_up`` returns in the order of ``by_group``. It can be compiled with what follows."""
        if self.is_one_table:
            return [self._set_by_set(looked_up[0], group) for group in groups]
        return [torch.stack(looked_up[group], dim=1) for group in groups]

    @property
    def is_one_table(self) -> bool:
        """Whether all fields lie in the fused table."""
        return self.table is not None and self.table.fields == list(self.field_dims[0])

    def init_weights(self):
        """Initialise the tables that FuxiCTR's own ``init_weights`` skips (see the class's docstring)."""
        for m, embedding in enumerate(self.sets):
            layers = self._layers(m)
            initialise = embedding.embedding_layer.embedding_initializer
            for field, layer in layers.items():
                base = self.feature_map.features[field].get("share_embedding")
                if base is not None and layers.get(base) is not layer and type(layer) is nn.Embedding:
                    initialise(layer.weight if layer.padding_idx is None else layer.weight[1:])

    def tables(self):
        """The embedding tables, as the collapse measures see them.

        Returns:
            dict: field -> list of M tensors (D, K), detached. A pretrained field's table is what its
            ids look up, projection included. A field that shares another's table is listed once, under
            the first field that holds it. Numeric and ``embedding`` fields have no table.
        """
        if self.table is not None:
            self.table.settled()
        per_set = [id_tables(embedding.embedding_layer) for embedding in self.sets]
        return {field: [tables[field] for tables in per_set] for field in per_set[0]}

    def load_set(self, index, state_dict):
        """Load set ``index`` from the weights of a trained FuxiCTR model, or of one of our models.

        Args:
            index (int): the set to fill, 0 to M - 1.
            state_dict (dict): of a whole model; the one embedding layer in it whose fields and shapes
                are this layer's is taken.

        Raises:
            UsageError: no set of that index, or not exactly one embedding layer in it that fits.
        """
        if not 0 <= index < self.num_sets:
            raise UsageError(f"set {index} does not exist: there are sets 0 to {self.num_sets - 1}")
        if self.table is not None:
            self.table.settled()
        layer = self.sets[index].embedding_layer
        layer.load_state_dict(find_layer(layer.state_dict(), state_dict, prefer=f"sets.{index}."))

    def _set_by_set(self, e, group):
        """(B, F, ΣK of all sets) -> (B, M_g, F·K), in memory set after set, as batched products read it."""
        columns = self.table.columns[group]
        e = e[..., columns[0].start : columns[-1].stop].unflatten(-1, (len(columns), -1))  # (B, F, M_g, K)
        return e.permute(2, 0, 1, 3).flatten(2).transpose(0, 1)

    def _per_set_fused(self, X, feature_source, feature_type, flatten_emb):
        fused = [field for field in self.table.fields if field in X]
        others = {field: x for field, x in X.items() if field not in fused}
        if fused:
            e = self.table({field: X[field] for field in fused})  # (B, F, ΣK of all sets)
        asked, per_set = {"feature_source": feature_source, "feature_type": feature_type}, []
        for m, embedding in enumerate(self.sets):
            named = dict(zip(fused, e[..., self.table.columns[m]].unbind(1), strict=True)) if fused else {}
            named.update(embedding.embedding_layer(others, **asked))
            per_set.append(embedding.embedding_layer.dict2tensor(named, flatten_emb, **asked))
        return per_set

    def _fuse(self, m, embedding_dict, make_table):
        """Move the plain categorical fields of set ``m`` into the fused table."""
        if m == 0:
            features, layers = self.feature_map.features, embedding_dict.embedding_layers
            fields = [
                field
                for field in plain_fields(embedding_dict, self.embedding_dims[0])
                if all(features[field].get("embedding_dim", dim) == dim for dim in self.embedding_dims)
            ]
            if fields:
                self.table = make_table(fields, [len(layers[field].weight) for field in fields], self.embedding_dims)
        if self.table is not None:
            self.table.take(m, embedding_dict)

    def _apply(self, fn, recurse=True):
        """PyTorch's ``to``, ``double`` …: the views follow the table rather than move by themselves."""
        if self.table is not None:
            self.table.untie()
        try:
            return super()._apply(fn, recurse)
        finally:
            if self.table is not None:
                self.table.tie()

    def _total_ids(self, required, not_required):
        return sum(
            spec["vocab_size"]
            for field, spec in self.feature_map.features.items()
            if spec["type"] in ("categorical", "sequence") and "share_embedding" not in spec
            if (not required or field in required) and field not in (not_required or ())
        )

    def _layers(self, m):
        return dict(self.sets[m].embedding_layer.embedding_layers.items())

    def _field_dim(self, field, embedding_dim):
        spec = self.feature_map.features[field]
        if spec["type"] == "sequence" and field not in self.sets[0].embedding_layer.feature_encoders:
            raise UsageError(
                f"sequence field {field!r} has no feature_encoder, so it gives no single vector; "
                "set one, e.g. layers.MaskedAveragePooling()"
            )
        return spec.get("emb_output_dim", spec.get("embedding_dim", embedding_dim))

    def _share_frozen_tables(self):
        for m in range(1, self.num_sets):
            for field, layer in self._layers(m).items():
                if isinstance(layer, PretrainedEmbedding) and layer.freeze_emb:
                    layer.pretrain_embedding = self._layers(0)[field].pretrain_embedding

    def _id_past_the_table(self, X):
        for field in self.field_dims[0]:
            spec = self.feature_map.features[field]
            if field in X and spec["type"] in ("categorical", "sequence"):
                ids, size = X[field], spec["vocab_size"]
                if ids.min() < 0 or ids.max() >= size:
                    return past_the_table(field, ids, size)
        return None


def dims_of_sets(embedding_dim, num_sets):
    """K of each of the M sets.

    Args:
        embedding_dim (int or list of int): one K for all sets, or one for each.
        num_sets (int or None): M; None takes it from the list.

    Raises:
        UsageError: not positive integers, or a list of another length than M.
    """
    if not isinstance(embedding_dim, list | tuple):
        return [check_positive_int("embedding_dim", embedding_dim)] * check_positive_int("num_sets", num_sets)
    dims = [check_positive_int("each of embedding_dim", dim) for dim in embedding_dim]
    if not dims or num_sets not in (None, len(dims)):
        raise UsageError(f"embedding_dim {list(dims)} names {len(dims)} sets, num_sets is {num_sets}")
    return dims


def paper_initializer(num_ids, embedding_dim):
    """Xavier_uniform as over the table of all fields of a set, (ΣD, K) (authors' code), for each of its fields."""
    bound = (6 / (num_ids + embedding_dim)) ** 0.5
    return partial(nn.init.uniform_, a=-bound, b=bound)


@torch.no_grad()
def id_tables(embedding_dict):
    """field -> table (D, K) of one FuxiCTR ``FeatureEmbeddingDict``, detached; shared tables once."""
    tables, seen = {}, set()
    for field, layer in embedding_dict.embedding_layers.items():
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if isinstance(layer, PretrainedEmbedding):
            weight = layer.pretrain_embedding.weight
            tables[field] = layer(torch.arange(len(weight), device=weight.device)).detach()
        elif isinstance(layer, nn.Embedding):
            tables[field] = layer.weight.detach()
    return tables
