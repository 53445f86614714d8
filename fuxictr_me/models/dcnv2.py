"""Multi-embedding DCNv2."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from fuxictr.features import FeatureMap
from torch import Tensor, nn

from fuxictr_me.config.training_settings import check_bool
from fuxictr_me.errors import UsageError, check_positive_int, unknown
from fuxictr_me.models.base import MultiEmbeddingModel
from fuxictr_me.nn import MLP, CrossNetwork, CrossNetworkMix

MODEL_STRUCTURES = ("crossnet_only", "stacked", "parallel", "stacked_parallel")


class DCNv2_ME(MultiEmbeddingModel):
    """A cross network per set -> the first hidden layer per set -> mean -> the rest of the MLP.

    That is the paper's DCNv2 (section 5.1), ``model_structure="stacked"``. FuxiCTR's other structures become
    multi-embedding in the way in which the paper treats xDeepFM, whose branches meet at the logit: every branch is
    averaged over the sets separately, a DNN after its first hidden layer, a cross network after its last layer.
    So ``crossnet_only`` has no non-linear projection before the mean. The paper's argument for multi-embedding
    needs one, so expect less of it.

    With ``num_sets=1`` each structure is FuxiCTR's ``DCNv2``.

    Args:
        model_structure: ``stacked``, ``parallel``, ``stacked_parallel`` or ``crossnet_only``. The
            default is the paper's, not FuxiCTR's ``parallel``.
        use_low_rank_mixture, low_rank, num_experts: FuxiCTR's ``CrossNetMix`` per set.
        stacked_dnn_hidden_units, parallel_dnn_hidden_units: of the whole DNN of a branch;
            the first is the width of its projection.
        num_cross_layers: of the cross network.
        field_weights: multiply each block W_{i→j} of the cross layers by a learned number that starts
            at 1. With ``restricted_interaction_regularizer`` this is the authors' restricted DCNv2.
        dnn_activations, net_dropout, batch_norm: of the DNNs.
        **kwargs: of ``MultiEmbeddingModel``.
    """

    def __init__(
        self,
        feature_map: FeatureMap,
        model_id: str = "DCNv2_ME",
        model_structure: str = "stacked",
        use_low_rank_mixture: bool = False,
        low_rank: int = 32,
        num_experts: int = 4,
        stacked_dnn_hidden_units: Sequence[int] = (400, 400),
        parallel_dnn_hidden_units: Sequence[int] = (400, 400),
        dnn_activations: str | Sequence[str] = "ReLU",
        num_cross_layers: int = 4,
        field_weights: bool = False,
        net_dropout: float | Sequence[float] = 0,
        batch_norm: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_map, model_id=model_id, **kwargs)
        if model_structure not in MODEL_STRUCTURES:
            raise unknown("model_structure", model_structure, MODEL_STRUCTURES)
        make_network = choose_cross_network(
            num_cross_layers, use_low_rank_mixture, low_rank, num_experts, field_weights
        )
        behind_network = stacked_dnn_hidden_units if "stacked" in model_structure else None
        is_parallel = "parallel" in model_structure
        branches = [behind_network, parallel_dnn_hidden_units] if is_parallel else [behind_network]
        self.assemble(
            partial(CrossedFields, make_network=make_network, keep_raw=is_parallel),
            [None if units is None else MLP(units, dnn_activations, net_dropout, batch_norm) for units in branches],
        )


def choose_cross_network(
    num_cross_layers: int,
    use_low_rank_mixture: bool = False,
    low_rank: int = 32,
    num_experts: int = 4,
    field_weights: bool = False,
) -> Callable[[int, Sequence[int]], nn.Module]:
    """Return (num_sets, field_dims) -> the cross network with these settings.

    Raises:
        UsageError: for settings that are not allowed, alone or together.
    """
    check_positive_int("num_cross_layers", num_cross_layers)
    check_bool("use_low_rank_mixture", use_low_rank_mixture)
    check_bool("field_weights", field_weights)
    if not use_low_rank_mixture:
        return partial(CrossNetwork, num_layers=num_cross_layers, field_weights=field_weights, keeps_padding=True)
    if field_weights:
        raise UsageError("field_weights needs full-matrix cross layers: use_low_rank_mixture must be False")
    check_positive_int("low_rank", low_rank)
    check_positive_int("num_experts", num_experts)
    return partial(CrossNetworkMix, num_layers=num_cross_layers, low_rank=low_rank, num_experts=num_experts)


class CrossedFields(nn.Module):
    """The output of a cross network, and optionally the embeddings beside it for a parallel DNN.

    Args:
        make_network: (num_sets, field_dims) -> the cross network.
        keep_raw: return a second branch, the embeddings.
    """

    def __init__(
        self,
        num_sets: int,
        field_dims: Sequence[int],
        make_network: Callable[[int, Sequence[int]], nn.Module],
        keep_raw: bool,
    ) -> None:
        super().__init__()
        self.crossnet = make_network(num_sets, field_dims)
        self.keep_raw = keep_raw
        self.output_dims = [sum(field_dims)] * (1 + keep_raw)

    def forward(self, e: Tensor) -> list[Tensor]:
        """(B, M, ΣK) -> [crossed], or [crossed, e]. On a GPU columns of zeros may follow those of ``crossed``."""
        crossed = self.crossnet(e)
        return [crossed, e] if self.keep_raw else [crossed]
