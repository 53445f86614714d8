"""What the Triton kernels of table updates read and write, for fake tensors, on which they cannot run."""

from torch import Tensor

from fuxictr_me.estimates.operation_ledger import Ledger, Operation, size

SWEEP_BLOCK = 1024  # entries of a table, of which ``sweep`` sums up the squares: as in table_kernels.py


class KernelCosts:
    """Stand in for ``fuxictr_me.training.table_kernels`` in a simulated step.

    A batch is taken to hold as many different ids as it can: ``ledger.most_distinct``.

    Args:
        ledger: where the operations are noted down.
    """

    def __init__(self, ledger: Ledger):
        self.ledger = ledger

    def sum_by_row(
        self, gradient: Tensor, embeddings: Tensor, place: Tensor, l1: float = 0.0, l2: float = 0.0
    ) -> Tensor:
        """Repeated rows are read and added to others; then those others are read, and w for a regulariser."""
        row, distinct = self._row_and_distinct(gradient)
        self._note("add_repeated", 3 * row * (len(place) - distinct) + size(place))
        self._note("sum_squares", row * distinct * (2 if l1 or l2 else 1) + size(place))
        return gradient.new_zeros(())

    def sweep(self, weight, state, slots, gradient, factor, lr, corrected, group, l1=0.0, l2=0.0, *_) -> Tensor | None:
        """Weight and moments are read and written, a slot is read for each row, and the batch's gradients are read."""
        row, distinct = self._row_and_distinct(gradient)
        self._note("sweep", 6 * size(weight) + size(slots) + row * distinct)
        return weight.new_zeros(3 if l1 else 1, -(-weight.numel() // SWEEP_BLOCK)) if l1 or l2 else None

    def move_rows(self, weight, state, rows, moves, gradient, *_) -> None:
        """The gradient is read; weight and moments are read and written."""
        row, distinct = self._row_and_distinct(gradient)
        self._note("move_rows", 7 * row * distinct + size(rows) + size(moves))

    def catch_up(self, weight, state, rows, moves, coefficients, *_) -> None:
        """Weight and moments are read and written."""
        distinct = min(len(rows), self.ledger.most_distinct)
        row = weight.shape[1] * weight.element_size()
        self._note("catch_up", 6 * row * distinct + size(rows) + size(moves) + size(coefficients))

    def _row_and_distinct(self, gradient):
        return gradient.shape[1] * gradient.element_size(), min(len(gradient), self.ledger.most_distinct)

    def _note(self, name, moved):
        self.ledger.operations.append(Operation(name, 0, moved))
