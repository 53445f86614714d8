"""What reads the rows of a fused table in a training step, and takes their gradients: dense, or by rows."""

import torch
from torch.nn import functional as F

UPDATES = ("dense", "catch_up", "lazy")


class DenseRows:
    """Every row is updated in every step, by the model's optimizer: what FuxiCTR does, without its sweeps and pages.

    The gradient of the whole table lies in one buffer that is kept from step to step. A step begins it with the
    regulariser's gradient, adds the batch's, and knows the norm of the sum without another sweep.

    Args:
        table (FusedTable)
        optimizer (Optimizer): of the model; holds ``table.weight`` among its parameters.
        l1, l2 (float): the regulariser λ₁‖W‖₁ + λ₂/2 ‖W‖²: FuxiCTR's ``embedding_regularizer``.

    Attributes:
        reading (bool): whether ``FusedTable.forward`` hands its rows to ``read``.
    """

    def __init__(self, table, optimizer, l1=0.0, l2=0.0):
        self.table, self.optimizer, self.l1, self.l2 = table, optimizer, l1, l2
        self.regularised = bool(l1 or l2)
        self.reading, self.reads, self.gradient = False, [], None
        self.stale = []  # rows of the buffer that hold the last step's gradient

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
        """Put the gradient of the table together.

        Returns:
            (Tensor, Tensor or float): its squared norm ‖G‖², and the regulariser's value.
        """
        if self.gradient is None:
            self.gradient = torch.zeros_like(self.table.weight)
        G = self.gradient
        square, penalty = self._regularise(G)
        batch = list(self._gradients())
        before = [F.embedding(rows, G) if self.regularised else 0 for rows, _ in batch]
        for rows, g in batch:
            G.index_add_(0, rows.flatten(), g.flatten(0, 1))
        for (rows, g), G_before in zip(batch, before, strict=True):
            # ‖G + ΔG‖² - ‖G‖² = ⟨ΔG, G + (G + ΔG)⟩, and ΔG is the sum of g over the batch's occurrences of a row.
            square = square + (g * (G_before + F.embedding(rows, G))).sum()
        self.stale = [rows.flatten() for rows, _ in batch]
        self.table.weight.grad = G
        return square, penalty

    def scale(self, factor):
        """Multiply the gradient, as clipping does."""
        self.table.weight.grad.mul_(factor)

    def finish(self):
        """After the optimizer's step: nothing is left to do."""

    def settle(self):
        """Nothing is put off."""

    def _regularise(self, G):
        """Make G the regulariser's gradient; returns ‖G‖², and the regulariser's value."""
        if not self.regularised:
            for rows in self.stale:
                G.index_fill_(0, rows, 0)
            return 0.0, 0.0
        W = self.table.weight.detach()
        of_l2 = self.l2 / 2 * _squared_norm(W)
        if not self.l1:
            torch.mul(W, self.l2, out=G)
            return 2 * self.l2 * of_l2, of_l2
        torch.sign(W, out=G).mul_(self.l1).add_(W, alpha=self.l2)
        return _squared_norm(G), of_l2 + self.l1 * torch.linalg.vector_norm(W, 1)

    def _gradients(self):
        for rows, padded, e in self.reads:
            if e.grad is not None:
                yield rows, e.grad.masked_fill_(padded.unsqueeze(-1), 0)


class TouchedRows(DenseRows):
    """Only the rows of the batch are read, updated and clipped: the gradient is that of these rows alone.

    The whole-table regulariser gives every row a gradient, so there can be none.
    """

    @torch.no_grad()
    def collect(self):
        batch = list(self._gradients())
        rows = torch.cat([rows.flatten() for rows, _ in batch]) if batch else self.table.sizes.new_zeros(0)
        self.touched, place = rows.unique(return_inverse=True)
        self.gradient = self.table.weight.new_zeros(len(self.touched), self.table.weight.shape[1])
        if batch:
            self.gradient.index_add_(0, place, torch.cat([g.flatten(0, 1) for _, g in batch]))
        return _squared_norm(self.gradient), 0.0

    def scale(self, factor):
        self.gradient.mul_(factor)

    def finish(self):
        """Update the rows of the batch."""
        raise NotImplementedError


class LazyRows(TouchedRows):
    """``embedding_updates: lazy``: PyTorch's SparseAdam on the rows of the batch. It is NOT dense Adam.

    On a step in which its id does not occur, a row keeps its moments and does not move; and eps enters before the
    bias correction.
    """

    def __init__(self, table, optimizer):
        super().__init__(table, optimizer)
        group = optimizer.param_groups[0]
        self.sparse_adam = torch.optim.SparseAdam([table.weight], group["lr"], group["betas"], group["eps"])

    @torch.no_grad()
    def finish(self):
        weight = self.table.weight
        rows = self.touched.unsqueeze(0)
        weight.grad = torch.sparse_coo_tensor(
            rows, self.gradient, weight.shape, is_coalesced=True, check_invariants=False
        )
        self.sparse_adam.param_groups[0]["lr"] = self.optimizer.param_groups[0]["lr"]
        self.sparse_adam.step()
        weight.grad = self.gradient = None


def _squared_norm(x):
    return torch.linalg.vector_norm(x).square()
