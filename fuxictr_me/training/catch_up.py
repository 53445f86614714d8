"""Dense Adam by rows: a row's missed steps are made up for when it is read next."""

import torch

from fuxictr_me.training.rows import TouchedRows, dense_rows

FIRST_STEPS = 200  # dense: only then do Adam's bias corrections change slowly enough for the series below
WINDOW = 300  # missed steps that move a row: β₁³⁰⁰ = 2e-14
TERMS = 8  # of the series; relative error of a move below 1e-10 from step 200 on, 1e-15 from step 1,000
CHUNK_ROWS = 1 << 17


class CaughtUpRows(TouchedRows):
    """``embedding_updates: catch_up``: dense Adam to rounding, though only the rows of the batch are touched.

    Without a gradient, dense Adam still moves a row: in the j-th step after step s by

        Δ_j = -lr β₁ʲ m / (1 - β₁^(s+j)) / (√(β₂ʲ v) / √(1 - β₂^(s+j)) + ε) = -lr m A_j / (√v B_j + ε),

    with A_j = β₁ʲ / (1 - β₁^(s+j)) and B_j = β₂^(j/2) / √(1 - β₂^(s+j)). The sum over the missed steps has no closed
    form, for each entry has a √v of its own. But B_j hardly changes while A_j dies away, so 1 / (√v B_j + ε) is
    expanded around B, the A-weighted mean of the B_j: with y = √v B / (√v B + ε), which lies between 0 and 1,

        Σ_j Δ_j = -lr m / (√v B + ε) · Σ_n (-y)ⁿ Σ_j A_j ((B_j - B) / B)ⁿ,

    where the sums over j depend on s and the number of missed steps alone. A row is caught up before it is read;
    evaluations, checkpoints and a new learning rate catch up every row first (``settle``).

    The first ``FIRST_STEPS`` steps are dense.
    """

    capturable = False

    def __init__(self, table, optimizer, on_cpu=None):
        super().__init__(table, optimizer)
        self.group = optimizer.param_groups[0]
        self.lr, self.steps = self.group["lr"], 0
        self.dense, self.missed = dense_rows(table, optimizer, on_cpu=on_cpu), None  # in the first steps; behind them

    def begin(self):
        if self.group["lr"] != self.lr:
            self.settle()
            self.lr = self.group["lr"]
        if self.steps == FIRST_STEPS and self.dense:
            self._leave_dense()
        (self.dense or super()).begin()

    def read(self, rows, padded):
        if self.dense:
            return self.dense.read(rows, padded)
        self._catch_up(rows.unique())
        return super().read(rows, padded)

    def collect(self):
        return (self.dense or super()).collect()

    def scale(self, factor):
        (self.dense or super()).scale(factor)

    def finish(self):
        if self.dense:
            self.dense.finish()
        else:
            self._update_touched()
        self.steps += 1

    @torch.no_grad()
    def settle(self):
        """Catch up every row: the table is then what dense Adam would have made of it."""
        if self.dense or self.settled_at == self.steps:
            return
        for start in range(0, len(self.last), CHUNK_ROWS):
            stop = min(start + CHUNK_ROWS, len(self.last))
            self._catch_up(torch.arange(start, stop, device=self.last.device))
        self.settled_at = self.steps

    def _leave_dense(self):
        state = self.optimizer.state[self.table.weight]
        self.exp_avg, self.exp_avg_sq = state["exp_avg"], state["exp_avg_sq"]
        self.last = torch.full_like(self.exp_avg[:, 0], self.steps, dtype=torch.int32)  # step up to which a row is done
        self.missed = MissedSteps(self.group["betas"], self.steps, self.last.device)
        self.settled_at, self.dense = self.steps, None

    @torch.no_grad()
    def _catch_up(self, rows):
        last, weight = self.last[rows].long(), self.table.weight.detach()
        B, *sums = self.missed.sums(self.steps)[last - self.missed.first].to(weight.dtype).unsqueeze(-1).unbind(1)
        m, v = self.exp_avg[rows], self.exp_avg_sq[rows]
        y = v.sqrt().mul_(B)
        share = (y + self.group["eps"]).reciprocal_()
        y *= share
        series = sums.pop()
        for of_power in reversed(sums):
            series = of_power - y * series
        weight.index_add_(0, rows, share.mul_(m).mul_(series), alpha=-self.lr)
        beta1, beta2 = self.group["betas"]
        missed = (self.steps - last).to(torch.float64).unsqueeze(-1)
        self.exp_avg[rows] = m.mul_((beta1**missed).to(m.dtype))
        self.exp_avg_sq[rows] = v.mul_((beta2**missed).to(v.dtype))
        self.last[rows] = self.steps

    @torch.no_grad()
    def _update_touched(self):
        (beta1, beta2), step = self.group["betas"], self.steps + 1
        rows, g = self.touched, self.gradient
        m = self.exp_avg[rows].lerp_(g, 1 - beta1)
        v = self.exp_avg_sq[rows].mul_(beta2).addcmul_(g, g, value=1 - beta2)
        self.exp_avg[rows], self.exp_avg_sq[rows] = m, v
        denominator = v.sqrt_().div_((1 - beta2**step) ** 0.5).add_(self.group["eps"])
        self.table.weight.detach().index_add_(0, rows, m.div_(denominator), alpha=-self.lr / (1 - beta1**step))
        self.last[rows] = step
        self.gradient = None


class MissedSteps:
    """B and Σ_j A_j ((B_j - B) / B)ⁿ, n = 0 … ``TERMS``, for the steps that a row has missed (see ``CaughtUpRows``).

    Args:
        betas (tuple of float): of Adam.
        first (int): the earliest step after which a row can have been left.
        device (torch.device)
    """

    def __init__(self, betas, first, device):
        self.betas, self.first, self.done = betas, first, None
        self.table = torch.zeros(4 * WINDOW, TERMS + 2, dtype=torch.float64, device=device)
        steps = torch.arange(1, WINDOW + 1, dtype=torch.float64, device=device)
        self.ago = (steps.unsqueeze(1) - steps).long()  # [missed, j]: how long ago the j-th of them was
        self.A, self.B = betas[0] ** steps, betas[1] ** (steps / 2)

    def sums(self, done):
        """Rows for a last step of ``first``, ``first + 1``, … ``done``: (done - first + 1 or more, TERMS + 2)."""
        if done == self.done:
            return self.table
        self.done = done
        if done - self.first >= len(self.table):
            self.table = torch.cat([self.table, torch.zeros_like(self.table)])
        self.table[done - self.first] = 0  # nothing missed: no move
        missed = min(WINDOW, done - self.first)  # a row left longer ago has its sums already: the window is full
        if missed:
            self.table[done - missed - self.first : done - self.first] = self._of_missed(missed, done).flip(0)
        return self.table

    def _of_missed(self, most, done):
        """For 1, 2, … ``most`` missed steps before step ``done`` + 1: (most, TERMS + 2)."""
        ago = self.ago[:most, :most]
        step = done - torch.arange(most, dtype=torch.float64, device=ago.device)
        beta1, beta2 = self.betas
        A = torch.where(ago >= 0, self.A[:most] / (1 - beta1**step)[ago], 0)
        B_j = self.B[:most] / (1 - beta2**step).sqrt()[ago]
        B = (A * B_j).sum(1, keepdim=True) / A.sum(1, keepdim=True)
        distance, sums = B_j / B - 1, [B]
        for _ in range(TERMS + 1):
            sums.append(A.sum(1, keepdim=True))
            A = A * distance
        return torch.cat(sums, dim=1)
