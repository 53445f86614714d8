"""The cross networks of DCNv2, computed for all embedding sets at once."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fuxictr_me.nn.padded_widths import loadable_width, pad_columns
from fuxictr_me.nn.set_linear import SetLinear


class CrossNetwork(nn.Module):
    """Full-matrix cross network of each set: x_{l+1} = x₀ ⊙ (W_l x_l + b_l) + x_l.

    Paper, section 2.1 (DCNv2); FuxiCTR's ``CrossNetV2`` is this module for one set. With ``field_weights`` each block
    W_{i→j} between two fields is multiplied by a learned number N_ij, which starts at 1 (authors' code,
    restricted DCNv2).

    Args:
        field_dims: width of each field; their sum ΣK is the width of one set.
        num_layers: number of cross layers.
        field_weights: learn N.
        keeps_padding: on a GPU, keep the columns of zeros with which the layers are computed after the ΣK columns, for
            a ``SetLinear`` that follows.
    """

    field_of: Tensor
    cross_layers: Any  # a ModuleList of SetLinear, whose items PyTorch types as Module

    def __init__(
        self,
        num_sets: int,
        field_dims: Sequence[int],
        num_layers: int,
        field_weights: bool = False,
        keeps_padding: bool = False,
    ) -> None:
        super().__init__()
        self.field_dims, self.keeps_padding = list(field_dims), keeps_padding
        width, fields = sum(field_dims), len(field_dims)
        self.cross_layers = nn.ModuleList(SetLinear(num_sets, width, width) for _ in range(num_layers))
        self.field_weights = (
            nn.ParameterList(nn.Parameter(torch.ones(num_sets, fields, fields)) for _ in range(num_layers))
            if field_weights
            else None
        )
        if field_weights:
            field_of = torch.arange(fields).repeat_interleave(torch.tensor(self.field_dims))  # of each column
            self.register_buffer("field_of", field_of, persistent=False)

    def init_weights(self) -> None:
        """Set N = 1. The cross layers initialise themselves."""
        for weights in self.field_weights or ():
            nn.init.ones_(weights)

    def init_paper_weights(self) -> None:
        """Initialise as the paper's code does: cross weights xavier_uniform, biases 0."""
        for layer in self.cross_layers:
            for weight in layer.weight.data:
                nn.init.xavier_uniform_(weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x0: Tensor) -> Tensor:
        """(B, M, ΣK) -> (B, M, ΣK), or with ``keeps_padding`` followed by columns of zeros."""
        x = self.layer_outputs(x0)[-1]
        return x if self.keeps_padding else x[..., : x0.shape[-1]]

    def layer_outputs(self, x0: Tensor) -> list[Tensor]:
        """Return x_1 … x_L: (B, M, ΣK) -> (B, M, ΣK) of each layer, on a GPU followed by columns of zeros."""
        padded = loadable_width(x0.shape[-1], x0.device)
        x = x0 = pad_columns(x0, padded)  # the padding stays zero, because it is multiplied by that of x₀
        outputs = []
        for layer, weight in zip(self.cross_layers, self.effective_weights(), strict=True):
            x = torch.addcmul(x, x0, layer.apply_weight(x, _pad_both(weight, padded)))
            outputs.append(x)
        return outputs

    def effective_weights(self) -> list[Tensor]:
        """Return W of each layer, (M, ΣK, ΣK), its blocks multiplied by N if there is one."""
        weights = [layer.weight for layer in self.cross_layers]
        if self.field_weights is None:
            return weights
        rows, columns = self.field_of[:, None], self.field_of  # the fields j (row) and i (column) of each entry
        return [W * N[:, rows, columns] for W, N in zip(weights, self.field_weights, strict=True)]

    def field_pair_norms(self) -> Tensor:
        """Return ‖W_{i→j}‖²_F of each set and layer: (M, L, F, F). All fields must have one dimension."""
        return self._cut_into_blocks(self.effective_weights()).square().sum(dim=(-1, -2))

    def distance_from_orthogonal(self) -> Tensor:
        """Return Σ ‖I - W_{i→j} W_{i→j}ᵀ‖²_F over sets, layers and pairs (authors' code, restricted DCNv2).

        W is the weight without N.
        """
        W = self._cut_into_blocks([layer.weight for layer in self.cross_layers])
        identity = torch.eye(W.shape[-1], device=W.device, dtype=W.dtype)
        return (identity - W @ W.transpose(-1, -2)).square().sum()

    def _cut_into_blocks(self, weights: list[Tensor]) -> Tensor:
        """Cut the weights (M, F·K, F·K) of all layers into W_{i→j} (M, L, F, F, K, K), j before i."""
        fields, dim = len(self.field_dims), self.field_dims[0]
        return torch.stack(weights, dim=1).unflatten(-1, (fields, dim)).unflatten(-3, (fields, dim)).transpose(-3, -2)


def _pad_both(weight: Tensor, width: int) -> Tensor:
    """(M, ΣK, ΣK) -> (M, width, width), followed by zeros."""
    missing = width - weight.shape[-1]
    return F.pad(weight, (0, missing, 0, missing)) if missing else weight


class CrossNetworkMix(nn.Module):
    """Low-rank mixture of experts of each set, as FuxiCTR's ``CrossNetMix`` computes it for one.

    x_{l+1} = Σ_e softmax_e(g_e·x_l) · x₀ ⊙ (U_e tanh(C_e tanh(V_eᵀ x_l)) + b) + x_l. All layers share the gates g.

    Args:
        field_dims: width of each field; their sum D is the width of one set.
        num_layers: number of cross layers.
        low_rank: R, the rank of an expert.
        num_experts: E.
    """

    def __init__(
        self, num_sets: int, field_dims: Sequence[int], num_layers: int, low_rank: int = 32, num_experts: int = 4
    ) -> None:
        super().__init__()
        input_dim = sum(field_dims)

        def weights(*shape: int) -> nn.ParameterList:
            return nn.ParameterList(nn.Parameter(torch.empty(num_sets, *shape)) for _ in range(num_layers))

        self.U = weights(num_experts, input_dim, low_rank)
        self.V = weights(num_experts, input_dim, low_rank)
        self.C = weights(num_experts, low_rank, low_rank)
        self.bias = weights(input_dim)
        self.gating = nn.Parameter(torch.empty(num_sets, num_experts, input_dim))
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise as FuxiCTR does for one set: xavier_normal over (E, D, R), gates over (1, D), biases 0."""
        for weight in [*self.U, *self.V, *self.C]:
            for one_set in weight.data:
                nn.init.xavier_normal_(one_set)
        for gate in self.gating.data.flatten(0, 1):
            nn.init.xavier_normal_(gate.unsqueeze(0))
        for bias in self.bias:
            nn.init.zeros_(bias)

    def forward(self, x0: Tensor) -> Tensor:
        """(B, M, D) -> (B, M, D)."""
        return self.layer_outputs(x0)[-1]

    def layer_outputs(self, x0: Tensor) -> list[Tensor]:
        """Return x_1 … x_L: (B, M, D) -> (B, M, D) of each layer."""
        x, outputs = x0, []
        for U, V, C, bias in zip(self.U, self.V, self.C, self.bias, strict=True):
            low = torch.tanh(torch.einsum("bmd,medr->bmer", x, V))
            low = torch.tanh(torch.einsum("bmer,meqr->bmeq", low, C))
            expert = x0.unsqueeze(2) * (torch.einsum("bmer,medr->bmed", low, U) + bias.unsqueeze(1))
            gate = torch.einsum("bmd,med->bme", x, self.gating).softmax(dim=-1)
            x = torch.einsum("bme,bmed->bmd", gate, expert) + x
            outputs.append(x)
        return outputs
