"""What reads the rows of a fused table in a training step, and takes their gradients: dense, or by rows."""

import torch
from torch.nn import functional as F
from torch.optim.adam import adam

PIECE = 1 << 20  # numbers of a table that are updated while they lie in the cache
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
        capturable (bool): whether a step can be recorded: Python keeps nothing from step to step.
    """

    capturable = True

    def __init__(self, table, optimizer, l1=0.0, l2=0.0):
        self.table, self.optimizer, self.l1, self.l2 = table, optimizer, l1, l2
        self.regularised = bool(l1 or l2)
        self.reading, self.reads = False, []

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

    @property
    def graph_key(self) -> tuple:
        """A recorded step may be replayed while this is what it was at the recording."""
        state = self.optimizer.state.get(self.table.weight, {})
        return tuple(x.data_ptr() for x in (self.table.weight, *state.values()) if isinstance(x, torch.Tensor))

    def state_tensors(self) -> list:
        """Tensors that a step changes, besides weights and the optimizer's state: none."""
        return []

    def prepare(self) -> None:
        """Do what must precede a step and cannot be recorded: nothing."""

    def count(self) -> None:
        """Note on the host that a step was made or replayed: nothing depends on it."""

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
        square = _squared_norm(W)
        if not self.l1:
            return self.l2**2 * square, self.l2 / 2 * square
        norm1 = torch.linalg.vector_norm(W, 1)
        of_signs = self.l1**2 * torch.linalg.vector_norm(W, 0) + 2 * self.l1 * self.l2 * norm1
        return of_signs + self.l2**2 * square, self.l1 * norm1 + self.l2 / 2 * square


class TouchedRows(DenseRows):
    """What keeps the gradient of the batch's rows alone, summed by row, in place of that of the table."""

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


class SweptRows(TouchedRows):
    """Dense Adam on a CPU, piece by piece: what ``DenseRows`` does, in one pass through the memory.

    The gradient of the whole table is never there: that of a piece is made, used and overwritten while it lies in the
    cache. The norm for clipping comes before, from ‖W‖ and the batch's rows alone.
    """

    @torch.no_grad()
    def collect(self):
        square, _ = super().collect()
        of_regulariser, penalty = self._norm_and_penalty()
        if self.regularised:  # ‖G + ΔG‖² = ‖G‖² + 2⟨ΔG, G⟩ + ‖ΔG‖²
            rows = self.table.weight.detach()[self.touched]
            square = square + 2 * (self.gradient * self._of_regulariser(rows)).sum() + of_regulariser
        return square, penalty

    def begin(self):
        super().begin()
        self.factor = None

    def scale(self, factor):
        self.factor = factor

    @torch.no_grad()
    def finish(self):
        """One step of Adam on every row."""
        weight, group = self.table.weight.detach(), self.optimizer.param_groups[0]
        state = self.optimizer.state[self.table.weight]
        if not state:
            state.update(step=torch.tensor(0.0), exp_avg=torch.zeros_like(weight), exp_avg_sq=torch.zeros_like(weight))
        options = {key: group[key] for key in ("amsgrad", "lr", "weight_decay", "eps", "maximize")}
        options |= dict(zip(("beta1", "beta2"), group["betas"], strict=True))
        size = max(1, PIECE // weight.shape[1])
        starts = range(0, len(weight), size)
        bounds = torch.searchsorted(self.touched, torch.tensor([*starts, len(weight)])).tolist()
        buffer = weight.new_zeros(min(size, len(weight)), weight.shape[1])
        for start, first, last in zip(starts, bounds, bounds[1:], strict=False):
            piece = slice(start, start + size)
            W, rows = weight[piece], self.touched[first:last] - start
            G = buffer[: len(W)]
            if self.regularised:
                self._of_regulariser(W, out=G)
            G.index_add_(0, rows, self.gradient[first:last])
            if self.factor is not None:
                G.mul_(self.factor)
            step, moments = state["step"].clone(), ([state[m][piece]] for m in ("exp_avg", "exp_avg_sq"))
            adam([W], [G], *moments, [], [step], fused=True, **options)
            if not self.regularised:
                G.index_fill_(0, rows, 0)
        state["step"] += 1
        self.gradient = None


def dense_rows(table, optimizer, l1=0.0, l2=0.0, on_cpu=None):
    """What updates every row in every step: by pieces where a CPU runs Adam, else at once.

    Args:
        table, optimizer, l1, l2: as ``DenseRows`` takes them.
        on_cpu (bool or None): where it runs; None: where the table lies.
    """
    on_cpu = table.weight.device.type == "cpu" if on_cpu is None else on_cpu
    return (SweptRows if on_cpu and type(optimizer) is torch.optim.Adam else DenseRows)(table, optimizer, l1, l2)


class LazyRows(TouchedRows):
    """``embedding_updates: lazy``: PyTorch's SparseAdam on the rows of the batch. It is NOT dense Adam.

    On a step in which its id does not occur, a row keeps its moments and does not move; and eps enters before the
    bias correction.
    """

    capturable = False

    def __init__(self, table, optimizer, on_cpu=None):
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
