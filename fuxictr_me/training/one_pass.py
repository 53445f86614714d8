"""Dense Adam in one pass over the table: in pieces on a CPU, with a kernel on a GPU."""

from types import ModuleType

import torch
from torch import Tensor
from torch.optim.adam import adam

from fuxictr_me.nn.fused_table import FusedTable
from fuxictr_me.training.adam_by_rows import adam_state, corrections, learning_rate
from fuxictr_me.training.touched_rows import TouchedRows

PIECE = 1 << 20  # entries of a table that are updated at once, which the cache holds


class SweptRows(TouchedRows):
    """Dense Adam on a CPU, piece by piece: what ``DenseRows`` does, in one pass over the memory.

    The gradient of the whole table never exists. That of a piece is computed, used and overwritten while it is in the
    cache. The norm for clipping is computed before, from ‖W‖ and the batch's rows alone.
    """

    capturable = False
    factor: Tensor | None

    @torch.no_grad()
    def collect(self) -> tuple[Tensor | float, Tensor | float]:
        square, penalty = super().collect()
        return self._with_gradient_of_regulariser(square) if self.regularised else (square, penalty)

    def begin(self) -> None:
        super().begin()
        self.factor = None

    def scale(self, factor: Tensor) -> None:
        self.factor = factor

    @torch.no_grad()
    def finish(self) -> None:
        """Take a step of Adam on every row."""
        assert self.gradient is not None  # noqa: S101 - ``collect`` came before
        weight, group = self.table.weight.detach(), self.optimizer.param_groups[0]
        state = adam_state(self.optimizer, self.table.weight)
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
                self._gradient_of_regulariser(W, out=G)
            G.index_add_(0, rows, self.gradient[first:last])
            if self.factor is not None:
                G.mul_(self.factor)
            exp_avg, exp_avg_sq, step = [state["exp_avg"][piece]], [state["exp_avg_sq"][piece]], state["step"].clone()
            adam([W], [G], exp_avg, exp_avg_sq, [], [step], fused=True, **options)
            if not self.regularised:
                G.index_fill_(0, rows, 0)
        state["step"] += 1
        self.gradient = None


class OnePassRows(TouchedRows):
    """What ``DenseRows`` does, without a gradient of the table's size, and with 24 bytes of traffic per entry.

    The kernel reads W and Adam's two moments, adds the regulariser's gradient to that of the batch's rows, clips it,
    takes the step, writes all three, and sums up ‖W‖ for the next step's clipping and penalty in the same pass.

    Args:
        table, optimizer, l1, l2: see ``DenseRows``; the optimizer is ``torch.optim.Adam``.
        kernels: the module ``table_kernels``.

    Attributes:
        sums: (3,), float64: Σw², Σ|w| and the number of w ≠ 0 over the table after the last step. ``prepare`` computes
            them again if something else has changed the weights.
    """

    def __init__(self, table: FusedTable, optimizer: torch.optim.Optimizer, l1: float, l2: float, kernels: ModuleType):
        super().__init__(table, optimizer, l1, l2, on_cpu=False, kernels=kernels)
        weight = table.weight.detach()
        self.sums = weight.new_zeros(3, dtype=torch.float64)
        self.summed: tuple[int, int] | None = None  # storage and version of the weights that ``sums`` belongs to
        self.no_clipping = weight.new_ones(())

    @torch.no_grad()
    def prepare(self) -> None:
        """Compute ``sums`` if the weights are not those after the last step, e.g. loaded ones."""
        weight = self.table.weight
        # PyTorch counts changes in place, except those by the kernel
        seen = weight.untyped_storage()._cdata, weight._version
        if self.regularised and seen != self.summed:
            W, norm = weight.detach(), torch.linalg.vector_norm
            norms = [norm(W).double().square(), *((norm(W, p).double() for p in (1, 0)) if self.l1 else ())]
            self.sums[: len(norms)] = torch.stack(norms)
            self.summed = seen

    def begin(self) -> None:
        super().begin()
        self.factor = self.no_clipping

    @torch.no_grad()
    def collect(self) -> tuple[Tensor | float, Tensor | float]:
        self.slots.fill_(-1)
        square, _ = super().collect()
        of_regulariser, penalty = self._norm_and_penalty() if self.regularised else (0.0, 0.0)
        return square + of_regulariser, penalty

    def scale(self, factor: Tensor) -> None:
        self.factor = factor

    @torch.no_grad()
    def finish(self) -> None:
        """Take a step of Adam on every row."""
        weight, group = self.table.weight, self.optimizer.param_groups[0]
        state = adam_state(self.optimizer, weight)
        state["step"] += 1
        partial_sums = self.kernels.sweep(
            weight.detach(),
            state,
            self.slots,
            self.gradient,
            self.factor,
            learning_rate(group, weight),
            corrections(state["step"], group["betas"]),
            group,
            self.l1,
            self.l2,
        )
        if self.regularised:
            self.sums[: len(partial_sums)] = partial_sums.sum(1, dtype=torch.float64)
        self.gradient = None
        del self.place, self.touched  # to free their memory

    def _norm_and_penalty(self) -> tuple[Tensor | float, Tensor | float]:
        square, norm1, count = self.sums.to(self.table.weight.dtype)
        of_signs = self.l1**2 * count + 2 * self.l1 * self.l2 * norm1
        return of_signs + self.l2**2 * square, self.l1 * norm1 + self.l2 / 2 * square
