"""Reading the rows of a fused table in a training step, and updating them from their gradients.

A step calls ``prepare``; then ``begin``, ``read`` (through the table), ``collect``, ``scale``, ``finish``; then
``count``. On a GPU, the calls from ``begin`` to ``finish`` never wait for the device, their tensors have the same
shapes in every step with the same batch size, and they can be replayed as a CUDA graph.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fuxictr_me.nn.fused_table import FusedTable

UPDATES = ("dense", "catch_up", "lazy")


class DenseRows:
    """The model's optimizer updates every row in every step, as in FuxiCTR.

    The gradient of the table starts as the regulariser's, to which that of the batch is added. The norm of the sum is
    known without another pass over the table.

    Args:
        table: the fused table.
        optimizer: of the model; has ``table.weight`` among its parameters.
        l1, l2: of the regulariser λ₁‖W‖₁ + λ₂/2 ‖W‖², FuxiCTR's ``embedding_regularizer``.

    Attributes:
        reading: whether ``FusedTable.forward`` calls ``read``.
        capturable: whether a step can be recorded as a CUDA graph.
    """

    capturable = True

    def __init__(self, table: FusedTable, optimizer: torch.optim.Optimizer, l1: float = 0.0, l2: float = 0.0):
        self.table, self.optimizer, self.l1, self.l2 = table, optimizer, l1, l2
        self.regularised = bool(l1 or l2)
        self.reading = False
        self.reads: list[tuple[Tensor, Tensor, Tensor]] = []  # the arguments and the result of ``read``

    @property
    def graph_key(self) -> tuple:
        """A CUDA graph of a step may be replayed while this value is that of the recording.

        It contains the addresses of the table and of Adam's state, which are fixed in the graph.
        """
        state = self.optimizer.state.get(self.table.weight, {})
        return tuple(x.data_ptr() for x in (self.table.weight, *state.values()) if isinstance(x, Tensor))

    def prepare(self) -> None:
        """Do what must precede a step and cannot be part of a CUDA graph: nothing here."""

    def state_tensors(self) -> list[Tensor]:
        """Return what a step changes besides the table and the optimizer's state, unless ``prepare`` recomputes it."""
        return []

    def save_state(self) -> dict[str, Any]:
        """Return what the next step depends on besides the table and the optimizer's state, for ``load_state``."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what ``save_state`` returned, after the optimizer's state has been loaded."""

    def count(self) -> None:
        """Count a step on the host, after it was run or replayed: nothing here depends on it."""

    def begin(self) -> None:
        """Forget the last step's reads."""
        self.reads = []

    def read(self, rows: Tensor, padded: Tensor) -> Tensor:
        """Return the embeddings of a batch as a leaf of the step's graph.

        Args:
            rows: (B, F), rows of the table.
            padded: (B, F), whether a row is a padding row, which gets no gradient.

        Returns:
            (B, F, ΣK).
        """
        e = F.embedding(rows, self.table.weight.detach()).requires_grad_()
        self.reads.append((rows, padded, e))
        return e

    @torch.no_grad()
    def collect(self) -> tuple[Tensor | float, Tensor | float]:
        """Sum up the gradient. Return its squared norm, and the regulariser's value."""
        W = self.table.weight.detach()
        G = self._gradient_of_regulariser(W) if self.regularised else torch.zeros_like(W)
        square, penalty = self._norm_and_penalty()
        batch = list(self._gradients())
        before: list[Tensor | float] = [F.embedding(rows, G) if self.regularised else 0.0 for rows, _ in batch]
        for rows, g in batch:
            G.index_add_(0, rows.flatten(), g.flatten(0, 1))
        for (rows, g), G_before in zip(batch, before, strict=True):
            # ‖G + ΔG‖² - ‖G‖² = ⟨ΔG, G + (G + ΔG)⟩, and ΔG is the sum of g over the batch's occurrences of a row.
            square = square + (g * (G_before + F.embedding(rows, G))).sum()
        self.table.weight.grad = G
        return square, penalty

    @torch.no_grad()
    def scale_reads(self, factor: float) -> None:
        """Multiply the gradients of all reads by a factor, before ``collect`` sums them up."""
        for _, _, e in self.reads:
            if e.grad is not None:
                e.grad.mul_(factor)

    def scale(self, factor: Tensor) -> None:
        """Multiply the gradient by a factor (), as clipping does."""
        if self.table.weight.grad is not None:
            self.table.weight.grad.mul_(factor)

    def finish(self) -> None:
        """Do what follows the optimizer's step: nothing here."""

    def settle(self) -> None:
        """Complete postponed updates: there are none here."""

    def _gradients(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield (rows, gradient) of each read, with the gradients of padding rows set to 0."""
        for rows, padded, e in self.reads:
            if e.grad is not None:
                yield rows, e.grad.masked_fill_(padded.unsqueeze(-1), 0)

    def _read_gradients(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Return (rows, gradient, embeddings) of each read, after ``_gradients``."""
        return [(rows, e.grad, e.detach()) for rows, _, e in self.reads if e.grad is not None]

    def _gradient_of_regulariser(self, W: Tensor, out: Tensor | None = None) -> Tensor:
        """Return λ₁ sign(W) + λ₂ W."""
        if not self.l1:
            return torch.mul(W, self.l2, out=out)
        return torch.sign(W, out=out).mul_(self.l1).add_(W, alpha=self.l2)

    def _norm_and_penalty(self) -> tuple[Tensor | float, Tensor | float]:
        """Return ‖λ₁ sign(W) + λ₂ W‖², and λ₁‖W‖₁ + λ₂/2 ‖W‖²."""
        if not self.regularised:
            return 0.0, 0.0
        W = self.table.weight.detach()
        square = squared_norm(W)
        if not self.l1:
            return self.l2**2 * square, self.l2 / 2 * square
        norm1 = torch.linalg.vector_norm(W, 1)
        of_signs = self.l1**2 * torch.linalg.vector_norm(W, 0) + 2 * self.l1 * self.l2 * norm1
        return of_signs + self.l2**2 * square, self.l1 * norm1 + self.l2 / 2 * square


def find_kernels(weight: Tensor) -> ModuleType | None:
    """Return the module ``table_kernels`` if Triton can run it on this table, else None.

    Triton comes with PyTorch's CUDA wheels. If it is installed but fails, or is wrong, on a table of a few rows, one
    line in the log says so.
    """
    if weight.device.type != "cuda" or weight.dtype != torch.float32 or find_spec("triton") is None:
        return None
    if torch.are_deterministic_algorithms_enabled():  # the kernels add in an arbitrary order
        return None
    from fuxictr_me.training import kernel_check, table_kernels  # both need Triton

    return table_kernels if kernel_check.kernels_work_on(weight.device, weight.shape[1]) else None


def squared_norm(x: Tensor) -> Tensor:
    """Return ‖x‖²."""
    return torch.linalg.vector_norm(x).square()
