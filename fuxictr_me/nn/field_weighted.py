"""The field-weighted products of NFwFM, all embedding sets in one pass."""

import torch
from torch import nn


class FieldWeightedFM(nn.Module):
    """Σ_ij w_ij (e_i ⊙ e_j) over all ordered pairs of fields, the diagonal included, within each set.

    From the paper's NFwFM (authors' code); FuxiCTR has none. The weights start at N(0, 1).

    Args:
        num_sets (int): M.
        num_fields (int): F.
    """

    def __init__(self, num_sets, num_fields):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_sets, num_fields, num_fields))
        self.init_weights()

    def init_weights(self):
        """w ~ N(0, 1), for ``network_initializer: fuxictr`` as for ``paper``."""
        nn.init.normal_(self.weight)

    def forward(self, e):
        """(B, M, F, K) -> (B, M, K)."""
        return (e * (self.weight @ e)).sum(dim=2)
