"""The compressed interaction network of xDeepFM, computed for all embedding sets at once."""

from collections.abc import Sequence
from typing import Any

import torch
from fuxictr.pytorch.torch_utils import get_activation
from torch import Tensor, nn
from torch.nn import functional as F

from fuxictr_me.nn.padded_widths import loadable_width, pad_columns
from fuxictr_me.nn.set_linear import SetLinear


class CompressedInteraction(nn.Module):
    """CIN of each set: x_{l+1, o} = φ(Σ_fc W_ofc (x_{0, f} ⊙ x_{l, c}) + b_o), summed over K, layers side by side.

    Paper, section 2.1 (xDeepFM), φ = ReLU, layers not split. FuxiCTR's ``CompressedInteractionNet``, up to its last
    linear layer, is this module for one set without φ.

    Args:
        hidden_units: C, the number of feature maps of each layer.
        activation: name of φ, or None.
    """

    layers: Any  # a ModuleList of SetLinear, whose items PyTorch types as Module

    def __init__(
        self, num_sets: int, num_fields: int, hidden_units: Sequence[int], activation: str | None = "ReLU"
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SetLinear(num_sets, num_fields * maps_in, maps_out)
            for maps_in, maps_out in zip([num_fields, *hidden_units], hidden_units, strict=False)
        )
        self.activation = get_activation(activation) or nn.Identity()
        self.output_dim = sum(hidden_units)

    def forward(self, x0: Tensor) -> Tensor:
        """(B, M, F, K) -> (B, M, ΣC)."""
        num_fields, dim = x0.shape[2:]
        x0 = x0.permute(1, 0, 3, 2).flatten(1, 2)  # (M, B·K, F)
        x0 = pad_columns(x0, loadable_width(num_fields, x0.device))
        x, pooled = x0, []
        for layer in self.layers:
            weight = layer.weight.unflatten(2, (num_fields, -1))  # (M, C', F, C)
            weight = F.pad(weight, (0, x.shape[-1] - weight.shape[-1], 0, x0.shape[-1] - num_fields))
            factors = torch.einsum("mnf,mofc->mnco", x0, weight)
            x = torch.einsum("mnc,mnco->mno", x, factors) + layer.bias.unsqueeze(1)
            x = self.activation(x)  # (M, B·K, C')
            pooled.append(x.unflatten(1, (-1, dim)).sum(dim=2))
        return torch.cat(pooled, dim=-1).transpose(0, 1)
