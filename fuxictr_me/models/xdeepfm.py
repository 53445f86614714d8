"""xDeepFM, multi-embedding."""

from fuxictr.pytorch.layers import LogisticRegression

from fuxictr_me.errors import UsageError, positive_int
from fuxictr_me.interactions import CompressedInteraction
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.models.towers import build_towers
from fuxictr_me.settings import check_activation, check_bool


class xDeepFM_ME(MultiEmbeddingModel):
    """A CIN per set, its features averaged before one linear layer; a DNN as in DNN_ME; logits added.

    Paper, section 5.1 (xDeepFM): CIN of 16, 16 with ReLU, no linear term. With ``num_sets=1``,
    ``cin_activation=None`` and ``use_linear_term=True`` this is FuxiCTR's ``xDeepFM``.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        dnn_hidden_units (list of int): of the whole DNN; the first is the width of the projection. Empty: no DNN.
        dnn_activations (str or list), net_dropout (float or list), batch_norm (bool): of the DNN.
        cin_hidden_units (list of int): feature maps of the CIN's layers.
        cin_activation (str or None): of the CIN; FuxiCTR's has none.
        use_linear_term (bool): add FuxiCTR's ``LogisticRegression`` over all fields, as its xDeepFM does.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    fields_apart = True

    def __init__(
        self,
        feature_map,
        model_id="xDeepFM_ME",
        dnn_hidden_units=(400, 400),
        dnn_activations="ReLU",
        cin_hidden_units=(16, 16),
        cin_activation="ReLU",
        net_dropout=0,
        batch_norm=False,
        use_linear_term=False,
        **kwargs,
    ):
        super().__init__(feature_map, model_id=model_id, **kwargs)
        if not isinstance(cin_hidden_units, list | tuple) or not cin_hidden_units:
            raise UsageError(f"cin_hidden_units must be a list of one integer or more, got {cin_hidden_units!r}")
        for width in cin_hidden_units:
            positive_int("each of cin_hidden_units", width)
        check_activation(cin_activation)
        if str(cin_activation).lower() in ("prelu", "dice"):
            raise UsageError(f"cin_activation must be one without weights, such as ReLU, got {cin_activation!r}")
        check_bool("use_linear_term", use_linear_term)
        num_fields = len(self.embedding_layer.field_dims)
        self.cin = CompressedInteraction(self.num_sets, num_fields, cin_hidden_units, cin_activation)
        branches = [(self.cin.output_dim, None)]
        if dnn_hidden_units:
            branches.append((self.embedding_layer.output_dim, dnn_hidden_units))
        self.has_dnn = bool(dnn_hidden_units)
        self.projection, self.head = build_towers(
            self.num_sets, branches, dnn_activations, net_dropout, batch_norm, added_logits=True
        )
        self.lr_layer = LogisticRegression(feature_map, use_bias=False) if use_linear_term else None
        self.finish()

    def logit(self, X):
        """field -> ids (B,) ... -> (B, 1), with the linear term where there is one."""
        logit = super().logit(X)
        return logit if self.lr_layer is None else logit + self.lr_layer(X)

    def interact(self, e):
        """(B, M, F, K) -> [(B, M, ΣC)], and (B, M, ΣK) for the DNN."""
        return [self.cin(e), e.flatten(2)] if self.has_dnn else [self.cin(e)]
