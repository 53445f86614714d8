"""Building blocks that hold M sets of weights and apply all of them in one pass."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fuxictr_me.errors import UsageError
from fuxictr_me.nn.padded_widths import BatchedProduct, is_gpu_like, loadable_width, pad_columns


class SetLinear(nn.Module):
    """M linear layers, one for each set: y⁽ᵐ⁾ = W⁽ᵐ⁾ x⁽ᵐ⁾ + b⁽ᵐ⁾.

    Weights are (M, out, in), so that ``weight[m]`` is what ``nn.Linear`` would hold. On a GPU ``in`` is padded with
    zeros to a width that its matrix units can load.

    Args:
        in_features, out_features: widths of one set.
    """

    def __init__(self, num_sets: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_sets, out_features, in_features))
        self.bias = nn.Parameter(torch.empty(num_sets, out_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise as PyTorch does, U(±1/√in) for weight and bias (the paper's choice)."""
        bound = self.weight.shape[-1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def init_weights(self) -> None:
        """Initialise as FuxiCTR does, xavier_normal with zero bias, set by set."""
        for weight in self.weight.data:
            nn.init.xavier_normal_(weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, M, in) -> (B, M, out). Further columns of x must be zeros and are ignored."""
        return self.apply_weight(x, self.weight)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """Apply another weight (M, out, in) as ``forward`` applies the layer's own."""
        return self._multiply(x.transpose(0, 1), weight).transpose(0, 1)

    def _multiply(self, x: Tensor, weight: Tensor) -> Tensor:
        if not is_gpu_like(x.device):  # a CPU's batched products are slower than one product per set
            if torch.compiler.is_compiling():
                x = x.contiguous()  # PyTorch 2.13's compiler takes wrong gradients of slices of stacked tensors
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
    """Apply a module with one parameter per channel (BatchNorm1d, PReLU, Dice) to M sets of H channels.

    Args:
        module: takes (B, M·H).
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """(B, M, H) -> (B, M, H)."""
        return self.module(x.flatten(1)).view(x.shape)


def require_one_dim(what: str, field_dims: Sequence[int]) -> None:
    """Check that all fields have one dimension, because ``what`` multiplies them with each other.

    Raises:
        UsageError: with the dimensions found.
    """
    if len(set(field_dims)) > 1:
        raise UsageError(f"{what} need fields of one dimension, got {sorted(set(field_dims))}")
