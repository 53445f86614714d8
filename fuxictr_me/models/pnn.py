"""PNN with inner products (IPNN), multi-embedding."""

from functools import partial

import torch
from torch import nn

from fuxictr_me.config.training_settings import check_bool
from fuxictr_me.errors import unknown
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.nn import MLP, InnerProduct, require_one_dim


class PNN_ME(MultiEmbeddingModel):
    """Inner products per set -> the first hidden layer per set -> mean -> the rest of the MLP.

    Paper, section 5.1 (IPNN). There the single-embedding model also feeds the embeddings themselves to its
    MLP, and the multi-embedding one does not: the two are not like for like unless ``concat_embeddings``
    is set. With ``num_sets=1`` this is FuxiCTR's ``PNN``.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        hidden_units (list of int): of the whole MLP; the first is the width of the projection.
        hidden_activations (str or list), net_dropout (float or list), batch_norm (bool): as FuxiCTR's PNN.
        product_type (str): ``inner``, the only one that FuxiCTR has.
        concat_embeddings (bool or None): feed the embeddings beside their products. None is the paper's
            choice: true in a single-embedding model, false with more sets.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    def __init__(
        self,
        feature_map,
        model_id="PNN_ME",
        hidden_units=(64, 64, 64),
        hidden_activations="ReLU",
        net_dropout=0,
        batch_norm=False,
        product_type="inner",
        concat_embeddings=None,
        **kwargs,
    ):
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
    """All inner products of two fields, with the embeddings before them where they are fed too.

    Args:
        num_sets (int): M.
        field_dims (list of int): width of each field.
        concat_embeddings (bool): feed the embeddings too.

    Raises:
        UsageError: fields of unequal dimension.
    """

    def __init__(self, num_sets, field_dims, concat_embeddings=False):
        super().__init__()
        require_one_dim("inner products", field_dims)
        self.num_fields, self.concat_embeddings = len(field_dims), concat_embeddings
        self.products = InnerProduct(len(field_dims))
        self.output_dims = [self.products.output_dim + (sum(field_dims) if concat_embeddings else 0)]

    def forward(self, e):
        """(B, M, ΣK) -> [(B, M, F(F - 1)/2)], with ΣK before it where embeddings are fed too."""
        products = self.products(e.unflatten(-1, (self.num_fields, -1)))
        return [torch.cat([e, products], dim=-1) if self.concat_embeddings else products]
