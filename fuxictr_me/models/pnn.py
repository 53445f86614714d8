"""PNN with inner products (IPNN), multi-embedding."""

import torch

from fuxictr_me.errors import unknown
from fuxictr_me.interactions import InnerProduct
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.models.towers import build_towers
from fuxictr_me.settings import check_bool


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
            choice: true with one set, false with more.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    fields_apart = True

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
            concat_embeddings = self.num_sets == 1
        check_bool("concat_embeddings", concat_embeddings)
        self.concat_embeddings = concat_embeddings
        self.products = InnerProduct(len(self.embedding_layer.field_dims))
        input_dim = self.products.output_dim + (self.embedding_layer.output_dim if concat_embeddings else 0)
        self.projection, self.head = build_towers(
            self.num_sets, [(input_dim, hidden_units)], hidden_activations, net_dropout, batch_norm
        )
        self.finish()

    def interact(self, e):
        """(B, M, F, K) -> [(B, M, F(F - 1)/2)], with ΣK before it where embeddings are fed too."""
        products = self.products(e)
        return [torch.cat([e.flatten(2), products], dim=-1) if self.concat_embeddings else products]
