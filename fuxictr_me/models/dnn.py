"""Multi-embedding DNN."""

from collections.abc import Sequence
from typing import Any

from fuxictr.features import FeatureMap
from torch import Tensor, nn

from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.nn import MLP


class DNN_ME(MultiEmbeddingModel):
    """Flattened embeddings -> the first hidden layer per set -> mean -> the other hidden layers and the logit.

    Paper, section 5.1 (DNN). ``num_sets=1`` is FuxiCTR's ``DNN``.

    Args:
        hidden_units: of the whole MLP; the first is the width of the projection.
        hidden_activations, net_dropout, batch_norm: as in FuxiCTR's DNN.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        model_id: str = "DNN_ME",
        hidden_units: Sequence[int] = (64, 64, 64),
        hidden_activations: str | Sequence[str] = "ReLU",
        net_dropout: float | Sequence[float] = 0,
        batch_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_map, model_id=model_id, **kwargs)
        self.assemble(FlatEmbeddings, [MLP(hidden_units, hidden_activations, net_dropout, batch_norm)])


class FlatEmbeddings(nn.Module):
    """No interaction except that of the hidden layers."""

    def __init__(self, num_sets: int, field_dims: Sequence[int]) -> None:
        super().__init__()
        self.output_dims = [sum(field_dims)]

    def forward(self, e: Tensor) -> list[Tensor]:
        """(B, M, ΣK) -> [the same]."""
        return [e]
