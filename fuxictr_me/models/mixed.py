"""A model whose sets differ in how their fields interact."""

from functools import partial

import torch
from torch import nn

from fuxictr_me.config.training_settings import check_bool, check_dropout
from fuxictr_me.errors import UsageError, unknown
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.models.dcnv2 import CrossedFields, cross_network
from fuxictr_me.models.dnn import SideBySide
from fuxictr_me.models.finalmlp import FusedStreams
from fuxictr_me.models.nfwfm import WeightedProducts
from fuxictr_me.models.pnn import FieldProducts
from fuxictr_me.models.xdeepfm import CompressedFields, check_cin
from fuxictr_me.nn import MLP

INTERACTIONS = ("DCNv2", "DNN", "FinalMLP", "NFwFM", "PNN", "xDeepFM")


class Mixed_ME(MultiEmbeddingModel):
    """The interaction of a model of its own per set -> the first hidden layer per set -> mean -> the rest of the MLP.

    Beyond the paper: heterogeneous interactions over multiple embeddings, as in Tencent's ads models (KDD
    2024, arXiv 2403.00793, section on HMoE); ``aggregation: gated`` adds their gate. What a model feeds to
    the hidden layers of its own is fed to the set's projection here:

    ===========  =============================================================================
    DCNv2        the cross network's output
    DNN          the embeddings
    FinalMLP     two streams of hidden layers, and the parts of their bilinear fusion
    NFwFM        the field-weighted products, normalised
    PNN          the inner products, with ``concat_embeddings`` the embeddings before them
    xDeepFM      the CIN's features and the embeddings
    ===========  =============================================================================

    Sets that follow one another and are alike are computed in one pass: order ``interactions`` so.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        interactions (list of str): one of the names above for each set; it gives ``num_sets``.
        hidden_units (list of int): the first is the width of the projection of every set.
        hidden_activations (str or list), net_dropout (float or list), batch_norm (bool): of these;
            ``batch_norm`` of FinalMLP's streams too.
        num_cross_layers (int), use_low_rank_mixture (bool), low_rank (int), num_experts (int): of DCNv2.
        cin_hidden_units (list of int), cin_activation (str or None): of xDeepFM.
        stream_hidden_units (list of int), stream_activations (str or list), stream_dropout (float or list),
            num_heads (int): of FinalMLP, both streams alike.
        interaction_dropout (float): of NFwFM, after the products.
        concat_embeddings (bool): of PNN.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    def __init__(
        self,
        feature_map,
        model_id="Mixed_ME",
        interactions=("DCNv2", "FinalMLP", "PNN"),
        num_sets=None,
        hidden_units=(400, 400),
        hidden_activations="ReLU",
        net_dropout=0,
        batch_norm=False,
        num_cross_layers=4,
        use_low_rank_mixture=False,
        low_rank=32,
        num_experts=4,
        cin_hidden_units=(16, 16),
        cin_activation="ReLU",
        stream_hidden_units=(400, 400),
        stream_activations="ReLU",
        stream_dropout=0,
        num_heads=1,
        interaction_dropout=0,
        concat_embeddings=False,
        **kwargs,
    ):
        if not isinstance(interactions, list | tuple) or not interactions:
            raise UsageError(f"interactions must be a list of one name for each set, got {interactions!r}")
        for name in interactions:
            if name not in INTERACTIONS:
                raise unknown("interaction", name, INTERACTIONS)
        if num_sets not in (None, len(interactions)):
            raise UsageError(f"interactions names {len(interactions)} sets, num_sets is {num_sets}")
        super().__init__(feature_map, model_id=model_id, num_sets=len(interactions), **kwargs)
        if self.shared_interaction and len(set(interactions)) > 1:
            raise UsageError(f"shared_interaction needs one interaction for all sets, got {list(interactions)}")
        check_cin(cin_hidden_units, cin_activation)
        check_dropout(interaction_dropout)
        check_bool("concat_embeddings", concat_embeddings)
        crossing = cross_network(num_cross_layers, use_low_rank_mixture, low_rank, num_experts)
        streams = MLP(stream_hidden_units, stream_activations, stream_dropout, batch_norm)
        makers = {
            "DCNv2": partial(CrossedFields, crossing=crossing, keep_raw=False),
            "DNN": SideBySide,
            "FinalMLP": partial(FusedStreams, mlp=streams, num_parts=num_heads),
            "NFwFM": partial(WeightedProducts, dropout=interaction_dropout),
            "PNN": partial(FieldProducts, concat_embeddings=concat_embeddings),
            "xDeepFM": partial(CompressedFields, maps=cin_hidden_units, activation=cin_activation, keep_raw=True),
        }
        joined = {name: partial(OneBranch, make=make) for name, make in makers.items()}
        self.assemble(
            [joined[name] for name in interactions],
            [MLP(hidden_units, hidden_activations, net_dropout, batch_norm)],
        )


class OneBranch(nn.Module):
    """The branches of an interaction module, side by side as one.

    Args:
        num_sets (int): M.
        field_dims (list of int): width of each field.
        make (callable): (num_sets, field_dims) -> the interaction module.
    """

    def __init__(self, num_sets, field_dims, make):
        super().__init__()
        self.inner = make(num_sets, field_dims)
        self.output_dims = [sum(self.inner.output_dims)]

    def forward(self, e):
        """(B, M, ΣK) -> [(B, M, ·)]."""
        return [torch.cat(self.inner(e), dim=-1)]
