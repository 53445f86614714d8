"""Building blocks that hold M sets of weights and apply all of them in one pass."""

import torch
from torch import nn
from torch.nn import functional as F

from fuxictr_me.errors import UsageError
from fuxictr_me.nn.padded_widths import BatchedProduct, is_gpu_like, loadable_width, pad_columns


class SetLinear(nn.Module):
    """M linear maps, one a set: y⁽ᵐ⁾ = W⁽ᵐ⁾ x⁽ᵐ⁾ + b⁽ᵐ⁾.

    Weights are (M, out, in), so that ``weight[m]`` is what ``nn.Linear`` would hold. On a GPU the product is computed
    with ``in`` padded by zeros to a width that its matrix units can load.

    Args:
        num_sets (int): M.
        in_features, out_features (int): widths of one set.
    """

    def __init__(self, num_sets, in_features, out_features):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_sets, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(num_sets, out_features))
        self.reset_parameters()

    def reset_parameters(self):
        """PyTorch's default for a linear layer, U(±1/√in) for weight and bias (the paper's choice)."""
        bound = self.weight.shape[-1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def init_weights(self):
        """FuxiCTR's default for a linear layer, xavier_normal with zero bias, set by set."""
        for weight in self.weight.data:
            nn.init.xavier_normal_(weight)
        nn.init.zeros_(self.bias)

    def forward(self, x):
        """(B, M, in) -> (B, M, out); further columns of x, which are zeros, are ignored."""
        return self.apply_weight(x, self.weight)

    def apply_weight(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """As ``forward``, with another weight (M, out, in) in place of its own."""
        return self._multiply(x.transpose(0, 1), weight).transpose(0, 1)

    def _multiply(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        if not is_gpu_like(x.device):  # a CPU's batched products are slower than one product per set
            sets = zip(x.unbind(), weight.unbind(), self.bias.unbind(), strict=True)
            return torch.stack([F.linear(*one_set) for one_set in sets])
        width = max(x.shape[-1], loadable_width(weight.shape[-1], x.device))
        x, weight = pad_columns(x, width), pad_columns(weight, width)
        if x.device.type != "meta" and torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
        y = BatchedProduct.apply(x, weight)
        # not torch.baddbmm: torch.compile fuses this sum with what follows
        return y + pad_columns(self.bias, weight.shape[1]).unsqueeze(1).to(y.dtype)


class PerChannel(nn.Module):
    """Apply a module with one parameter a channel (BatchNorm1d, PReLU, Dice) to M sets of H channels.

    Args:
        module (nn.Module): takes (B, M * H).
    """

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, x):
        """(B, M, H) -> (B, M, H)."""
        return self.module(x.flatten(1)).view(x.shape)


def require_one_dim(what, field_dims):
    """Refuse fields of unequal dimension, for ``what`` multiplies them one with another.

    Raises:
        UsageError: with the dimensions found.
    """
    if len(set(field_dims)) > 1:
        raise UsageError(f"{what} need fields of one dimension, got {sorted(set(field_dims))}")
