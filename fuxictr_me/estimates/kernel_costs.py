"""Bytes that the Triton kernels of table updates read and write, for fake tensors, on which kernels cannot run."""

from typing import Any

from torch import Tensor

from fuxictr_me.estimates.operation_ledger import Ledger, Operation, size

SWEEP_BLOCK = 1024  # entries whose squares ``sweep`` sums in one block, as in table_kernels.py


class KernelCosts:
    """A stand-in for ``fuxictr_me.training.table_kernels`` in a simulated step.

    It assumes that a batch has as many different ids as possible: ``ledger.most_distinct``.

    Args:
        ledger: the operations are recorded here.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def sum_by_row(
        self, gradient: Tensor, embeddings: Tensor, place: Tensor, l1: float = 0.0, l2: float = 0.0
    ) -> Tensor:
        """Record that repeated rows are added to others, which are then read, with w if there is a regulariser."""
        row, distinct = self._row_and_distinct(gradient)
        self._record("add_repeated", 3 * row * (len(place) - distinct) + size(place))
        self._record("sum_squares", row * distinct * (2 if l1 or l2 else 1) + size(place))
        return gradient.new_zeros(())

    def sweep(
        self,
        weight: Tensor,
        state: Any,
        slots: Tensor,
        gradient: Tensor,
        factor: Any,
        lr: Any,
        corrected: Any,
        group: Any,
        l1: float = 0.0,
        l2: float = 0.0,
        *_: Any,
    ) -> Tensor | None:
        """Record that weight and moments are read and written, and slots of rows and the batch's gradients are read."""
        row, distinct = self._row_and_distinct(gradient)
        self._record("sweep", 6 * size(weight) + size(slots) + row * distinct)
        return weight.new_zeros(3 if l1 else 1, -(-weight.numel() // SWEEP_BLOCK)) if l1 or l2 else None

    def move_rows(self, weight: Tensor, state: Any, rows: Tensor, moves: Tensor, gradient: Tensor, *_: Any) -> None:
        """Record that the gradient is read, and weight and moments are read and written."""
        row, distinct = self._row_and_distinct(gradient)
        self._record("move_rows", 7 * row * distinct + size(rows) + size(moves))

    def catch_up(self, weight: Tensor, state: Any, rows: Tensor, moves: Tensor, coefficients: Tensor, *_: Any) -> None:
        """Record that weight and moments are read and written."""
        distinct = min(len(rows), self.ledger.most_distinct)
        row = weight.shape[1] * weight.element_size()
        self._record("catch_up", 6 * row * distinct + size(rows) + size(moves) + size(coefficients))

    def _row_and_distinct(self, gradient: Tensor) -> tuple[int, int]:
        """Return the bytes of a row, and the number of different rows."""
        return gradient.shape[1] * gradient.element_size(), min(len(gradient), self.ledger.most_distinct)

    def _record(self, name: str, moved: int) -> None:
        self.ledger.operations.append(Operation(name, 0, moved))
