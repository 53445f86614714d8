"""What reads the rows of a fused table in a training step, and takes their gradients: dense, or by rows.

A step calls ``prepare``; then ``begin``, ``read`` (by the table), ``collect``, ``scale``, ``finish``; then ``count``.
On a GPU, those between never wait for the device, their tensors have the same shapes in every step with the same batch
size, and they can be replayed as a CUDA graph.
"""

from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F

UPDATES = ("dense", "catch_up", "lazy")


class DenseRows:
    """Every row is updated in every step, by the model's optimizer, as in FuxiCTR.

    The gradient of the table begins with the regulariser's, to which the batch's is added; the norm of the sum is known
    without another sweep.

    Args:
        table (FusedTable)
        optimizer (Optimizer): of the model; holds ``table.weight`` among its parameters.
        l1, l2 (float): the regulariser λ₁‖W‖₁ + λ₂/2 ‖W‖²: FuxiCTR's ``embedding_regularizer``.

    Attributes:
        reading (bool): whether ``FusedTable.forward`` hands its rows to ``read``.
        capturable (bool): whether a step can be recorded as a CUDA graph.
    """

    capturable = True

    def __init__(self, table, optimizer, l1=0.0, l2=0.0):
        self.table, self.optimizer, self.l1, self.l2 = table, optimizer, l1, l2
        self.regularised = bool(l1 or l2)
        self.reading, self.reads = False, []

    @property
    def graph_key(self) -> tuple:
        """A CUDA graph of a step may be replayed while this is what it was at the capture.

        It says where the table and Adam's state lie, for a CUDA graph knows nothing else of them.
        """
        state = self.optimizer.state.get(self.table.weight, {})
        return tuple(x.data_ptr() for x in (self.table.weight, *state.values()) if isinstance(x, Tensor))

    def prepare(self) -> None:
        """Do what must precede a step and cannot be part of a CUDA graph: nothing."""

    def state_tensors(self) -> list[Tensor]:
        """Return what a step changes beside the table and the optimizer's state, and ``prepare`` does not make anew."""
        return []

    def count(self) -> None:
        """Note on the host that a step was made or replayed: nothing depends on it."""

    def begin(self):
        """Forget the last step's reads."""
        self.reads = []

    def read(self, rows, padded):
        """The embeddings of a batch, a leaf of the step's graph.

        Args:
            rows (Tensor): (B, F), rows of the table.
            padded (Tensor): (B, F), where a row is a padding row, which gets no gradient.

        Returns:
            Tensor: (B, F, ΣK).
        """
        e = F.embedding(rows, self.table.weight.detach()).requires_grad_()
        self.reads.append((rows, padded, e))
        return e

    @torch.no_grad()
    def collect(self):
        """Put the gradient together.

        Returns:
            (Tensor, Tensor or float): its squared norm, and the regulariser's value.
        """
        W = self.table.weight.detach()
        G = self._of_regulariser(W) if self.regularised else torch.zeros_like(W)
        square, penalty = self._norm_and_penalty()
        batch = list(self._gradients())
        before = [F.embedding(rows, G) if self.regularised else 0.0 for rows, _ in batch]
        for rows, g in batch:
            G.index_add_(0, rows.flatten(), g.flatten(0, 1))
        for (rows, g), G_before in zip(batch, before, strict=True):
            # ‖G + ΔG‖² - ‖G‖² = ⟨ΔG, G + (G + ΔG)⟩, and ΔG is the sum of g over the batch's occurrences of a row.
            square = square + (g * (G_before + F.embedding(rows, G))).sum()
        self.table.weight.grad = G
        return square, penalty

    def scale(self, factor):
        """Multiply the gradient, as clipping does."""
        self.table.weight.grad.mul_(factor)

    def finish(self):
        """After the optimizer's step: nothing is left to do."""

    def settle(self):
        """Nothing is put off."""

    def _gradients(self):
        for rows, padded, e in self.reads:
            if e.grad is not None:
                yield rows, e.grad.masked_fill_(padded.unsqueeze(-1), 0)

    def _read_gradients(self):
        """(rows, gradient, embeddings) of each read, after ``_gradients``."""
        return [(rows, e.grad, e.detach()) for rows, _, e in self.reads if e.grad is not None]

    def _of_regulariser(self, W, out=None):
        """λ₁ sign(W) + λ₂ W."""
        if not self.l1:
            return torch.mul(W, self.l2, out=out)
        return torch.sign(W, out=out).mul_(self.l1).add_(W, alpha=self.l2)

    def _norm_and_penalty(self):
        """‖λ₁ sign(W) + λ₂ W‖², and λ₁‖W‖₁ + λ₂/2 ‖W‖²."""
        if not self.regularised:
            return 0.0, 0.0
        W = self.table.weight.detach()
        square = squared_norm(W)
        if not self.l1:
            return self.l2**2 * square, self.l2 / 2 * square
        norm1 = torch.linalg.vector_norm(W, 1)
        of_signs = self.l1**2 * torch.linalg.vector_norm(W, 0) + 2 * self.l1 * self.l2 * norm1
        return of_signs + self.l2**2 * square, self.l1 * norm1 + self.l2 / 2 * square


def dense_rows(table, optimizer, l1=0.0, l2=0.0, on_cpu=None, kernels=None):
    """What updates every row in every step: in one pass through the memory where Adam does it, else as ``DenseRows``.

    Args:
        table, optimizer, l1, l2: as ``DenseRows`` takes them.
        on_cpu (bool or None): where it runs; None: where the table lies.
        kernels (module or None): None takes those of ``find_kernels``.
    """
    on_cpu = table.weight.device.type == "cpu" if on_cpu is None else on_cpu
    if type(optimizer) is not torch.optim.Adam:
        return DenseRows(table, optimizer, l1, l2)
    from fuxictr_me.training.one_pass import OnePassRows, SweptRows  # which are subclasses of the above

    if on_cpu:
        return SweptRows(table, optimizer, l1, l2)
    group, kernels = optimizer.param_groups[0], kernels or find_kernels(table.weight)
    if kernels is None or group["amsgrad"] or group["maximize"]:
        return DenseRows(table, optimizer, l1, l2)
    return OnePassRows(table, optimizer, l1, l2, kernels)


def find_kernels(weight: Tensor):
    """Return the module ``table_kernels`` if Triton can run it on this table, else None.

    Triton comes with PyTorch's CUDA wheels. If it is there but fails, or is wrong, on a table of a few rows, one line
    in the log says so.
    """
    if weight.device.type != "cuda" or weight.dtype != torch.float32 or find_spec("triton") is None:
        return None
    if torch.are_deterministic_algorithms_enabled():  # the kernels add in any order
        return None
    from fuxictr_me.training import table_kernels

    return table_kernels if table_kernels.work_on(weight.device, weight.shape[1]) else None


def squared_norm(x):
    return torch.linalg.vector_norm(x).square()
