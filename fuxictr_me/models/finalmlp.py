"""FinalMLP, multi-embedding."""

from functools import partial

import torch
from torch import nn

from fuxictr_me.config.training_settings import check_bool
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.nn import MLP, SetLinear
from fuxictr_me.nn.embedding_sets import MultiEmbedding
from fuxictr_me.nn.head import BilinearFusion, BilinearParts
from fuxictr_me.nn.padded_widths import loadable_width, pad_columns


class FinalMLP_ME(MultiEmbeddingModel):
    """Two MLPs per set -> the mean of each over the sets -> one shared bilinear fusion.

    Paper, section 5.1 (FinalMLP): both streams are whole MLPs of each set, without feature selection. With
    ``num_sets=1`` this is FuxiCTR's ``FinalMLP``.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        mlp1_hidden_units, mlp2_hidden_units (list of int): of the two streams.
        mlp1_hidden_activations, mlp1_dropout, mlp1_batch_norm, and the same of mlp2: as FuxiCTR's.
        use_fs (bool): gate the embeddings of each set before either stream (FuxiCTR's feature selection).
        fs_hidden_units (list of int): of the gates' MLPs.
        fs1_context, fs2_context (list of str): the fields that a gate looks at, through an embedding of its
            own in each set; none: a learned vector.
        num_heads (int): the fusion splits both streams into as many parts; the paper has one.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    def __init__(
        self,
        feature_map,
        model_id="FinalMLP_ME",
        mlp1_hidden_units=(400, 400),
        mlp1_hidden_activations="ReLU",
        mlp1_dropout=0,
        mlp1_batch_norm=False,
        mlp2_hidden_units=(400, 400),
        mlp2_hidden_activations="ReLU",
        mlp2_dropout=0,
        mlp2_batch_norm=False,
        use_fs=False,
        fs_hidden_units=(64,),
        fs1_context=(),
        fs2_context=(),
        num_heads=1,
        **kwargs,
    ):
        super().__init__(feature_map, model_id=model_id, **kwargs)
        mlps = [
            MLP(mlp1_hidden_units, mlp1_hidden_activations, mlp1_dropout, mlp1_batch_norm),
            MLP(mlp2_hidden_units, mlp2_hidden_activations, mlp2_dropout, mlp2_batch_norm),
        ]
        check_bool("use_fs", use_fs)
        named = {"fs1_context": fs1_context, "fs2_context": fs2_context}
        contexts = [self._checked_context(name, fields) for name, fields in named.items()]
        if not use_fs and any(contexts):
            raise UsageError("fs1_context and fs2_context are what feature selection looks at: set use_fs: True")
        self.contexts = nn.ModuleList(self._embed(fields) for fields in contexts if fields)
        self.assemble(
            partial(self._two_streams, contexts if use_fs else None, fs_hidden_units),
            mlps,
            depth=None,
            join=partial(BilinearFusion, num_parts=num_heads),
        )

    def interact(self, e, X):
        """e, and the embeddings of the gates' contexts -> the inputs of the two streams, for each group."""
        contexts = [context.look_up_groups(X, self.groups) for context in self.contexts]
        return self.interaction(e, *contexts)

    def _embed(self, fields):
        dims = self.embedding_layer.embedding_dims
        return MultiEmbedding(
            self.feature_map,
            dims,
            embedding_initializer=self.embedding_initializer,
            required_feature_columns=fields,
            fused=self.fused_embedding,
            table=self.fused_table,
        )

    def _checked_context(self, name, fields):
        known = self.embedding_layer.field_dims[0]
        for field in fields or ():
            if field not in known:
                raise unknown(f"field in {name}", field, known)
        return list(fields or ())

    def _two_streams(self, contexts, fs_hidden_units, num_sets, field_dims):
        if contexts is None:
            return TwoStreams(num_sets, field_dims)
        widths = dict(zip(self.embedding_layer.field_dims[0], field_dims, strict=True))
        context_dims = [sum(widths[field] for field in fields) for fields in contexts]
        return TwoStreams(
            num_sets, field_dims, [ContextGate(num_sets, dim, field_dims, fs_hidden_units) for dim in context_dims]
        )


class TwoStreams(nn.Module):
    """The embeddings for each of two streams, gated where there is feature selection.

    Args:
        num_sets (int): M.
        field_dims (list of int): width of each field.
        gates (list of ContextGate or None): one a stream.
    """

    def __init__(self, num_sets, field_dims, gates=None):
        super().__init__()
        self.gates = nn.ModuleList(gates) if gates else None
        self.output_dims = [sum(field_dims)] * 2

    def forward(self, e, *contexts):
        """e (B, M, ΣK), and (B, M, ·) for each gate that looks at fields -> [(B, M, ΣK)] * 2, or wider by zeros."""
        if self.gates is None:
            return [pad_columns(e, loadable_width(e.shape[-1], e.device))] * 2
        contexts = iter(contexts)
        return [e * gate(next(contexts) if gate.own_context is None else None, e.shape[0]) for gate in self.gates]


class FusedStreams(nn.Module):
    """FinalMLP inside one set: two streams of hidden layers, and the parts of their bilinear fusion.

    A linear map of the three is FinalMLP's fusion, but for one factor a part in place of a W of its own.

    Args:
        num_sets (int): M.
        field_dims (list of int): width of each field.
        mlp (MLP): of either stream.
        num_parts (int): of the fusion (FuxiCTR's ``num_heads``).
    """

    def __init__(self, num_sets, field_dims, mlp, num_parts=1):
        super().__init__()
        self.streams = nn.ModuleList(nn.Sequential(*mlp.layers(num_sets, sum(field_dims))) for _ in range(2))
        self.bilinear = BilinearParts(num_sets, [mlp.units[-1]] * 2, num_parts)
        self.output_dims = [mlp.units[-1], mlp.units[-1], num_parts]

    def forward(self, e):
        """(B, M, ΣK) -> [(B, M, H), (B, M, H), (B, M, parts)]."""
        e = pad_columns(e, loadable_width(e.shape[-1], e.device))  # once for both
        x, y = (stream(e) for stream in self.streams)
        return [x, y, self.bilinear(x, y)]


class ContextGate(nn.Module):
    """2 sigmoid(MLP(context)), a factor from 0 to 2 for each entry of an embedding (FuxiCTR's FinalMLP).

    Args:
        num_sets (int): M.
        context_dim (int): width of the context; 0: a learned vector of the width of a field, which starts at 0.
        field_dims (list of int): width of each field.
        hidden_units (list of int): of the MLP, with ReLU; may be empty.
    """

    def __init__(self, num_sets, context_dim, field_dims, hidden_units):
        super().__init__()
        self.own_context = None if context_dim else nn.Parameter(torch.zeros(num_sets, field_dims[0]))
        width = context_dim or field_dims[0]
        hidden = MLP(hidden_units).layers(num_sets, width) if hidden_units else []
        last = SetLinear(num_sets, hidden_units[-1] if hidden_units else width, sum(field_dims))
        self.mlp = nn.Sequential(*hidden, last)

    def forward(self, context, rows):
        """(B, M, context_dim), or None where the context is a learned vector -> (B, M, ΣK)."""
        if context is None:
            context = self.own_context.expand(rows, -1, -1)
        return 2 * self.mlp(context).sigmoid()
