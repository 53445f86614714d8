"""The inner products of PNN, computed for all embedding sets at once."""

import torch
from torch import Tensor, nn


class InnerProduct(nn.Module):
    """All inner products ⟨e_i, e_j⟩, i < j, within each set (PNN; paper, section 2.1).

    FuxiCTR's ``InnerProductInteraction(output="inner_product")`` is this module for one set. It has no weights.
    """

    pairs: Tensor

    def __init__(self, num_fields: int) -> None:
        super().__init__()
        pairs = torch.triu_indices(num_fields, num_fields, offset=1)
        self.register_buffer("pairs", pairs, persistent=False)
        self.output_dim = pairs.shape[1]

    def forward(self, e: Tensor) -> Tensor:
        """(B, M, F, K) -> (B, M, F(F - 1)/2)."""
        products = e @ e.transpose(-1, -2)  # (B, M, F, F)
        return products[..., self.pairs[0], self.pairs[1]]
