"""M embedding sets over a FuxiCTR feature map."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from fuxictr.features import FeatureMap
from torch import Tensor, nn

from fuxictr_me.compat import FeatureEmbedding, PretrainedEmbedding
from fuxictr_me.config.expressions import check_feature_encoder
from fuxictr_me.config.pretrained import check_widths
from fuxictr_me.errors import UsageError
from fuxictr_me.nn.embedding_settings import FUXICTR_INITIALIZER, ID_TYPES, paper_initializer, resolve_embedding_dims
from fuxictr_me.nn.fused_table import FusedTable, arrange_by_sets, find_plain_fields, id_range_error
from fuxictr_me.nn.matching_layer import find_matching_layer

Inputs = Mapping[str, Tensor]  # field -> ids (B,), values (B,), or sequences of ids (B, L)
Names = str | Sequence[str] | None


class MultiEmbedding(nn.Module):
    """M independent embedding sets: e⁽ᵐ⁾ = lookup of x in set m (paper, section 4).

    Each set is one FuxiCTR ``FeatureEmbedding``. So everything that a feature map can specify (categorical, numeric,
    sequence with its encoder, pretrained, shared, a dimension per field, padding row) holds in every set, and
    FuxiCTR's ``embedding_regularizer`` counts each set as it counts one. With ``num_sets=1`` and equal
    weights the output is FuxiCTR's, bit for bit.

    With ``fused`` the plain categorical fields of all sets lie in one ``FusedTable``, which is read in one look-up.
    Sequence, numeric, pretrained and shared fields, and those with a dimension of their own, stay in FuxiCTR's
    layers. The state dict, the random initial values, and all results are the same either way.

    Two things differ from M separate layers. A *frozen* pretrained table is held once and read by all
    sets. And a field whose ``share_embedding`` names a field that is not in this layer, or comes later in
    the feature map, is initialised like any other; FuxiCTR leaves its table at N(0, 1).

    Args:
        embedding_dim: K, the dimension of ONE set; a list gives each set its own.
        num_sets: M; None uses the length of the list.
        embedding_initializer: as in FuxiCTR's ``FeatureEmbedding``, or ``"paper"``: xavier_uniform over the table of
            all fields of a set, (ΣD, K), which is U(±√(6/(ΣD + K))) (authors' code).
        required_feature_columns: fields to keep; None keeps all.
        not_required_feature_columns: fields to leave out.
        use_pretrain, use_sharing: as in FuxiCTR's ``FeatureEmbedding``.
        fused: use one table for all plain categorical fields. The model's regulariser and training step must know of
            it, as ``fuxictr_me.training.FastTraining`` does: FuxiCTR's ``embedding_regularizer`` would not see it.
        table: (fields, sizes, dims) -> the ``FusedTable``, or a part of it.

    Attributes:
        table: the ``FusedTable`` of the plain categorical fields, or None.
        field_dims: for each set, field -> width of its embedding, in the order of the output.
        output_dims: for each set, ΣK, its width with all fields side by side.

    Raises:
        UsageError: if there are no fields, if M or K is not a positive integer or their numbers differ, if a sequence
            field has no encoder, or if pretrained vectors have another width than a set needs.
    """

    table: FusedTable | None

    def __init__(
        self,
        feature_map: FeatureMap,
        embedding_dim: int | Sequence[int],
        num_sets: int | None = None,
        embedding_initializer: str | Callable[[Tensor], object] = FUXICTR_INITIALIZER,
        required_feature_columns: list[str] | None = None,
        not_required_feature_columns: list[str] | None = None,
        use_pretrain: bool = True,
        use_sharing: bool = True,
        fused: bool = False,
        table: Callable[[list[str], list[int], list[int]], FusedTable] = FusedTable,
    ) -> None:
        super().__init__()
        self.embedding_dims = resolve_embedding_dims(embedding_dim, num_sets)
        self.num_sets = len(self.embedding_dims)
        self.feature_map = feature_map
        for field, spec in feature_map.features.items():  # FuxiCTR evaluates it as Python
            check_feature_encoder(f"feature_encoder of field {field!r}", spec.get("feature_encoder"))
        required, excluded = required_feature_columns, not_required_feature_columns
        check_widths(feature_map, self.embedding_dims, required, excluded, use_pretrain)
        columns: dict[str, Any] = {"required_feature_columns": required, "not_required_feature_columns": excluded}
        columns |= {"use_pretrain": use_pretrain, "use_sharing": use_sharing}
        self.register_module("table", None)  # registered before the sets, so that a state dict reaches it first
        self.sets = nn.ModuleList()
        for m, dim in enumerate(self.embedding_dims):
            initializer = embedding_initializer
            if initializer == "paper":
                initializer = paper_initializer(feature_map.features, dim, required, excluded)
            self.sets.append(FeatureEmbedding(feature_map, dim, initializer, **columns))
            if fused:  # set by set, so that all tables never exist twice
                self._move_to_table(m, table)
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

    def forward(
        self, X: Inputs, feature_source: Names = None, feature_type: Names = None, flatten_emb: bool = False
    ) -> Tensor:
        """Look up a batch in every set.

        Args:
            X: field -> ids (B,), values (B,) or sequences of ids (B, L), as FuxiCTR's loaders yield them.
            feature_source, feature_type: keep only the fields of these sources and types.
            flatten_emb: put the fields side by side, which allows fields of unequal dimension.

        Returns:
            (B, M, F, K), or (B, M, ΣK) with ``flatten_emb``.

        Raises:
            UsageError: for an id outside its field's table, sets of unequal dimension (``per_set`` accepts them), or
                fields of unequal dimension without ``flatten_emb``.
        """
        if len(set(self.output_dims)) > 1:
            raise UsageError(f"sets of unequal dimensions {self.embedding_dims} do not stack; use per_set")
        return torch.stack(self.per_set(X, feature_source, feature_type, flatten_emb), dim=1)

    def per_set(
        self, X: Inputs, feature_source: Names = None, feature_type: Names = None, flatten_emb: bool = False
    ) -> list[Tensor]:
        """Look up a batch as ``forward`` does, but return M tensors (B, F, K), or (B, ΣK), which may differ in K."""
        try:
            if self.table is None:
                return [embedding(X, feature_source, feature_type, flatten_emb) for embedding in self.sets]
            return self._per_set_fused(self.table, X, feature_source, feature_type, flatten_emb)
        except IndexError as error:
            raise (self._find_id_error(X) or UsageError(str(error))) from error
        except RuntimeError as error:
            if flatten_emb or len(set(self.field_dims[0].values())) == 1:
                raise
            raise UsageError(f"fields have unequal dimensions {self.field_dims[0]}; use flatten_emb=True") from error

    def look_up_groups(self, X: Inputs, groups: Sequence[slice]) -> list[Tensor]:
        """Look up a batch for sets that are computed together.

        Args:
            X: as in ``forward``.
            groups: sets of equal dimension that follow one another.

        Returns:
            (B, M_g, ΣK) for each group.

        Raises:
            UsageError: for an id outside its field's table.
        """
        return self.arrange(self.look_up(X), groups)

    def look_up(self, X: Inputs) -> list[Tensor]:
        """Look up a batch without rearranging it in memory, for ``arrange``.

        Returns:
            One (B, F, ΣK of all sets) if all fields lie in the fused table, else (B, ΣK) for each set.
        """
        table = self.whole_table
        return self.per_set(X, flatten_emb=True) if table is None else [table(X)]

    def arrange(self, looked_up: list[Tensor], groups: Sequence[slice]) -> list[Tensor]:
        """Arrange the result of ``look_up`` by groups of sets. It can be compiled together with what follows."""
        table = self.whole_table
        if table is None:
            return [torch.stack(looked_up[group], dim=1) for group in groups]
        return [arrange_by_sets(looked_up[0], table.columns[group]) for group in groups]

    @property
    def whole_table(self) -> FusedTable | None:
        """The fused table if all fields lie in it, else None."""
        return self.table if self.table is not None and self.table.fields == list(self.field_dims[0]) else None

    def init_weights(self) -> None:
        """Initialise the tables that FuxiCTR's own ``init_weights`` skips (see the docstring of the class)."""
        for m in range(self.num_sets):
            layers, initialise = self._layers(m), self._dict(m).embedding_initializer
            for field, layer in layers.items():
                base = self.feature_map.features[field].get("share_embedding")
                if base is not None and layers.get(base) is not layer and type(layer) is nn.Embedding:
                    initialise(layer.weight if layer.padding_idx is None else layer.weight[1:])

    @torch.no_grad()
    def tables(self) -> dict[str, list[Tensor]]:
        """Return the embedding tables, as the collapse measures take them.

        Returns:
            field -> M tensors (D, K), detached. A pretrained field's table is what its ids look up, projection
            included. A table that fields share is listed once, under the first of these fields. Numeric and
            ``embedding`` fields have no table.
        """
        if self.table is not None:
            self.table.settle()
        tables, seen = {}, set()
        for field, layer in self._layers(0).items():
            if id(layer) not in seen and isinstance(layer, PretrainedEmbedding | nn.Embedding):
                seen.add(id(layer))
                tables[field] = [_table_of(self._layers(m)[field]) for m in range(self.num_sets)]
        return tables

    def load_set(self, index: int, state_dict: Mapping[str, Tensor]) -> None:
        """Load set ``index`` from the weights of a trained FuxiCTR or fuxictr-me model.

        Args:
            index: the set to fill, 0 to M - 1.
            state_dict: of a whole model. It must have exactly one embedding layer with the fields and shapes of this
                layer.

        Raises:
            UsageError: if there is no such set, or not exactly one embedding layer that fits.
        """
        if not 0 <= index < self.num_sets:
            raise UsageError(f"set {index} does not exist: there are sets 0 to {self.num_sets - 1}")
        if self.table is not None:
            self.table.settle()
        layer = self._dict(index)
        layer.load_state_dict(find_matching_layer(layer.state_dict(), state_dict, prefer=f"sets.{index}."))

    def _per_set_fused(
        self, table: FusedTable, X: Inputs, feature_source: Names, feature_type: Names, flatten_emb: bool
    ) -> list[Tensor]:
        fused = {field: X[field] for field in table.fields if field in X}
        others = {field: x for field, x in X.items() if field not in fused}
        e = table(fused) if fused else None  # (B, F, ΣK of all sets)
        filters, per_set = {"feature_source": feature_source, "feature_type": feature_type}, []
        for m, columns in enumerate(table.columns):
            embeddings = {} if e is None else dict(zip(fused, e[..., columns].unbind(1), strict=True))
            embeddings |= self._dict(m)(others, **filters)
            per_set.append(self._dict(m).dict2tensor(embeddings, flatten_emb, **filters))
        return per_set

    def _move_to_table(self, m: int, make_table: Callable[[list[str], list[int], list[int]], FusedTable]) -> None:
        """Move the plain categorical fields of set ``m`` into the fused table."""
        if m == 0 and (fields := find_plain_fields(self._dict(0), self.embedding_dims)):
            sizes = [len(self._layers(0)[field].weight) for field in fields]
            self.table = make_table(fields, sizes, self.embedding_dims)
        if self.table is not None:
            self.table.absorb_set(m, self._dict(m))

    def _apply(self, fn: Callable, recurse: bool = True) -> "MultiEmbedding":
        """Move or convert as PyTorch's ``to``, ``double`` … do, without moving the views into the table separately."""
        if self.table is not None:
            self.table.drop_views()
        try:
            return super()._apply(fn, recurse)
        finally:
            if self.table is not None:
                self.table.make_views()

    def _dict(self, m: int) -> Any:
        """Return FuxiCTR's ``FeatureEmbeddingDict`` of set ``m``, which is untyped."""
        return self.sets[m].embedding_layer

    def _layers(self, m: int) -> dict[str, Any]:
        return dict(self._dict(m).embedding_layers.items())

    def _field_dim(self, field: str, embedding_dim: int) -> int:
        spec = self.feature_map.features[field]
        if spec["type"] == "sequence" and field not in self._dict(0).feature_encoders:
            raise UsageError(
                f"sequence field {field!r} has no feature_encoder, so it gives no single vector; "
                "set one, e.g. layers.MaskedAveragePooling()"
            )
        return spec.get("emb_output_dim", spec.get("embedding_dim", embedding_dim))

    def _share_frozen_tables(self) -> None:
        for m in range(1, self.num_sets):
            for field, layer in self._layers(m).items():
                if isinstance(layer, PretrainedEmbedding) and layer.freeze_emb:
                    layer.pretrain_embedding = self._layers(0)[field].pretrain_embedding

    def _find_id_error(self, X: Inputs) -> UsageError | None:
        """Return the error of the first field with an id outside its table."""
        for field in self.field_dims[0]:
            spec = self.feature_map.features[field]
            if field in X and spec["type"] in ID_TYPES:
                ids, size = X[field], spec["vocab_size"]
                if ids.min() < 0 or ids.max() >= size:
                    return id_range_error(field, ids, size)
        return None


def _table_of(layer: Any) -> Tensor:
    """Return the table (D, K) of FuxiCTR's layer of one field; of a pretrained field, what its ids look up."""
    if isinstance(layer, PretrainedEmbedding):
        weight = layer.pretrain_embedding.weight
        return layer(torch.arange(len(weight), device=weight.device)).detach()
    return layer.weight.detach()
