"""NFwFM, multi-embedding."""

from torch import nn

from fuxictr_me.interactions import FieldWeightedFM, PerChannel
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.models.towers import build_towers
from fuxictr_me.settings import check_dropout


class NFwFM_ME(MultiEmbeddingModel):
    """Field-weighted products, BatchNorm, Dropout and the first hidden layer per set -> mean -> the rest of the MLP.

    Paper, section 5.1 (NFwFM), which FuxiCTR has not. The paper's base dimension for it is 50.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        hidden_units (list of int): of the whole MLP; the first is the width of the projection.
        hidden_activations (str or list), net_dropout (float or list), batch_norm (bool): of the MLP.
        interaction_dropout (float or None): after the products; None takes ``net_dropout``'s first.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    fields_apart = True

    def __init__(
        self,
        feature_map,
        model_id="NFwFM_ME",
        hidden_units=(400, 400),
        hidden_activations="ReLU",
        net_dropout=0,
        batch_norm=False,
        interaction_dropout=None,
        **kwargs,
    ):
        super().__init__(feature_map, model_id=model_id, **kwargs)
        field_dims = self.embedding_layer.field_dims
        dim = next(iter(field_dims.values()))
        if interaction_dropout is None:
            interaction_dropout = net_dropout[0] if isinstance(net_dropout, list | tuple) else net_dropout
        check_dropout(interaction_dropout)
        self.products = nn.Sequential(
            FieldWeightedFM(self.num_sets, len(field_dims)),
            PerChannel(nn.BatchNorm1d(self.num_sets * dim)),
            nn.Dropout(interaction_dropout),
        )
        self.projection, self.head = build_towers(
            self.num_sets, [(dim, hidden_units)], hidden_activations, net_dropout, batch_norm
        )
        self.finish()

    def interact(self, e):
        """(B, M, F, K) -> [(B, M, K)]."""
        return [self.products(e)]
