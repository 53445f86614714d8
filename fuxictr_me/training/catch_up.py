"""Dense Adam by rows: a row catches up on its missed steps when it is read next."""

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fuxictr_me.nn.fused_table import FusedTable
from fuxictr_me.training.adam_by_rows import adam_state, learning_rate
from fuxictr_me.training.dense_update import choose_dense_update
from fuxictr_me.training.table_updates import DenseRows, find_kernels
from fuxictr_me.training.touched_rows import TouchedRows

FIRST_STEPS = 200  # dense: only then do Adam's bias corrections change slowly enough for the series below
WINDOW = 300  # missed steps that move a row: β₁³⁰⁰ = 2e-14
TERMS = 8  # of the series; relative error of a move below 1e-10 from step 200 on, 1e-15 from step 1,000
CHUNK_ROWS = 1 << 17  # rows of a table that are settled together
CHUNK_ROWS_ON_CPU = 1 << 14  # few enough to stay in the cache of a CPU


class CaughtUpRows(TouchedRows):
    """``embedding_updates: catch_up``: dense Adam up to rounding, although only the rows of the batch are touched.

    Without a gradient, dense Adam still moves a row: in the j-th step after step s by

        Δ_j = -lr β₁ʲ m / (1 - β₁^(s+j)) / (√(β₂ʲ v) / √(1 - β₂^(s+j)) + ε) = -lr m A_j / (√v B_j + ε),

    with A_j = β₁ʲ / (1 - β₁^(s+j)) and B_j = β₂^(j/2) / √(1 - β₂^(s+j)). The sum over the missed steps has no closed
    form, because each entry has its own √v. But B_j hardly changes while A_j vanishes, so 1 / (√v B_j + ε) is
    expanded around B, the A-weighted mean of the B_j: with y = √v B / (√v B + ε), which lies between 0 and 1,

        Σ_j Δ_j = -lr m / (√v B + ε) · Σ_n (-y)ⁿ Σ_j A_j ((B_j - B) / B)ⁿ,

    where the sums over j depend only on s and the number of missed steps. A row is caught up before it is read;
    evaluations, checkpoints and a new learning rate first let every row catch up (``settle``).

    The first ``FIRST_STEPS`` steps are dense.
    """

    last: Tensor  # (ΣD,), int32, the step up to which each row is updated
    settled_at: int  # step after which every row was up to date

    def __init__(
        self,
        table: FusedTable,
        optimizer: torch.optim.Optimizer,
        on_cpu: bool | None = None,
        kernels: ModuleType | None = None,
    ):
        super().__init__(table, optimizer, on_cpu=on_cpu, kernels=kernels or find_kernels(table.weight))
        self.group = optimizer.param_groups[0]
        self.lr: Any = self.group["lr"]  # of the missed steps
        self.steps: int | None = None  # steps so far, counted on the host
        self.dense: DenseRows | None = choose_dense_update(
            table, optimizer, on_cpu=on_cpu, kernels=kernels
        )  # in first steps

    def prepare(self) -> None:
        if self.steps is None:  # a loaded optimizer has taken some
            self.steps = int(self.optimizer.state.get(self.table.weight, {}).get("step", 0))
        lr = self.group["lr"]
        if not isinstance(lr, Tensor) and lr != self.lr:
            self.settle()
            self.lr = lr
        if self.dense and self.steps >= FIRST_STEPS:
            self._leave_dense()
        if self.dense:
            self.dense.prepare()

    def count(self) -> None:
        self.steps = (self.steps or 0) + 1

    def state_tensors(self) -> list[Tensor]:
        return self.dense.state_tensors() if self.dense else [self.last]

    def save_state(self) -> dict[str, Any]:
        state = {"steps": self.steps, "lr": self.lr}
        if self.dense:
            return state
        sums = {"first": self.missed.first, "step": self.missed.step, "sums": self.missed.table}
        return state | {"last": self.last, "settled_at": self.settled_at} | sums

    def load_state(self, state: dict[str, Any]) -> None:
        self.steps, self.lr = state["steps"], state["lr"]
        if "last" in state:
            self._leave_dense()
            self.missed = MissedSteps(self.group["betas"], state["first"], self.last.device)
            self.missed.step.copy_(state["step"])
            self.missed.table.copy_(state["sums"])
            self.last.copy_(state["last"])
            self.settled_at = state["settled_at"]

    @property
    def graph_key(self) -> tuple:
        """Changes once, when rows are no longer updated densely."""
        return (True, *self.dense.graph_key) if self.dense else (False, *super().graph_key)

    def begin(self) -> None:
        if self.dense:
            return self.dense.begin()
        super().begin()
        self.missed.go_to(self._state()["step"])

    def read(self, rows: Tensor, padded: Tensor) -> Tensor:
        if self.dense:
            return self.dense.read(rows, padded)
        lr = learning_rate(self.group, self.table.weight)
        self._catch_up(rows.unique() if self.on_cpu else rows.flatten(), lr)
        return super().read(rows, padded)

    def collect(self) -> tuple[Tensor | float, Tensor | float]:
        return self.dense.collect() if self.dense else super().collect()

    def scale_reads(self, factor: float) -> None:
        if self.dense:
            self.dense.scale_reads(factor)
        else:
            super().scale_reads(factor)

    def scale(self, factor: Tensor) -> None:
        if self.dense:
            self.dense.scale(factor)
        else:
            super().scale(factor)

    def finish(self) -> None:
        if self.dense:
            return self.dense.finish()
        touched = self.touched
        self._move_touched()
        self.last[touched] = self._state()["step"].int()

    @torch.no_grad()
    def settle(self) -> None:
        """Let every row catch up: the table is then that of dense Adam."""
        if self.dense or self.settled_at == self.steps:
            return
        self.missed.go_to(self._state()["step"])
        lr = torch.full_like(self.table.weight.detach()[0, 0], self.lr)  # that of the missed steps
        size = CHUNK_ROWS_ON_CPU if self.on_cpu else CHUNK_ROWS
        for start in range(0, len(self.last), size):
            stop = min(start + size, len(self.last))
            rows = torch.arange(start, stop, device=self.last.device) if self.kernels else slice(start, stop)
            self._catch_up(rows, lr)
        self.settled_at = self.steps or 0

    def _leave_dense(self) -> None:
        steps = self.steps or 0
        self.table.weight.grad = None  # of the last dense step
        self.last = torch.full_like(self.table.weight.detach()[:, 0], steps, dtype=torch.int32)
        self.missed = MissedSteps(self.group["betas"], steps, self.last.device)
        self.settled_at, self.dense = steps, None

    def _state(self) -> dict:
        return adam_state(self.optimizer, self.table.weight)

    @torch.no_grad()
    def _catch_up(self, rows: Tensor | slice, lr: Tensor) -> None:
        """Let rows (n,) of the table catch up on their missed steps. A row may occur twice."""
        weight, state, last = self.table.weight.detach(), self._state(), self.last[rows]
        step, coefficients = state["step"], self.missed.coefficients(last).to(weight.dtype)
        if self.kernels and isinstance(rows, Tensor):  # a kernel cannot read a slice
            behind = self._is_first(self._number(rows)[1]) & (last < step)
            self.kernels.catch_up(weight, state, rows, behind, coefficients, lr, self.group["eps"])
        else:
            make_up(weight, state, rows, coefficients, lr, self.group["eps"])
        self.last[rows] = step.int()


def make_up(weight: Tensor, state: dict, rows: Tensor | slice, coefficients: Tensor, lr: Tensor, eps: float) -> None:
    """Take the steps that rows of a table have missed.

    Args:
        weight: (D, K), changed in place, as ``exp_avg`` and ``exp_avg_sq`` (D, K) in ``state`` are.
        rows: (n,); a row may occur twice. A slice avoids copies of the moments.
        coefficients: (n, TERMS + 4), see ``MissedSteps.coefficients``.
        lr: ().
        eps: Adam's ε.
    """
    B, *sums, decay1, decay2 = coefficients.unsqueeze(-1).unbind(1)
    m, v = state["exp_avg"][rows], state["exp_avg_sq"][rows]
    y = v.sqrt().mul_(B)
    share = (y + eps).reciprocal_()
    y *= share
    series = sums.pop()
    for of_power in reversed(sums):
        series = of_power - y * series
    weight[rows] = weight[rows].sub_(share.mul_(m).mul_(series).mul_(lr))
    state["exp_avg"][rows] = m.mul_(decay1)
    state["exp_avg_sq"][rows] = v.mul_(decay2)


class MissedSteps:
    """B and Σ_j A_j ((B_j - B) / B)ⁿ, n = 0 … ``TERMS``, for the steps that a row has missed (see ``CaughtUpRows``).

    They depend on the number of missed steps and on the step before them. For up to ``WINDOW`` missed steps, the table
    has them by this number, for the step of the last ``go_to``. Of a row that was updated longer ago, only the first
    ``WINDOW`` missed steps count. Their sums are indexed by the step before them, and stored when ``go_to`` passes by.
    Once β₂ˢ is below the rounding of float64, they no longer depend on that step.

    Args:
        betas: of Adam.
        first: the earliest step that can be the last one of a row.
        device: of the table.
    """

    def __init__(self, betas: tuple[float, float], first: int, device: torch.device):
        self.betas, self.first = betas, first
        self.noted = max(1, math.ceil(math.log(2**-53) / math.log(betas[1])) - first)
        self.table = torch.zeros(WINDOW + 1 + self.noted, TERMS + 2, dtype=torch.float64, device=device)
        self.ago = torch.arange(WINDOW, dtype=torch.float64, device=device)  # steps before that of ``go_to``
        number = torch.arange(1, WINDOW + 1, device=device)
        self.place = (number.unsqueeze(1) - number).clamp_(min=0)  # [missed, j]: how long ago the j-th of them was
        self.counts = number.unsqueeze(1) >= number
        self.A = torch.pow(betas[0], number.double()) * self.counts
        self.B = torch.pow(betas[1], number.double() / 2)
        self.step = torch.zeros((), dtype=torch.float64, device=device)

    def go_to(self, step: Tensor) -> None:
        """Set the step, a Tensor (), up to which rows catch up: the one after the last call's, or the same again."""
        self.step.copy_(step)
        beta1, beta2 = self.betas
        before = self.step - self.ago
        A = self.A * (1 / (1 - torch.pow(beta1, before)))[self.place]
        B_j = self.B * (1 - torch.pow(beta2, before)).rsqrt()[self.place]
        B = (A * B_j).sum(1, keepdim=True) / A.sum(1, keepdim=True)
        distance, terms = B_j / B - 1, [B]
        for _ in range(TERMS + 1):
            terms.append(A.sum(1, keepdim=True))
            A = A * distance
        sums = torch.cat(terms, dim=1)
        self.table[1 : WINDOW + 1] = sums  # those of steps before ``first`` are meaningless and never read
        noted = (self.step - WINDOW - self.first).clamp(0, self.noted - 1).long() + WINDOW + 1
        self.table.index_copy_(0, noted.view(1), sums[-1:])

    def coefficients(self, last: Tensor) -> Tensor:
        """Return B, the sums, and the moments' decay since the last step ``last`` (n,) of rows: (n, TERMS + 4)."""
        missed = self.step - last
        noted = (last - self.first).clamp(max=self.noted - 1) + WINDOW + 1
        place = torch.where(missed <= WINDOW, missed, noted).long()
        decays = [torch.pow(beta, missed).unsqueeze(1) for beta in self.betas]
        return torch.cat([self.table[place], *decays], dim=1)
