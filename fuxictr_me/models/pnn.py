"""Multi-embedding PNN with inner products (IPNN)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from fuxictr.features import FeatureMap
from torch import Tensor, nn

from fuxictr_me.config.training_settings import check_bool
from fuxictr_me.errors import unknown
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.nn import MLP, InnerProduct, require_one_dim


class PNN_ME(MultiEmbeddingModel):
    """Inner products per set -> the first hidden layer per set -> mean -> the rest of the MLP.

    Paper, section 5.1 (IPNN). There the single-embedding model also feeds the embeddings themselves to its
    MLP, and the multi-embedding model does not: the two are not like for like unless ``concat_embeddings``
    is set. With ``num_sets=1`` this is FuxiCTR's ``PNN``.

    Args:
        hidden_units: of the whole MLP; the first is the width of the projection.
        hidden_activations, net_dropout, batch_norm: as in FuxiCTR's PNN.
        product_type: ``inner``, the only type that FuxiCTR has.
        concat_embeddings: feed the embeddings beside their products. None is the paper's
            choice: True in a single-embedding model, False with more sets.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        model_id: str = "PNN_ME",
        hidden_units: Sequence[int] = (64, 64, 64),
        hidden_activations: str | Sequence[str] = "ReLU",
        net_dropout: float | Sequence[float] = 0,
        batch_norm: bool = False,
        product_type: str = "inner",
        concat_embeddings: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_map, model_id=model_id, **kwargs)
        if product_type != "inner":
            raise unknown("product_type", product_type, ["inner"])
        if concat_embeddings is None:
            concat_embeddings = self.is_single
        check_bool("concat_embeddings", concat_embeddings)
        self.assemble(
            partial(FieldProducts, concat_embeddings=concat_embeddings),
            [MLP(hidden_units, hidden_activations, net_dropout, batch_norm)],
        )


class FieldProducts(nn.Module):
    """All inner products of two fields, and optionally the embeddings before them.

    Args:
        concat_embeddings: feed the embeddings too.

    Raises:
        UsageError: if fields have unequal dimensions.
    """

    def __init__(self, num_sets: int, field_dims: Sequence[int], concat_embeddings: bool = False) -> None:
        super().__init__()
        require_one_dim("inner products", field_dims)
        self.num_fields, self.concat_embeddings = len(field_dims), concat_embeddings
        self.products = InnerProduct(len(field_dims))
        self.output_dims = [self.products.output_dim + (sum(field_dims) if concat_embeddings else 0)]

    def forward(self, e: Tensor) -> list[Tensor]:
        """(B, M, ΣK) -> [(B, M, F(F - 1)/2)], or [(B, M, ΣK + F(F - 1)/2)] with the embeddings."""
        products = self.products(e.unflatten(-1, (self.num_fields, -1)))
        return [torch.cat([e, products], dim=-1) if self.concat_embeddings else products]
