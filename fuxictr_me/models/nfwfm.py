"""NFwFM, multi-embedding."""

from functools import partial

from torch import nn

from fuxictr_me.config.training_settings import check_dropout
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.nn import MLP, FieldWeightedFM, PerChannel, require_one_dim


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
        if interaction_dropout is None:
            interaction_dropout = net_dropout[0] if isinstance(net_dropout, list | tuple) else net_dropout
        check_dropout(interaction_dropout)
        self.assemble(
            partial(WeightedProducts, dropout=interaction_dropout),
            [MLP(hidden_units, hidden_activations, net_dropout, batch_norm)],
        )


class WeightedProducts(nn.Module):
    """Σ_ij w_ij (e_i ⊙ e_j), BatchNorm, Dropout.

    Args:
        num_sets (int): M.
        field_dims (list of int): width of each field.
        dropout (float): rate.

    Raises:
        UsageError: fields of unequal dimension.
    """

    def __init__(self, num_sets, field_dims, dropout=0.0):
        super().__init__()
        require_one_dim("field-weighted products", field_dims)
        self.num_fields, dim = len(field_dims), field_dims[0]
        self.products = FieldWeightedFM(num_sets, len(field_dims))
        self.norm = PerChannel(nn.BatchNorm1d(num_sets * dim))
        self.dropout = nn.Dropout(dropout)
        self.output_dims = [dim]

    def forward(self, e):
        """(B, M, ΣK) -> [(B, M, K)]."""
        return [self.dropout(self.norm(self.products(e.unflatten(-1, (self.num_fields, -1)))))]

    def field_pair_norms(self):
        """‖W_{i→j}‖²_F with W_{i→j} = w_ij I, of each set: (M, 1, F, F)."""
        return self.output_dims[0] * self.products.weight.square().unsqueeze(1)
