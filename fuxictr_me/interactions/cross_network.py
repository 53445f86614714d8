"""The cross networks of DCNv2, all embedding sets in one pass."""

import torch
from torch import nn

from fuxictr_me.interactions.sets import SetLinear


class CrossNetwork(nn.Module):
    """Full-matrix cross network of each set: x_{l+1} = x₀ ⊙ (W_l x_l + b_l) + x_l.

    Paper, section 2.1 (DCNv2); FuxiCTR's ``CrossNetV2`` is one set of it.

    Args:
        num_sets (int): M.
        input_dim (int): ΣK, the width of one set.
        num_layers (int): number of cross layers.
    """

    def __init__(self, num_sets, input_dim, num_layers):
        super().__init__()
        self.cross_layers = nn.ModuleList(SetLinear(num_sets, input_dim, input_dim) for _ in range(num_layers))

    def init_paper_weights(self):
        """The paper's code: cross weights xavier_uniform, biases 0."""
        for layer in self.cross_layers:
            for weight in layer.weight.data:
                nn.init.xavier_uniform_(weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x0):
        """(B, M, ΣK) -> (B, M, ΣK)."""
        x = x0
        for layer in self.cross_layers:
            x = x0 * layer(x) + x
        return x


class CrossNetworkMix(nn.Module):
    """Low-rank mixture of experts of each set, as FuxiCTR's ``CrossNetMix`` computes it for one.

    x_{l+1} = Σ_e softmax_e(g_e·x_l) · x₀ ⊙ (U_e tanh(C_e tanh(V_eᵀ x_l)) + b) + x_l, with the gates g
    shared by all layers.

    Args:
        num_sets (int): M.
        input_dim (int): D = ΣK, the width of one set.
        num_layers (int): number of cross layers.
        low_rank (int): R, the rank of an expert.
        num_experts (int): E.
    """

    def __init__(self, num_sets, input_dim, num_layers, low_rank=32, num_experts=4):
        super().__init__()

        def weights(*shape):
            return nn.ParameterList(nn.Parameter(torch.empty(num_sets, *shape)) for _ in range(num_layers))

        self.U = weights(num_experts, input_dim, low_rank)
        self.V = weights(num_experts, input_dim, low_rank)
        self.C = weights(num_experts, low_rank, low_rank)
        self.bias = weights(input_dim)
        self.gating = nn.Parameter(torch.empty(num_sets, num_experts, input_dim))
        self.init_weights()

    def init_weights(self):
        """As FuxiCTR initialises one set: xavier_normal over (E, D, R), gates over (1, D), biases 0."""
        for weight in [*self.U, *self.V, *self.C]:
            for one_set in weight.data:
                nn.init.xavier_normal_(one_set)
        for gate in self.gating.data.flatten(0, 1):
            nn.init.xavier_normal_(gate.unsqueeze(0))
        for bias in self.bias:
            nn.init.zeros_(bias)

    def forward(self, x0):
        """(B, M, D) -> (B, M, D)."""
        x = x0
        for U, V, C, bias in zip(self.U, self.V, self.C, self.bias, strict=True):
            low = torch.tanh(torch.einsum("bmd,medr->bmer", x, V))
            low = torch.tanh(torch.einsum("bmer,meqr->bmeq", low, C))
            expert = x0.unsqueeze(2) * (torch.einsum("bmer,medr->bmed", low, U) + bias.unsqueeze(1))
            gate = torch.einsum("bmd,med->bme", x, self.gating).softmax(dim=-1)
            x = torch.einsum("bme,bmed->bmd", gate, expert) + x
        return x
