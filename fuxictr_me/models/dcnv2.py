"""DCNv2, multi-embedding."""

from functools import partial

from torch import nn

from fuxictr_me.config.training_settings import check_bool
from fuxictr_me.errors import UsageError, check_positive_int, unknown
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.nn import MLP, CrossNetwork, CrossNetworkMix

MODEL_STRUCTURES = ("crossnet_only", "stacked", "parallel", "stacked_parallel")


class DCNv2_ME(MultiEmbeddingModel):
    """A cross network per set -> the first hidden layer per set -> mean -> the rest of the MLP.

    That is the paper's DCNv2 (section 5.1), ``model_structure="stacked"``. FuxiCTR's other structures are
    made multi-embedding as the paper makes xDeepFM, whose branches meet at the logit: every branch is
    averaged over the sets by itself, a DNN after its first hidden layer, a cross network as it comes out.
    ``crossnet_only`` therefore has no non-linear projection before the mean; the paper's argument for ME
    rests on one, so expect less of it.

    With ``num_sets=1`` each structure is FuxiCTR's ``DCNv2``.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        model_structure (str): ``stacked``, ``parallel``, ``stacked_parallel`` or ``crossnet_only``. The
            default is the paper's, not FuxiCTR's ``parallel``.
        use_low_rank_mixture (bool), low_rank (int), num_experts (int): FuxiCTR's ``CrossNetMix`` per set.
        stacked_dnn_hidden_units, parallel_dnn_hidden_units (list of int): of the whole DNN of a branch;
            the first is the width of its projection.
        num_cross_layers (int): of the cross network.
        field_weights (bool): multiply each block W_{i→j} of the cross layers by a learned number that starts
            at 1. With ``restricted_interaction_regularizer`` it is the authors' restricted DCNv2.
        dnn_activations (str or list), net_dropout (float or list), batch_norm (bool): of the DNNs.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    def __init__(
        self,
        feature_map,
        model_id="DCNv2_ME",
        model_structure="stacked",
        use_low_rank_mixture=False,
        low_rank=32,
        num_experts=4,
        stacked_dnn_hidden_units=(400, 400),
        parallel_dnn_hidden_units=(400, 400),
        dnn_activations="ReLU",
        num_cross_layers=4,
        field_weights=False,
        net_dropout=0,
        batch_norm=False,
        **kwargs,
    ):
        super().__init__(feature_map, model_id=model_id, **kwargs)
        if model_structure not in MODEL_STRUCTURES:
            raise unknown("model_structure", model_structure, MODEL_STRUCTURES)
        crossing = cross_network(num_cross_layers, use_low_rank_mixture, low_rank, num_experts, field_weights)
        crossed = stacked_dnn_hidden_units if "stacked" in model_structure else None
        branches = [crossed, parallel_dnn_hidden_units] if "parallel" in model_structure else [crossed]
        self.assemble(
            partial(CrossedFields, crossing=crossing, keep_raw="parallel" in model_structure),
            [None if units is None else MLP(units, dnn_activations, net_dropout, batch_norm) for units in branches],
        )


def cross_network(num_cross_layers, use_low_rank_mixture=False, low_rank=32, num_experts=4, field_weights=False):
    """(num_sets, field_dims) -> the cross network of these settings.

    Raises:
        UsageError: settings that cannot be, alone or together.
    """
    check_positive_int("num_cross_layers", num_cross_layers)
    check_bool("use_low_rank_mixture", use_low_rank_mixture)
    check_bool("field_weights", field_weights)
    if not use_low_rank_mixture:
        return partial(CrossNetwork, num_layers=num_cross_layers, field_weights=field_weights)
    if field_weights:
        raise UsageError("field_weights needs full-matrix cross layers: use_low_rank_mixture must be False")
    check_positive_int("low_rank", low_rank)
    check_positive_int("num_experts", num_experts)
    return partial(CrossNetworkMix, num_layers=num_cross_layers, low_rank=low_rank, num_experts=num_experts)


class CrossedFields(nn.Module):
    """The cross network's output, and the embeddings themselves beside it for a parallel DNN.

    Args:
        num_sets (int): M.
        field_dims (list of int): width of each field.
        crossing (callable): (num_sets, field_dims) -> the cross network.
        keep_raw (bool): a second branch, the embeddings.
    """

    def __init__(self, num_sets, field_dims, crossing, keep_raw):
        super().__init__()
        self.crossnet = crossing(num_sets, field_dims)
        self.crossnet.keeps_padding = True
        self.keep_raw = keep_raw
        self.output_dims = [sum(field_dims)] * (1 + keep_raw)

    def forward(self, e):
        """(B, M, ΣK) -> [crossed], or [crossed, e]; on a GPU ``crossed`` may have further columns of zeros."""
        crossed = self.crossnet(e)
        return [crossed, e] if self.keep_raw else [crossed]
