"""DNN, multi-embedding."""

from torch import nn

from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.nn import MLP


class DNN_ME(MultiEmbeddingModel):
    """Flatten -> the first hidden layer per set -> mean -> the other hidden layers and the logit.

    Paper, section 5.1 (DNN). ``num_sets=1`` is FuxiCTR's ``DNN``.

    Args:
        feature_map (FeatureMap): of FuxiCTR.
        hidden_units (list of int): of the whole MLP; the first is the width of the projection.
        hidden_activations (str or list), net_dropout (float or list), batch_norm (bool): as FuxiCTR's DNN.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    def __init__(
        self,
        feature_map,
        model_id="DNN_ME",
        hidden_units=(64, 64, 64),
        hidden_activations="ReLU",
        net_dropout=0,
        batch_norm=False,
        **kwargs,
    ):
        super().__init__(feature_map, model_id=model_id, **kwargs)
        self.assemble(SideBySide, [MLP(hidden_units, hidden_activations, net_dropout, batch_norm)])


class SideBySide(nn.Module):
    """No interaction but that of the hidden layers.

    Args:
        num_sets (int): M.
        field_dims (list of int): width of each field.
    """

    def __init__(self, num_sets, field_dims):
        super().__init__()
        self.output_dims = [sum(field_dims)]

    def forward(self, e):
        """(B, M, ΣK) -> [the same]."""
        return [e]
