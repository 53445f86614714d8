"""What reads the rows of a fused table in a training step, and takes their gradients: dense, or by rows.

A step calls ``prepare``; then ``begin``, ``read`` (by the table), ``collect``, ``scale``, ``finish``; then ``count``.
On a GPU, those between never wait for the device, their tensors have the same shapes in every step with the same batch
size, and they can be replayed as a CUDA graph.
"""

import functools
from importlib.util import find_spec

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim.adam import adam

from fuxictr_me.training.adam_by_rows import adam_state, corrections, learning_rate, move_rows

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
        square = _squared_norm(W)
        if not self.l1:
            return self.l2**2 * square, self.l2 / 2 * square
        norm1 = torch.linalg.vector_norm(W, 1)
        of_signs = self.l1**2 * torch.linalg.vector_norm(W, 0) + 2 * self.l1 * self.l2 * norm1
        return of_signs + self.l2**2 * square, self.l1 * norm1 + self.l2 / 2 * square


class TouchedRows(DenseRows):
    """Keep the gradient of the batch's rows alone, summed by row, in place of that of the table.

    Args:
        table, optimizer, l1, l2: as ``DenseRows`` takes them.
        on_cpu (bool or None): whether shapes may depend on the data; None: if the table lies on a CPU.
        kernels (module or None): ``table_kernels``, or None for PyTorch's operations alone.

    Attributes:
        touched (Tensor): (n,), rows of the table; each once on a CPU. Elsewhere n is the number of ids in the batch,
            for to leave out the repeated ones, a device would have to tell the host how many there are.
        place (Tensor): (ids in the batch,), where the gradient of each id's row is summed up; -1: nowhere.
        gradient (Tensor): (n, ΣK), whose rows that are nobody's ``place`` do not count.
    """

    def __init__(self, table, optimizer, l1=0.0, l2=0.0, on_cpu=None, kernels=None):
        super().__init__(table, optimizer, l1, l2)
        self.on_cpu = table.weight.device.type == "cpu" if on_cpu is None else on_cpu
        self.kernels = kernels

    @torch.no_grad()
    def collect(self):
        weight = self.table.weight.detach()
        if self.kernels:
            return self._collect_by_kernels(weight), 0.0
        batch = list(self._gradients())
        rows = _joined([rows.flatten() for rows, _ in batch], self.table.sizes.new_zeros(0))
        g = _joined([g.flatten(0, 1) for _, g in batch], weight.new_zeros(0, weight.shape[1]))
        self.touched, self.place = self._number(rows)
        self.gradient = weight.new_zeros(len(self.touched), weight.shape[1]).index_add_(0, self.place, g)
        return _squared_norm(self.gradient), 0.0

    def _collect_by_kernels(self, weight: Tensor) -> Tensor:
        """Sum up in the gradients' own memory; returns ‖ΔG‖² + 2⟨ΔG, G⟩, see ``_with_gradient_of_regulariser``."""
        reads = [(rows, padded, e.grad, e) for rows, padded, e in self.reads if e.grad is not None]
        rows, padded, g, e = zip(*reads, strict=True) if reads else ((), (), (), ())
        none, empty = self.table.sizes.new_zeros(0), weight.new_zeros(0, weight.shape[1])
        rows = _joined([x.flatten() for x in rows], none)
        padded = _joined([x.flatten() for x in padded], none.bool())
        self.gradient = _joined([x.flatten(0, 1) for x in g], empty).contiguous()
        e = _joined([x.detach().flatten(0, 1) for x in e], empty).contiguous()
        self.touched, self.place = self._number(rows, padded)
        return self.kernels.sum_by_row(self.gradient, e, self.place, self.l1, self.l2)

    def scale(self, factor):
        self.gradient.mul_(factor)

    @functools.cached_property
    def slots(self) -> Tensor:
        """(ΣD,), int32: for each row of the table a place of the batch; -1 where it has none, or an older one."""
        return torch.full_like(self.table.weight.detach()[:, 0], -1, dtype=torch.int32)

    def _number(self, rows: Tensor, padded: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Give each of ``rows`` (N,) a number that equal ones share; returns whose number 0, 1, … is, and the numbers.

        Without a CPU the number of a row is one of the positions at which it stands, whichever was written last; -1
        if the row is ``padded`` (N,).
        """
        if self.on_cpu:
            return rows.unique(return_inverse=True)
        positions = torch.arange(len(rows), dtype=torch.int32, device=rows.device)
        if padded is not None:
            positions = positions.masked_fill(padded, -1)
        self.slots[rows] = positions
        return rows, self.slots[rows].long()

    def _is_first(self, place: Tensor) -> Tensor:
        """Whether each position of the batch is the one that stands for its row: (N,), bool."""
        return place == torch.arange(len(place), device=place.device)

    def _with_gradient_of_regulariser(self, square: Tensor) -> tuple[Tensor, Tensor]:
        """‖ΔG‖² -> ‖G + ΔG‖² = ‖G‖² + 2⟨ΔG, G⟩ + ‖ΔG‖², and the regulariser's value; G is the regulariser's gradient.

        ⟨ΔG, G⟩ is a sum over the batch's ids, for ΔG is one, and the embeddings that were read are rows of W.
        """
        of_regulariser, penalty = self._norm_and_penalty()
        for _, g, e in self._read_gradients():
            if self.l2:
                square = square + 2 * self.l2 * torch.dot(g.flatten(), e.flatten())
            if self.l1:
                square = square + 2 * self.l1 * torch.dot(g.flatten(), e.flatten().sign())
        return square + of_regulariser, penalty

    @torch.no_grad()
    def _move_touched(self, lazily: bool = False) -> None:
        """Let Adam step on the batch's rows, others rest; see ``move_rows``."""
        weight, group = self.table.weight, self.optimizer.param_groups[0]
        state = adam_state(self.optimizer, weight)
        state["step"] += 1
        terms = (learning_rate(group, weight), corrections(state["step"], group["betas"]), group, lazily)
        if self.kernels:
            first = self._is_first(self.place)
            self.kernels.move_rows(weight.detach(), state, self.touched, first, self.gradient, *terms)
        else:
            g = self.gradient if self.on_cpu else self.gradient[self.place]
            move_rows(weight.detach(), state, self.touched, g, *terms)
        self.gradient = None


class SweptRows(TouchedRows):
    """Dense Adam on a CPU, piece by piece: what ``DenseRows`` does, in one pass through the memory.

    The gradient of the whole table is never there: that of a piece is made, used and overwritten while it lies in the
    cache. The norm for clipping comes before, from ‖W‖ and the batch's rows alone.
    """

    capturable = False

    @torch.no_grad()
    def collect(self):
        square, penalty = super().collect()
        return self._with_gradient_of_regulariser(square) if self.regularised else (square, penalty)

    def begin(self):
        super().begin()
        self.factor = None

    def scale(self, factor):
        self.factor = factor

    @torch.no_grad()
    def finish(self):
        """One step of Adam on every row."""
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
    """What updates every row in every step: in one pass through the memory where Adam does it, else as ``DenseRows``.

    Args:
        table, optimizer, l1, l2: as ``DenseRows`` takes them.
        on_cpu (bool or None): where it runs; None: where the table lies.
    """
    on_cpu = table.weight.device.type == "cpu" if on_cpu is None else on_cpu
    if type(optimizer) is not torch.optim.Adam:
        return DenseRows(table, optimizer, l1, l2)
    if on_cpu:
        return SweptRows(table, optimizer, l1, l2)
    group, kernels = optimizer.param_groups[0], find_kernels(table.weight)
    if kernels is None or group["amsgrad"] or group["maximize"]:
        return DenseRows(table, optimizer, l1, l2)
    from fuxictr_me.training.one_pass import OnePassRows

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


class LazyRows(TouchedRows):
    """``embedding_updates: lazy``: what PyTorch's SparseAdam does, on the rows of the batch. It is NOT dense Adam.

    On a step in which its id does not occur, a row keeps its moments and does not move; and eps enters before the
    bias correction.
    """

    def __init__(self, table, optimizer, on_cpu=None):
        super().__init__(table, optimizer, on_cpu=on_cpu, kernels=find_kernels(table.weight))

    def finish(self):
        self._move_touched(lazily=True)


def _squared_norm(x):
    return torch.linalg.vector_norm(x).square()


def _joined(tensors: list[Tensor], empty: Tensor) -> Tensor:
    if len(tensors) == 1:
        return tensors[0]
    return torch.cat(tensors) if tensors else empty
