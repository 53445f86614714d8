"""Multi-embedding FinalMLP."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from fuxictr.features import FeatureMap
from torch import Tensor, nn

from fuxictr_me.config.training_settings import check_bool
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.nn import MLP, SetLinear
from fuxictr_me.nn.embedding_sets import Inputs
from fuxictr_me.nn.head import BilinearFusion, BilinearParts
from fuxictr_me.nn.padded_widths import loadable_width, pad_columns


class FinalMLP_ME(MultiEmbeddingModel):
    """Two MLPs per set -> the mean of each over the sets -> one shared bilinear fusion.

    Paper, section 5.1 (FinalMLP): both streams are whole MLPs of each set, without feature selection. With
    ``num_sets=1`` this is FuxiCTR's ``FinalMLP``.

    Args:
        mlp1_hidden_units, mlp2_hidden_units: of the two streams.
        mlp1_hidden_activations, mlp1_dropout, mlp1_batch_norm, and the same of mlp2: as in FuxiCTR's.
        use_fs: gate the embeddings of each set before either stream (FuxiCTR's feature selection).
        fs_hidden_units: of the gates' MLPs.
        fs1_context, fs2_context: fields on which a gate depends, through separate embeddings in each set; none: a
            learned vector.
        num_heads: number of parts into which the fusion splits both streams; 1 in the paper.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    contexts: Any  # a ModuleList of MultiEmbedding, whose items PyTorch types as Module

    def __init__(
        self,
        feature_map: FeatureMap,
        model_id: str = "FinalMLP_ME",
        mlp1_hidden_units: Sequence[int] = (400, 400),
        mlp1_hidden_activations: str | Sequence[str] = "ReLU",
        mlp1_dropout: float | Sequence[float] = 0,
        mlp1_batch_norm: bool = False,
        mlp2_hidden_units: Sequence[int] = (400, 400),
        mlp2_hidden_activations: str | Sequence[str] = "ReLU",
        mlp2_dropout: float | Sequence[float] = 0,
        mlp2_batch_norm: bool = False,
        use_fs: bool = False,
        fs_hidden_units: Sequence[int] = (64,),
        fs1_context: Sequence[str] = (),
        fs2_context: Sequence[str] = (),
        num_heads: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_map, model_id=model_id, **kwargs)
        mlps = [
            MLP(mlp1_hidden_units, mlp1_hidden_activations, mlp1_dropout, mlp1_batch_norm),
            MLP(mlp2_hidden_units, mlp2_hidden_activations, mlp2_dropout, mlp2_batch_norm),
        ]
        check_bool("use_fs", use_fs)
        contexts = [self._check_context("fs1_context", fs1_context), self._check_context("fs2_context", fs2_context)]
        if not use_fs and any(contexts):
            raise UsageError("fs1_context and fs2_context belong to feature selection: set use_fs: True")
        dims = self.embedding_layer.embedding_dims
        self.contexts = nn.ModuleList(self.build_embedding(dims, fields=fields) for fields in contexts if fields)
        self.assemble(
            partial(self._build_streams, contexts if use_fs else None, fs_hidden_units),
            mlps,
            depth=None,
            join=partial(BilinearFusion, num_parts=num_heads),
        )

    def interact(self, e: list[Tensor], X: Inputs) -> list[list[Tensor]]:
        """Compute the inputs of the two streams for each group from e and the embeddings of the gates' contexts."""
        contexts = [context.look_up_groups(X, self.groups) for context in self.contexts]
        return self.interaction(e, *contexts)

    def _check_context(self, name: str, fields: Sequence[str] | None) -> list[str]:
        known = self.embedding_layer.field_dims[0]
        for field in fields or ():
            if field not in known:
                raise unknown(f"field in {name}", field, known)
        return list(fields or ())

    def _build_streams(
        self, contexts: list[list[str]] | None, fs_hidden_units: Sequence[int], num_sets: int, field_dims: list[int]
    ) -> "TwoStreams":
        if contexts is None:
            return TwoStreams(num_sets, field_dims)
        widths = dict(zip(self.embedding_layer.field_dims[0], field_dims, strict=True))
        context_dims = [sum(widths[field] for field in fields) for fields in contexts]
        gates = [ContextGate(num_sets, dim, field_dims, fs_hidden_units) for dim in context_dims]
        return TwoStreams(num_sets, field_dims, gates)


class TwoStreams(nn.Module):
    """The embeddings for each of two streams, gated if there is feature selection.

    Args:
        gates: one for each stream, or None.
    """

    def __init__(self, num_sets: int, field_dims: Sequence[int], gates: Sequence["ContextGate"] | None = None) -> None:
        super().__init__()
        self.gates = nn.ModuleList(gates) if gates else None
        self.output_dims = [sum(field_dims)] * 2

    def forward(self, e: Tensor, *contexts: Tensor) -> list[Tensor]:
        """e (B, M, ΣK), and (B, M, ·) for each gate with context fields -> two (B, M, ΣK); zeros may follow them."""
        if self.gates is None:
            return [pad_columns(e, loadable_width(e.shape[-1], e.device))] * 2
        remaining = iter(contexts)
        return [e * gate(next(remaining) if gate.own_context is None else None, e.shape[0]) for gate in self.gates]


class FusedStreams(nn.Module):
    """FinalMLP inside one set: two streams of hidden layers, and the parts of their bilinear fusion.

    A linear map of the three is FinalMLP's fusion, except that each part has one factor instead of its own W.

    Args:
        mlp: of either stream.
        num_parts: of the fusion (FuxiCTR's ``num_heads``).
    """

    def __init__(self, num_sets: int, field_dims: Sequence[int], mlp: MLP, num_parts: int = 1) -> None:
        super().__init__()
        self.streams = nn.ModuleList(nn.Sequential(*mlp.layers(num_sets, sum(field_dims))) for _ in range(2))
        self.bilinear = BilinearParts(num_sets, [mlp.units[-1]] * 2, num_parts)
        self.output_dims = [mlp.units[-1], mlp.units[-1], num_parts]

    def forward(self, e: Tensor) -> list[Tensor]:
        """(B, M, ΣK) -> [(B, M, H), (B, M, H), (B, M, parts)]."""
        e = pad_columns(e, loadable_width(e.shape[-1], e.device))  # once for both streams
        x, y = (stream(e) for stream in self.streams)
        return [x, y, self.bilinear(x, y)]


class ContextGate(nn.Module):
    """2 sigmoid(MLP(context)), a factor from 0 to 2 for each entry of an embedding (FuxiCTR's FinalMLP).

    Args:
        context_dim: width of the context; 0: a learned vector of the width of a field, which starts at 0.
        hidden_units: of the MLP, with ReLU; may be empty.
    """

    def __init__(self, num_sets: int, context_dim: int, field_dims: Sequence[int], hidden_units: Sequence[int]) -> None:
        super().__init__()
        self.own_context = None if context_dim else nn.Parameter(torch.zeros(num_sets, field_dims[0]))
        width = context_dim or field_dims[0]
        hidden = MLP(hidden_units).layers(num_sets, width) if hidden_units else []
        last = SetLinear(num_sets, hidden_units[-1] if hidden_units else width, sum(field_dims))
        self.mlp = nn.Sequential(*hidden, last)

    def forward(self, context: Tensor | None, rows: int) -> Tensor:
        """(B, M, context_dim), or None if the context is the learned vector -> (B, M, ΣK)."""
        if self.own_context is not None:
            context = self.own_context.expand(rows, -1, -1)
        return 2 * self.mlp(context).sigmoid()
