"""Gradients of the batch's rows of a fused table, and updates of these rows."""

import functools
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fuxictr_me.nn.fused_table import FusedTable
from fuxictr_me.training.adam_by_rows import adam_state, corrections, learning_rate, move_rows
from fuxictr_me.training.table_updates import DenseRows, find_kernels, squared_norm


class TouchedRows(DenseRows):
    """Keep the gradient of the batch's rows only, summed by row, instead of that of the whole table.

    Args:
        table, optimizer, l1, l2: see ``DenseRows``.
        on_cpu: whether shapes may depend on the data; None: if the table lies on a CPU.
        kernels: the module ``table_kernels``, or None to use PyTorch's operations.

    Attributes:
        touched: (n,), rows of the table; each once on a CPU. On a GPU n is the number of ids in the batch, because
            without the repeated ones the device would have to tell the host how many there are.
        place: (ids in the batch,), where the gradient of each id's row is summed up; -1: nowhere.
        gradient: (n, ΣK). Rows that are no id's ``place`` do not count.
    """

    touched: Tensor
    place: Tensor
    gradient: Tensor | None

    def __init__(
        self,
        table: FusedTable,
        optimizer: torch.optim.Optimizer,
        l1: float = 0.0,
        l2: float = 0.0,
        on_cpu: bool | None = None,
        kernels: ModuleType | None = None,
    ):
        super().__init__(table, optimizer, l1, l2)
        self.on_cpu = table.weight.device.type == "cpu" if on_cpu is None else on_cpu
        self.kernels: Any = kernels

    @torch.no_grad()
    def collect(self) -> tuple[Tensor | float, Tensor | float]:
        weight = self.table.weight.detach()
        if self.kernels:
            return self._collect_by_kernels(weight), 0.0
        batch = list(self._gradients())
        rows = _joined([rows.flatten() for rows, _ in batch], weight.new_zeros(0, dtype=torch.int64))
        g = _joined([g.flatten(0, 1) for _, g in batch], weight.new_zeros(0, weight.shape[1]))
        self.touched, self.place = self._number(rows)
        self.gradient = weight.new_zeros(len(self.touched), weight.shape[1]).index_add_(0, self.place, g)
        return squared_norm(self.gradient), 0.0

    def _collect_by_kernels(self, weight: Tensor) -> Tensor:
        """Sum up in the gradients' own memory. Return ‖ΔG‖² + 2⟨ΔG, G⟩, see ``_with_gradient_of_regulariser``."""
        reads = [(rows, padded, e.grad, e) for rows, padded, e in self.reads if e.grad is not None]
        none, empty = weight.new_zeros(0, dtype=torch.int64), weight.new_zeros(0, weight.shape[1])
        rows = _joined([rows.flatten() for rows, _, _, _ in reads], none)
        padded = _joined([padded.flatten() for _, padded, _, _ in reads], none.bool())
        self.gradient = _joined([g.flatten(0, 1) for _, _, g, _ in reads], empty).contiguous()
        e = _joined([e.detach().flatten(0, 1) for _, _, _, e in reads], empty).contiguous()
        self.touched, self.place = self._number(rows, padded)
        return self.kernels.sum_by_row(self.gradient, e, self.place, self.l1, self.l2)

    def scale(self, factor: Tensor) -> None:
        if self.gradient is not None:
            self.gradient.mul_(factor)

    @functools.cached_property
    def slots(self) -> Tensor:
        """(ΣD,), int32: each row's place in the batch; -1, or a place in an older batch, if it has none."""
        return torch.full_like(self.table.weight.detach()[:, 0], -1, dtype=torch.int32)

    def _number(self, rows: Tensor, padded: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Give each of ``rows`` (N,) a number that equal ones share. Return the row of each number, and the numbers.

        On a GPU the number of a row is one of its positions, whichever was written last; -1 if the row is ``padded``
        (N,).
        """
        if self.on_cpu:
            return rows.unique(return_inverse=True)
        positions = torch.arange(len(rows), dtype=torch.int32, device=rows.device)
        if padded is not None:
            positions = positions.masked_fill(padded, -1)
        self.slots[rows] = positions
        return rows, self.slots[rows].long()

    def _is_first(self, place: Tensor) -> Tensor:
        """Return whether each position of the batch represents its row: (N,), bool."""
        return place == torch.arange(len(place), device=place.device)

    def _with_gradient_of_regulariser(self, square: Tensor | float) -> tuple[Tensor | float, Tensor | float]:
        """Return ‖G + ΔG‖² = ‖G‖² + 2⟨ΔG, G⟩ + ‖ΔG‖² from ‖ΔG‖², and the regulariser's value.

        G is the regulariser's gradient. ⟨ΔG, G⟩ is a sum over the batch's ids, because ΔG is one, and the embeddings
        that were read are rows of W.
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
        """Take a step of Adam on the batch's rows only; see ``move_rows``."""
        weight, group = self.table.weight, self.optimizer.param_groups[0]
        state = adam_state(self.optimizer, weight)
        state["step"] += 1
        terms = (learning_rate(group, weight), corrections(state["step"], group["betas"]), group, lazily)
        if self.kernels:
            first = self._is_first(self.place)
            self.kernels.move_rows(weight.detach(), state, self.touched, first, self.gradient, *terms)
        else:
            assert self.gradient is not None  # noqa: S101 - ``collect`` came before
            g = self.gradient if self.on_cpu else self.gradient[self.place]
            move_rows(weight.detach(), state, self.touched, g, *terms)
        self.gradient = None


class LazyRows(TouchedRows):
    """``embedding_updates: lazy``: PyTorch's SparseAdam on the rows of the batch. It is NOT dense Adam.

    In a step in which its id does not occur, a row keeps its moments and does not move; and ε is added before the bias
    correction.
    """

    def __init__(
        self,
        table: FusedTable,
        optimizer: torch.optim.Optimizer,
        on_cpu: bool | None = None,
        kernels: ModuleType | None = None,
    ):
        super().__init__(table, optimizer, on_cpu=on_cpu, kernels=kernels or find_kernels(table.weight))

    def finish(self) -> None:
        self._move_touched(lazily=True)


def _joined(tensors: Sequence[Tensor], empty: Tensor) -> Tensor:
    if len(tensors) == 1:
        return tensors[0]
    return torch.cat(list(tensors)) if tensors else empty
