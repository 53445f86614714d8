"""The hidden layers of M MLPs."""

from dataclasses import dataclass

from fuxictr.pytorch.torch_utils import get_activation
from torch import nn

from fuxictr_me.config.training_options import check_activation
from fuxictr_me.config.training_settings import check_bool, check_dropout
from fuxictr_me.errors import UsageError, check_positive_int
from fuxictr_me.nn.set_linear import PerChannel, SetLinear


@dataclass
class MLP:
    """The hidden layers of an MLP, as FuxiCTR's ``MLP_Block`` takes them; checked, with one entry a layer.

    A hidden layer is Linear, BatchNorm1d, activation, Dropout, in this order, as in ``MLP_Block`` and in the
    paper's code.

    Attributes:
        units (list of int): widths.
        activations (str, None, or a list of as many).
        dropouts (float, or a list of as many).
        batch_norm (bool)

    Raises:
        UsageError: no hidden unit, lists of another length than the hidden units, or impossible values.
    """

    units: list
    activations: list = "ReLU"
    dropouts: list = 0.0
    batch_norm: bool = False

    def __post_init__(self):
        if not isinstance(self.units, list | tuple) or not self.units:
            raise UsageError(f"hidden units must be a list of one integer or more, got {self.units!r}")
        for width in self.units:
            check_positive_int("each of the hidden units", width)
        self.activations = _per_layer("hidden_activations", self.activations, self.units)
        self.dropouts = _per_layer("dropout_rates", self.dropouts, self.units)
        for activation in self.activations:
            check_activation(activation)
        for rate in self.dropouts:
            check_dropout(rate)
        check_bool("batch_norm", self.batch_norm)

    def layers(self, num_sets, input_dim, start=0, stop=None):
        """Hidden layers ``start`` to ``stop``, for M sets at once: (B, M, in) -> (B, M, H).

        Args:
            num_sets (int): M. Batch norm keeps statistics for each set and channel.
            input_dim (int): width of one set, as layer ``start`` sees it.
            start, stop (int): as in a slice.

        Returns:
            list of nn.Module
        """
        modules, width_in = [], input_dim
        of_layer = zip(self.units, self.activations, self.dropouts, strict=True)
        for width_out, activation, dropout in list(of_layer)[start:stop]:
            modules.append(SetLinear(num_sets, width_in, width_out))
            if self.batch_norm:
                modules.append(PerChannel(nn.BatchNorm1d(num_sets * width_out)))
            if activation is not None:
                modules.append(_activation(activation, num_sets * width_out))
            if dropout > 0:
                modules.append(nn.Dropout(dropout))
            width_in = width_out
        return modules


def _activation(activation, channels):
    if isinstance(activation, str) and activation.lower() in ("prelu", "dice"):
        return PerChannel(get_activation(activation, channels))
    return get_activation(activation)


def _per_layer(name, value, units):
    """``value`` for each hidden layer: FuxiCTR takes one for all, or a list of as many."""
    if not isinstance(value, list | tuple):
        return [value] * len(units)
    if len(value) != len(units):
        raise UsageError(f"{name} has {len(value)} entries for {len(units)} hidden layers {list(units)}")
    return list(value)
