"""A model whose sets differ in the interaction of their fields."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from fuxictr.features import FeatureMap
from torch import Tensor, nn

from fuxictr_me.config.training_settings import check_bool, check_dropout
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.models.assembly import InteractionMaker
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.models.dcnv2 import CrossedFields, choose_cross_network
from fuxictr_me.models.dnn import FlatEmbeddings
from fuxictr_me.models.finalmlp import FusedStreams
from fuxictr_me.models.nfwfm import WeightedProducts
from fuxictr_me.models.pnn import FieldProducts
from fuxictr_me.models.xdeepfm import CompressedFields, check_cin
from fuxictr_me.nn import MLP

INTERACTIONS = ("DCNv2", "DNN", "FinalMLP", "NFwFM", "PNN", "xDeepFM")


class Mixed_ME(MultiEmbeddingModel):
    """The interaction of a chosen model per set -> the first hidden layer per set -> mean -> the rest of the MLP.

    Beyond the paper: heterogeneous interactions over multiple embeddings, as in Tencent's ads models (KDD
    2024, arXiv 2403.00793, section on HMoE); ``aggregation: gated`` adds their gate. What each model feeds to
    its own hidden layers is fed to the set's projection here:

    ===========  =============================================================================
    DCNv2        the cross network's output
    DNN          the embeddings
    FinalMLP     two streams of hidden layers, and the parts of their bilinear fusion
    NFwFM        the field-weighted products, normalised
    PNN          the inner products, with ``concat_embeddings`` the embeddings before them
    xDeepFM      the CIN's features and the embeddings
    ===========  =============================================================================

    Consecutive sets that are alike are computed in one pass, so list equal ``interactions`` one after the other.

    Args:
        interactions: one of the names above for each set; their number is ``num_sets``.
        hidden_units: the first is the width of the projection of every set.
        hidden_activations, net_dropout, batch_norm: of these layers;
            ``batch_norm`` also of FinalMLP's streams.
        num_cross_layers, use_low_rank_mixture, low_rank, num_experts: of DCNv2.
        cin_hidden_units, cin_activation: of xDeepFM.
        stream_hidden_units, stream_activations, stream_dropout, num_heads: of FinalMLP; both streams are alike.
        interaction_dropout: of NFwFM, after the products.
        concat_embeddings: of PNN.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        model_id: str = "Mixed_ME",
        interactions: Sequence[str] = ("DCNv2", "FinalMLP", "PNN"),
        num_sets: int | None = None,
        hidden_units: Sequence[int] = (400, 400),
        hidden_activations: str | Sequence[str] = "ReLU",
        net_dropout: float | Sequence[float] = 0,
        batch_norm: bool = False,
        num_cross_layers: int = 4,
        use_low_rank_mixture: bool = False,
        low_rank: int = 32,
        num_experts: int = 4,
        cin_hidden_units: Sequence[int] = (16, 16),
        cin_activation: str | None = "ReLU",
        stream_hidden_units: Sequence[int] = (400, 400),
        stream_activations: str | Sequence[str] = "ReLU",
        stream_dropout: float | Sequence[float] = 0,
        num_heads: int = 1,
        interaction_dropout: float = 0,
        concat_embeddings: bool = False,
        **kwargs: Any,
    ) -> None:
        _check_interactions(interactions, num_sets)
        super().__init__(feature_map, model_id=model_id, num_sets=len(interactions), **kwargs)
        if self.shared_interaction and len(set(interactions)) > 1:
            raise UsageError(f"shared_interaction needs one interaction for all sets, got {list(interactions)}")
        check_cin(cin_hidden_units, cin_activation)
        check_dropout(interaction_dropout)
        check_bool("concat_embeddings", concat_embeddings)
        make_network = choose_cross_network(num_cross_layers, use_low_rank_mixture, low_rank, num_experts)
        streams = MLP(stream_hidden_units, stream_activations, stream_dropout, batch_norm)
        makers: dict[str, InteractionMaker] = {
            "DCNv2": partial(CrossedFields, make_network=make_network, keep_raw=False),
            "DNN": FlatEmbeddings,
            "FinalMLP": partial(FusedStreams, mlp=streams, num_parts=num_heads),
            "NFwFM": partial(WeightedProducts, dropout=interaction_dropout),
            "PNN": partial(FieldProducts, concat_embeddings=concat_embeddings),
            "xDeepFM": partial(CompressedFields, maps=cin_hidden_units, activation=cin_activation, keep_raw=True),
        }
        joined = {name: partial(OneBranch, make=make) for name, make in makers.items()}
        self.assemble(
            [joined[name] for name in interactions], [MLP(hidden_units, hidden_activations, net_dropout, batch_norm)]
        )


def _check_interactions(interactions: object, num_sets: int | None) -> None:
    if not isinstance(interactions, list | tuple) or not interactions:
        raise UsageError(f"interactions must be a list of one name for each set, got {interactions!r}")
    for name in interactions:
        if name not in INTERACTIONS:
            raise unknown("interaction", name, INTERACTIONS)
    if num_sets not in (None, len(interactions)):
        raise UsageError(f"interactions names {len(interactions)} sets, num_sets is {num_sets}")


class OneBranch(nn.Module):
    """The branches of an interaction module, side by side as one.

    Args:
        make: makes the interaction module.
    """

    def __init__(self, num_sets: int, field_dims: list[int], make: InteractionMaker) -> None:
        super().__init__()
        self.inner = make(num_sets, field_dims)
        self.output_dims = [sum(self.inner.output_dims)]

    def forward(self, e: Tensor) -> list[Tensor]:
        """(B, M, ΣK) -> [(B, M, ·)]."""
        return [torch.cat(self.inner(e), dim=-1)]
