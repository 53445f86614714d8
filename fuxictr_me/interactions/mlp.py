"""The hidden layers of M MLPs."""

from fuxictr.pytorch.torch_utils import get_activation
from torch import nn

from fuxictr_me.errors import UsageError
from fuxictr_me.interactions.sets import PerChannel, SetLinear


class SetMLP(nn.Sequential):
    """M stacks of hidden layers, all sets in one pass: (B, M, in) -> (B, M, H).

    A hidden layer is Linear, BatchNorm1d, activation, Dropout, in this order, as in FuxiCTR's
    ``MLP_Block`` and in the paper's code (paper, section 5.1: every hidden layer of the models).

    Args:
        num_sets (int): M.
        input_dim (int): width of one set.
        hidden_units (list of int): widths of the hidden layers of one set.
        hidden_activations (list): of one name (or module) a layer.
        dropout_rates (list of float): one a layer.
        batch_norm (bool): statistics are kept for each set and channel.
    """

    def __init__(self, num_sets, input_dim, hidden_units, hidden_activations, dropout_rates, batch_norm):
        layers = []
        widths = zip([input_dim, *hidden_units], hidden_units, hidden_activations, dropout_rates, strict=False)
        for width_in, width_out, activation, dropout in widths:
            layers.append(SetLinear(num_sets, width_in, width_out))
            if batch_norm:
                layers.append(PerChannel(nn.BatchNorm1d(num_sets * width_out)))
            if activation is not None:
                layers.append(_activation(activation, num_sets * width_out))
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        super().__init__(*layers)


def _activation(activation, channels):
    if isinstance(activation, str) and activation.lower() in ("prelu", "dice"):
        return PerChannel(get_activation(activation, channels))
    return get_activation(activation)


def per_layer(name, value, hidden_units):
    """``value`` for each hidden layer: FuxiCTR takes one for all, or a list of as many.

    Raises:
        UsageError: a list of another length.
    """
    if not isinstance(value, list | tuple):
        return [value] * len(hidden_units)
    if len(value) != len(hidden_units):
        raise UsageError(f"{name} has {len(value)} entries for {len(hidden_units)} hidden layers {hidden_units}")
    return list(value)
