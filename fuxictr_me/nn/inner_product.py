"""The inner products of PNN, all embedding sets in one pass."""

import torch
from torch import nn


class InnerProduct(nn.Module):
    """All inner products ⟨e_i, e_j⟩, i < j, within each set (PNN; paper, section 2.1).

    FuxiCTR's ``InnerProductInteraction(output="inner_product")`` is one set of it. It has no weights.

    Args:
        num_fields (int): F.
    """

    def __init__(self, num_fields):
        super().__init__()
        pairs = torch.triu_indices(num_fields, num_fields, offset=1)
        self.register_buffer("pairs", pairs, persistent=False)
        self.output_dim = pairs.shape[1]

    def forward(self, e):
        """(B, M, F, K) -> (B, M, F(F - 1)/2)."""
        products = e @ e.transpose(-1, -2)  # (B, M, F, F)
        return products[..., self.pairs[0], self.pairs[1]]
