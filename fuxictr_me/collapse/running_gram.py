"""Singular values of a matrix whose rows arrive in batches, in memory that does not grow with the number of rows."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

ROWS_AT_ONCE = 4_096


class RunningGram:
    """EᵀE of a tall matrix E = [E¹ … Eᴹ], to which rows are added.

    The singular values of E are the square roots of the eigenvalues of EᵀE. They are exact to about 1e-8 σ_max, see
    ``gram_matrix``. The entries of a float32 representation are rounded more coarsely than that, to 6e-8.

    Args:
        widths: number of columns of each block E¹ … Eᴹ.
        device: of the matrix.

    Attributes:
        num_rows: number of rows so far.
    """

    def __init__(self, widths: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.widths, self.num_rows = list(widths), 0
        self._gram = torch.zeros(sum(widths), sum(widths), dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, blocks: Sequence[Tensor]) -> None:
        """Add rows: (B, width) of each block."""
        for chunk in zip(*(block.split(ROWS_AT_ONCE) for block in blocks), strict=True):
            rows = torch.cat([part.to(torch.float64) for part in chunk], dim=1)
            self._gram.addmm_(rows.T, rows)
            self.num_rows += len(rows)

    def singular_values(self) -> tuple[list[Tensor], Tensor]:
        """Return the singular values of each block, and those of all blocks side by side.

        Returns:
            (min(rows, width),) each, largest first, float64, on the CPU.

        Raises:
            ValueError: if an entry of E is not finite.
        """
        if not self._gram.isfinite().all():
            raise ValueError("it holds NaN or infinity")
        if len(self.widths) == 1:
            return [whole := self._decompose(self._gram)], whole
        ends = itertools.accumulate(self.widths)
        blocks = [self._gram[end - w : end, end - w : end] for w, end in zip(self.widths, ends, strict=True)]
        return [self._decompose(block) for block in blocks], self._decompose(self._gram)

    def _decompose(self, gram: Tensor) -> Tensor:
        sigma = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().flip(0)
        return sigma[: self.num_rows].cpu()
