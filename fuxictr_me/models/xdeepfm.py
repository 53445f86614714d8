"""xDeepFM, multi-embedding."""

from functools import partial

from torch import nn

from fuxictr_me.compat import LogisticRegression
from fuxictr_me.config.training_options import check_activation
from fuxictr_me.config.training_settings import check_bool
from fuxictr_me.errors import UsageError, check_positive_int
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.nn import MLP, CompressedInteraction, require_one_dim
from fuxictr_me.nn.head import AddedLogits


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
        check_cin(cin_hidden_units, cin_activation)
        check_bool("use_linear_term", use_linear_term)
        mlps = [None]
        if dnn_hidden_units:
            mlps.append(MLP(dnn_hidden_units, dnn_activations, net_dropout, batch_norm))
        self.lr_layer = LogisticRegression(feature_map, use_bias=False) if use_linear_term else None
        self.assemble(
            partial(
                CompressedFields, maps=cin_hidden_units, activation=cin_activation, keep_raw=bool(dnn_hidden_units)
            ),
            mlps,
            join=AddedLogits,
        )

    def logit(self, h, e, X):
        """(B, M, H) -> (B, 1), with the linear term where there is one."""
        logit = super().logit(h, e, X)
        return logit if self.lr_layer is None else logit + self.lr_layer(X)


def check_cin(cin_hidden_units, cin_activation):
    """The settings of a CIN.

    Raises:
        UsageError: one that cannot be.
    """
    if not isinstance(cin_hidden_units, list | tuple) or not cin_hidden_units:
        raise UsageError(f"cin_hidden_units must be a list of one integer or more, got {cin_hidden_units!r}")
    for width in cin_hidden_units:
        check_positive_int("each of cin_hidden_units", width)
    check_activation(cin_activation)
    if str(cin_activation).lower() in ("prelu", "dice"):
        raise UsageError(f"cin_activation must be one without weights, such as ReLU, got {cin_activation!r}")


class CompressedFields(nn.Module):
    """The features of a CIN, and the embeddings themselves beside them for a DNN.

    Args:
        num_sets (int): M.
        field_dims (list of int): width of each field.
        maps (list of int): feature maps of the CIN's layers.
        activation (str or None): of the CIN.
        keep_raw (bool): a second branch, the embeddings.

    Raises:
        UsageError: fields of unequal dimension.
    """

    def __init__(self, num_sets, field_dims, maps, activation, keep_raw):
        super().__init__()
        require_one_dim("a CIN", field_dims)
        self.num_fields, self.keep_raw = len(field_dims), keep_raw
        self.cin = CompressedInteraction(num_sets, len(field_dims), maps, activation)
        self.output_dims = [self.cin.output_dim, sum(field_dims)] if keep_raw else [self.cin.output_dim]

    def forward(self, e):
        """(B, M, ΣK) -> [(B, M, ΣC)], and e for the DNN."""
        features = self.cin(e.unflatten(-1, (self.num_fields, -1)))
        return [features, e] if self.keep_raw else [features]
