"""What operations on tensors cost, one by one: memory held, bytes moved, floating-point operations."""

import weakref
from dataclasses import dataclass
from itertools import count

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

READS_ROWS = {"embedding", "gather", "index", "index_select"}
CHANGES_ROWS = {"index_add_", "index_fill_", "index_put_"}
ONLY_WRITES = {"bernoulli_", "copy_", "fill_", "index_fill_", "index_put_", "normal_", "uniform_", "zero_"}
ONLY_SHAPES = {"full_like", "new_full", "new_ones", "new_zeros", "ones_like", "zeros_like"}  # are read
ALLOCATES = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


@dataclass(frozen=True)
class Operation:
    """One of PyTorch's, as the dispatcher sees it: on a GPU about one kernel.

    Attributes:
        name (str)
        flops (int): of matrix products, 2 for a multiplication and addition; 0 for all else.
        bytes (int): read and written, each operand once.
    """

    name: str
    flops: int
    bytes: int


class Ledger(TorchDispatchMode):
    """Keeps the books of all operations within its context, of which memory is taken and given back.

    Made for fake tensors, whose values nobody knows: a number that is asked for is ``number``, a truth False, two
    tensors are equal, and ``unique`` gives ``most_distinct`` values, or as many as there are.

    Attributes:
        most_distinct, number (int): see above.
        operations (list of Operation): since ``start``.
    """

    def __init__(self):
        super().__init__()
        self.most_distinct, self.number = 0, 0
        self.operations = []
        self._serials = count()
        self._live, self._sizes = {}, {}  # id of a storage that is there -> serial number -> bytes
        self._events = []  # serial numbers, in the order in which storages came and went (~serial)

    def start(self):
        """Forget operations, and what memory is no longer held."""
        self.operations = []
        self._events = list(self._live.values())

    def serials(self, tensors):
        """Serial numbers of the storages of tensors."""
        return {self._serial(tensor) for tensor in tensors}

    def at_peak(self, *kinds):
        """The most bytes held at a time since ``start``, by what they were for.

        Args:
            *kinds (set of int): serial numbers; where two have one, the first counts it.

        Returns:
            list of int: bytes of each kind at that time, last those of no kind.
        """
        held = peak = 0
        at = -1
        for i, event in enumerate(self._events):
            held += self._sizes[event] if event >= 0 else -self._sizes[~event]
            if held > peak:
                peak, at = held, i
        then = {event for event in self._events[: at + 1] if event >= 0}
        then -= {~event for event in self._events[: at + 1] if event < 0}
        parts = []
        for kind in kinds:
            parts.append(sum(self._sizes[serial] for serial in then & kind))
            then -= kind
        return [*parts, sum(self._sizes[serial] for serial in then)]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            return False if args[0].dtype == torch.bool else self.number
        if func is torch.ops.aten.equal.default:
            return True
        if func is torch.ops.aten._unique2.default:
            ids = args[0]
            values = ids.new_empty(min(ids.numel(), self.most_distinct))
            out = values, torch.empty_like(ids), torch.empty_like(values)
        else:
            out = func(*args, **kwargs)
        for tensor in tensors_in((args, kwargs, out)):
            self._serial(tensor)
        count_flops = flop_registry.get(func._overloadpacket)
        flops = count_flops(*args, **kwargs, out_val=out) if count_flops else 0
        if moved := bytes_moved(func, args, kwargs, out):
            self.operations.append(Operation(func._overloadpacket.__name__, flops, moved))
        return out

    def _serial(self, tensor):
        storage = tensor.untyped_storage()
        if id(storage) not in self._live:
            serial = self._live[id(storage)] = next(self._serials)
            self._sizes[serial] = storage.nbytes()
            self._events.append(serial)
            weakref.finalize(storage, self._gone, id(storage)).atexit = False
        return self._live[id(storage)]

    def _gone(self, key):
        self._events.append(~self._live.pop(key))


def bytes_moved(func, args, kwargs, out):
    """Bytes that an operation reads and writes: each operand once, of a table only the rows that it looks up.

    Args:
        func (OpOverload): the operation.
        args (tuple), kwargs (dict), out: what it took and gave.

    Returns:
        int: 0 where nothing but a view or memory is handed out.
    """
    name, arguments = func._overloadpacket.__name__, func._schema.arguments
    if name in ALLOCATES:
        return 0
    given = dict(zip((argument.name for argument in arguments), args, strict=False)) | kwargs
    operands = [(argument, tensors_in(given.get(argument.name))) for argument in arguments]
    taken = {tensor.untyped_storage()._cdata for _, tensors in operands for tensor in tensors}
    fresh = [tensor for tensor in tensors_in(out) if tensor.untyped_storage()._cdata not in taken]
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
        if changes and argument.name != "grads":  # which an optimizer scales only if it is told to
            written += total
        if not (changes and (argument.is_out or name in ONLY_WRITES)):
            read += total
    return read + written if written else 0


def size(tensor):
    """Bytes of its entries; of an expanded one those that there are."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())


def tensors_in(tree):
    """All dense tensors in nested lists, tuples and dicts."""
    return [x for x in tree_leaves(tree) if isinstance(x, torch.Tensor) and x.layout == torch.strided]


def _rows_changed(table, others):
    """Bytes of the rows of ``table`` that get the values among ``others``, or one number at the indices among them."""
    values = [tensor for tensor in others if tensor.is_floating_point()]
    if values:
        return sum(map(size, values))
    return sum(index.numel() for index in others) * size(table) // max(len(table), 1)
