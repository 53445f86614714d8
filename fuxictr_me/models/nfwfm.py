"""Multi-embedding NFwFM."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from fuxictr.features import FeatureMap
from torch import Tensor, nn

from fuxictr_me.config.training_settings import check_dropout
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.nn import MLP, FieldWeightedFM, PerChannel, require_one_dim


class NFwFM_ME(MultiEmbeddingModel):
    """Field-weighted products, BatchNorm, Dropout and the first hidden layer per set -> mean -> the rest of the MLP.

    Paper, section 5.1 (NFwFM), which is not part of FuxiCTR. The paper's base dimension for it is 50.

    Args:
        hidden_units: of the whole MLP; the first is the width of the projection.
        hidden_activations, net_dropout, batch_norm: of the MLP.
        interaction_dropout: rate after the products; None uses the first of ``net_dropout``.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        model_id: str = "NFwFM_ME",
        hidden_units: Sequence[int] = (400, 400),
        hidden_activations: str | Sequence[str] = "ReLU",
        net_dropout: float | Sequence[float] = 0,
        batch_norm: bool = False,
        interaction_dropout: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_map, model_id=model_id, **kwargs)
        dropout: Any = interaction_dropout
        if dropout is None:
            dropout = net_dropout[0] if isinstance(net_dropout, list | tuple) else net_dropout
        check_dropout(dropout)
        self.assemble(
            partial(WeightedProducts, dropout=dropout), [MLP(hidden_units, hidden_activations, net_dropout, batch_norm)]
        )


class WeightedProducts(nn.Module):
    """Σ_ij w_ij (e_i ⊙ e_j), BatchNorm, Dropout.

    Args:
        dropout: rate.

    Raises:
        UsageError: if fields have unequal dimensions.
    """

    def __init__(self, num_sets: int, field_dims: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        require_one_dim("field-weighted products", field_dims)
        self.num_fields, dim = len(field_dims), field_dims[0]
        self.products = FieldWeightedFM(num_sets, len(field_dims))
        self.norm = PerChannel(nn.BatchNorm1d(num_sets * dim))
        self.dropout = nn.Dropout(dropout)
        self.output_dims = [dim]

    def forward(self, e: Tensor) -> list[Tensor]:
        """(B, M, ΣK) -> [(B, M, K)]."""
        return [self.dropout(self.norm(self.products(e.unflatten(-1, (self.num_fields, -1)))))]

    def field_pair_norms(self) -> Tensor:
        """Return ‖W_{i→j}‖²_F with W_{i→j} = w_ij I, of each set: (M, 1, F, F)."""
        return self.output_dims[0] * self.products.weight.square().unsqueeze(1)
