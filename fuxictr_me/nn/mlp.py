"""The hidden layers of M MLPs."""

from collections.abc import Sequence
from typing import Any

from fuxictr.pytorch.torch_utils import get_activation
from torch import nn

from fuxictr_me.config.training_options import check_activation
from fuxictr_me.config.training_settings import check_bool, check_dropout
from fuxictr_me.errors import UsageError, check_positive_int
from fuxictr_me.nn.set_linear import PerChannel, SetLinear

Activation = str | nn.Module | None


class MLP:
    """Settings of the hidden layers of an MLP, as FuxiCTR's ``MLP_Block`` takes them.

    A hidden layer is Linear, BatchNorm1d, activation, Dropout, in this order, as in ``MLP_Block`` and in the
    paper's code.

    Args:
        units: width of each hidden layer.
        activations: one for all hidden layers, or one for each.
        dropouts: one rate for all hidden layers, or one for each.
        batch_norm: whether the layers have batch norm.

    Raises:
        UsageError: if there is no hidden unit, if a list has another length than the hidden units, or for a value that
            is not allowed.
    """

    def __init__(
        self,
        units: Sequence[int],
        activations: Activation | Sequence[Activation] = "ReLU",
        dropouts: float | Sequence[float] = 0.0,
        batch_norm: bool = False,
    ) -> None:
        if not isinstance(units, list | tuple) or not units:
            raise UsageError(f"hidden units must be a list of one integer or more, got {units!r}")
        for width in units:
            check_positive_int("each of the hidden units", width)
        self.units = list(units)
        self.activations = _repeat_for_layers("hidden_activations", activations, self.units)
        self.dropouts = _repeat_for_layers("dropout_rates", dropouts, self.units)
        self.batch_norm = batch_norm
        for activation in self.activations:
            check_activation(activation)
        for rate in self.dropouts:
            check_dropout(rate)
        check_bool("batch_norm", batch_norm)

    def layers(self, num_sets: int, input_dim: int, start: int = 0, stop: int | None = None) -> list[nn.Module]:
        """Build hidden layers ``start`` to ``stop`` for M sets at once: (B, M, in) -> (B, M, H).

        Args:
            num_sets: M. Batch norm keeps statistics for each set and channel.
            input_dim: width of the input of layer ``start``, for one set.
            start, stop: as in a slice.
        """
        modules: list[nn.Module] = []
        layers = list(zip(self.units, self.activations, self.dropouts, strict=True))
        for width, activation, dropout in layers[start:stop]:
            modules.append(SetLinear(num_sets, input_dim, width))
            if self.batch_norm:
                modules.append(PerChannel(nn.BatchNorm1d(num_sets * width)))
            if activation is not None:
                modules.append(_build_activation(activation, num_sets * width))
            if dropout > 0:
                modules.append(nn.Dropout(dropout))
            input_dim = width
        return modules


def _build_activation(activation: Activation, channels: int) -> nn.Module:
    if isinstance(activation, str) and activation.lower() in ("prelu", "dice"):
        return PerChannel(get_activation(activation, channels))
    return get_activation(activation)


def _repeat_for_layers(name: str, value: Any, units: list[int]) -> list[Any]:
    """Return ``value`` for each hidden layer: FuxiCTR takes one for all, or a list with one for each."""
    if not isinstance(value, list | tuple):
        return [value] * len(units)
    if len(value) != len(units):
        raise UsageError(f"{name} has {len(value)} entries for {len(units)} hidden layers {list(units)}")
    return list(value)
