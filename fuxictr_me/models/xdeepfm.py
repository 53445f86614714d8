"""Multi-embedding xDeepFM."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from fuxictr.features import FeatureMap
from torch import Tensor, nn

from fuxictr_me.compat import LogisticRegression
from fuxictr_me.config.training_options import check_activation
from fuxictr_me.config.training_settings import check_bool
from fuxictr_me.errors import UsageError, check_positive_int
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.nn import MLP, CompressedInteraction, require_one_dim
from fuxictr_me.nn.embedding_sets import Inputs
from fuxictr_me.nn.head import AddedLogits


class xDeepFM_ME(MultiEmbeddingModel):
    """A CIN per set, whose features are averaged before one linear layer, and a DNN as in DNN_ME; logits are added.

    Paper, section 5.1 (xDeepFM): CIN of 16, 16 with ReLU, no linear term. With ``num_sets=1``,
    ``cin_activation=None`` and ``use_linear_term=True`` this is FuxiCTR's ``xDeepFM``.

    Args:
        dnn_hidden_units: of the whole DNN; the first is the width of the projection. Empty: no DNN.
        dnn_activations, net_dropout, batch_norm: of the DNN.
        cin_hidden_units: feature maps of the CIN's layers.
        cin_activation: of the CIN; FuxiCTR's has none.
        use_linear_term: add FuxiCTR's ``LogisticRegression`` over all fields, as its xDeepFM does.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        model_id: str = "xDeepFM_ME",
        dnn_hidden_units: Sequence[int] = (400, 400),
        dnn_activations: str | Sequence[str] = "ReLU",
        cin_hidden_units: Sequence[int] = (16, 16),
        cin_activation: str | None = "ReLU",
        net_dropout: float | Sequence[float] = 0,
        batch_norm: bool = False,
        use_linear_term: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_map, model_id=model_id, **kwargs)
        check_cin(cin_hidden_units, cin_activation)
        check_bool("use_linear_term", use_linear_term)
        mlps: list[MLP | None] = [None]
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

    def set_logits(self, h: Tensor, e: list[Tensor], X: Inputs) -> Tensor:
        """Compute the logit of each head (B, S, 1), including the linear term if there is one."""
        logits = super().set_logits(h, e, X)
        return logits if self.lr_layer is None else logits + self.lr_layer(X).unsqueeze(1)


def check_cin(cin_hidden_units: object, cin_activation: object) -> None:
    """Check the settings of a CIN.

    Raises:
        UsageError: for a value that is not allowed.
    """
    if not isinstance(cin_hidden_units, list | tuple) or not cin_hidden_units:
        raise UsageError(f"cin_hidden_units must be a list of one integer or more, got {cin_hidden_units!r}")
    for width in cin_hidden_units:
        check_positive_int("each of cin_hidden_units", width)
    check_activation(cin_activation)
    if str(cin_activation).lower() in ("prelu", "dice"):
        raise UsageError(f"cin_activation must be one without weights, such as ReLU, got {cin_activation!r}")


class CompressedFields(nn.Module):
    """The features of a CIN, and optionally the embeddings beside them for a DNN.

    Args:
        maps: feature maps of the CIN's layers.
        activation: of the CIN.
        keep_raw: return a second branch, the embeddings.

    Raises:
        UsageError: if fields have unequal dimensions.
    """

    def __init__(
        self, num_sets: int, field_dims: Sequence[int], maps: Sequence[int], activation: str | None, keep_raw: bool
    ) -> None:
        super().__init__()
        require_one_dim("a CIN", field_dims)
        self.num_fields, self.keep_raw = len(field_dims), keep_raw
        self.cin = CompressedInteraction(num_sets, len(field_dims), maps, activation)
        self.output_dims = [self.cin.output_dim, sum(field_dims)] if keep_raw else [self.cin.output_dim]

    def forward(self, e: Tensor) -> list[Tensor]:
        """(B, M, ΣK) -> [(B, M, ΣC)], or [(B, M, ΣC), e]."""
        features = self.cin(e.unflatten(-1, (self.num_fields, -1)))
        return [features, e] if self.keep_raw else [features]
