"""The field-weighted products of NFwFM, computed for all embedding sets at once."""

import torch
from torch import Tensor, nn


class FieldWeightedFM(nn.Module):
    """Σ_ij w_ij (e_i ⊙ e_j) over all ordered pairs of fields, including i = j, within each set.

    From the paper's NFwFM (authors' code); FuxiCTR has no such layer. The weights start at N(0, 1).
    """

    def __init__(self, num_sets: int, num_fields: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_sets, num_fields, num_fields))
        self.init_weights()

    def init_weights(self) -> None:
        """Draw w from N(0, 1), for ``network_initializer: fuxictr`` as for ``paper``."""
        nn.init.normal_(self.weight)

    def forward(self, e: Tensor) -> Tensor:
        """(B, M, F, K) -> (B, M, K)."""
        return (e * (self.weight @ e)).sum(dim=2)
