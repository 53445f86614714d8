"""DCNv2, multi-embedding."""

from fuxictr_me.errors import positive_int, unknown
from fuxictr_me.interactions import CrossNetwork, CrossNetworkMix
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.models.towers import build_towers
from fuxictr_me.settings import check_bool

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
        net_dropout=0,
        batch_norm=False,
        **kwargs,
    ):
        super().__init__(feature_map, model_id=model_id, **kwargs)
        if model_structure not in MODEL_STRUCTURES:
            raise unknown("model_structure", model_structure, MODEL_STRUCTURES)
        positive_int("num_cross_layers", num_cross_layers)
        check_bool("use_low_rank_mixture", use_low_rank_mixture)
        self.model_structure = model_structure
        input_dim = self.embedding_layer.output_dim
        if use_low_rank_mixture:
            positive_int("low_rank", low_rank)
            positive_int("num_experts", num_experts)
            self.crossnet = CrossNetworkMix(self.num_sets, input_dim, num_cross_layers, low_rank, num_experts)
        else:
            self.crossnet = CrossNetwork(self.num_sets, input_dim, num_cross_layers)
        crossed = stacked_dnn_hidden_units if "stacked" in model_structure else None
        branches = [(input_dim, crossed)]
        if "parallel" in model_structure:
            branches.append((input_dim, parallel_dnn_hidden_units))
        self.projection, self.head = build_towers(self.num_sets, branches, dnn_activations, net_dropout, batch_norm)
        self.finish()

    def interact(self, e):
        """(B, M, ΣK) -> [crossed], and e itself beside it for a parallel DNN."""
        crossed = self.crossnet(e)
        return [crossed, e] if "parallel" in self.model_structure else [crossed]
