"""Record what each tensor operation costs: memory held, bytes moved, and floating-point operations."""

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

READS_ROWS = {"embedding", "gather", "index", "index_select"}
CHANGES_ROWS = {"index_add_", "index_fill_", "index_put_"}
ONLY_WRITES = {"bernoulli_", "copy_", "fill_", "index_fill_", "index_put_", "normal_", "uniform_", "zero_"}
ONLY_SHAPES = {"full_like", "new_full", "new_ones", "new_zeros", "ones_like", "zeros_like"}  # read no values
ALLOCATES = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}
# In place and without a result. PyTorch 2.4 would run them on tensors with data, as large as those without.
FUSED_OPTIMIZERS = {"_fused_adagrad_", "_fused_adam_", "_fused_adamw_", "_fused_sgd_"}


@dataclass(frozen=True)
class Operation:
    """A PyTorch operation as the dispatcher sees it, which is about one kernel on a GPU.

    Attributes:
        name: of the operation.
        flops: of matrix products, 2 for a multiplication and addition; 0 for other operations.
        bytes: read and written, each operand once.
    """

    name: str
    flops: int
    bytes: int


class Ledger(TorchDispatchMode):
    """Context that records all operations, and when memory is allocated and freed.

    It is made for fake tensors, which have no values: a number that code reads is ``number``, a boolean is False, two
    tensors are equal, ``unique`` returns ``most_distinct`` values, or as many as the tensor has, ``masked_select``
    selects all values, and the fused steps of optimizers are recorded, but not taken.

    Attributes:
        most_distinct, number: see above.
        is_recording: whether operations and memory are recorded.
        operations: recorded since ``start``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most_distinct, self.number = 0, 0
        self.is_recording = True
        self.operations: list[Operation] = []
        self._serials = count()
        self._live: dict[int, int] = {}  # id of a storage that exists -> serial number
        self._sizes: dict[int, int] = {}  # serial number -> bytes
        self._events: list[int] = []  # serial numbers, when a storage appears, and ~serial, when it disappears

    def start(self, held: Iterable[Tensor] = ()) -> None:
        """Record from now on. Forget operations, and memory that is no longer held.

        Args:
            held: tensors that exist already and may not be recorded.
        """
        self.is_recording, self.operations = True, []
        self.serials(held)
        self._events = list(self._live.values())

    def serials(self, tensors: Iterable[Tensor]) -> set[int]:
        """Return the serial numbers of the storages of tensors."""
        return {self._serial(tensor) for tensor in tensors}

    def at_peak(self, *kinds: set[int]) -> list[int]:
        """Return the bytes at the time since ``start`` at which most were held, for each kind, and those of no kind.

        Args:
            *kinds: serial numbers of storages; a number in several of them counts for the first.
        """
        held = peak = 0
        at = -1
        for i, event in enumerate(self._events):
            held += self._sizes[event] if event >= 0 else -self._sizes[~event]
            if held > peak:
                peak, at = held, i
        held_then = {event for event in self._events[: at + 1] if event >= 0}
        held_then -= {~event for event in self._events[: at + 1] if event < 0}
        parts = []
        for kind in kinds:
            parts.append(sum(self._sizes[serial] for serial in held_then & kind))
            held_then -= kind
        return [*parts, sum(self._sizes[serial] for serial in held_then)]

    def __torch_dispatch__(
        self, func: OpOverload, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "prim":  # asks for a device or a layout
            return func(*args, **kwargs)
        if func is torch.ops.aten._local_scalar_dense.default:
            return False if args[0].dtype == torch.bool else self.number
        if func is torch.ops.aten.equal.default:
            return True
        if func is torch.ops.aten._unique2.default:
            ids = args[0]
            values = ids.new_empty(min(ids.numel(), self.most_distinct))
            out = values, torch.empty_like(ids), torch.empty_like(values)
        elif func._overloadpacket.__name__ in FUSED_OPTIMIZERS:
            out = None
        elif func is torch.ops.aten.masked_select.default:
            out = args[0].new_empty(torch.broadcast_shapes(args[0].shape, args[1].shape).numel())
        else:
            out = func(*args, **kwargs)
        if not self.is_recording:
            return out
        for tensor in tensors_in((args, kwargs, out)):
            self._serial(tensor)
        count_flops = flop_registry.get(func._overloadpacket)
        flops = count_flops(*args, **kwargs, out_val=out) if count_flops else 0
        if moved := bytes_moved(func, args, kwargs, out):
            self.operations.append(Operation(func._overloadpacket.__name__, flops, moved))
        return out

    def _serial(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        if id(storage) not in self._live:
            serial = self._live[id(storage)] = next(self._serials)
            self._sizes[serial] = storage.nbytes()
            self._events.append(serial)
            weakref.finalize(storage, self._record_release, id(storage)).atexit = False
        return self._live[id(storage)]

    def _record_release(self, key: int) -> None:
        self._events.append(~self._live.pop(key))


def bytes_moved(func: OpOverload, args: tuple, kwargs: dict[str, Any], out: Any) -> int:
    """Return the bytes that an operation reads and writes: each operand once, and of tables only the rows looked up.

    Args:
        func: the operation.
        args, kwargs, out: its arguments and its result.

    Returns:
        0 if it only returns a view, or allocates memory.
    """
    name, arguments = func._overloadpacket.__name__, func._schema.arguments
    if name in ALLOCATES:
        return 0
    named = dict(zip((argument.name for argument in arguments), args, strict=False)) | kwargs
    operands = [(argument, tensors_in(named.get(argument.name))) for argument in arguments]
    inputs = {tensor.untyped_storage()._cdata for _, tensors in operands for tensor in tensors}
    fresh = [tensor for tensor in tensors_in(out) if tensor.untyped_storage()._cdata not in inputs]
    written, read = sum(map(size, fresh)), 0
    for position, (argument, tensors) in enumerate(operands):
        total = sum(map(size, tensors))
        if position == 0 and name in ONLY_SHAPES:
            total = 0
        elif position == 0 and name in READS_ROWS:
            total = min(total, written)
        elif position == 0 and name in CHANGES_ROWS:
            total = min(total, _rows_changed(tensors[0], [t for _, others in operands[1:] for t in others]))
        changes = argument.alias_info is not None and argument.alias_info.is_write
        if changes and argument.name != "grads":  # an optimizer only scales gradients if it is told to
            written += total
        if not (changes and (argument.is_out or name in ONLY_WRITES)):
            read += total
    return read + written if written else 0


def size(tensor: Tensor) -> int:
    """Return the bytes of a tensor's entries; an expanded tensor counts its storage."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def tensors_in(tree: Any) -> list[Tensor]:
    """Return all dense tensors in nested lists, tuples and dicts."""
    if isinstance(tree, Tensor):
        return [tree] if tree.layout == torch.strided else []
    if isinstance(tree, dict):
        tree = tree.values()
    elif not isinstance(tree, list | tuple):
        return []
    return [tensor for part in tree for tensor in tensors_in(part)]


def _rows_changed(table: Tensor, others: list[Tensor]) -> int:
    """Return the bytes of the rows of ``table`` that change: to values, or at indices, among ``others``."""
    values = [tensor for tensor in others if tensor.is_floating_point()]
    if values:
        return sum(map(size, values))
    return sum(index.numel() for index in others) * size(table) // max(len(table), 1)
