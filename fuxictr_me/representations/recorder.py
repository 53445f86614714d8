"""A record of the representations that one forward pass of a model goes through, in the order in which they appear."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves


@dataclass
class Representation:
    """A matrix inside a model, with one row for each row of the batch.

    Attributes:
        name: where it is in the model.
        after: name of the representation that it was computed from, as far as that can be seen, else of the one before
            it; None for the first.
        sets: number of the embedding set -> (B, width). The key None stands for what all sets have in common.
    """

    name: str
    after: str | None
    sets: dict[int | None, Tensor] = field(default_factory=dict)


class Recorder:
    """Collects representations while a forward runs. Hooks on the modules call ``add``.

    Attributes:
        representations: name -> representation, in call order.
        merges_sets: whether what is recorded of set 0 alone comes after the merge of several sets.
    """

    def __init__(self) -> None:
        self.merges_sets = False
        self.clear()

    def clear(self) -> None:
        """Forget the last forward."""
        self.representations: dict[str, Representation] = {}
        self._names: dict[int, str] = {}  # address of a storage -> name of the last representation in it
        self._seen: set[tuple[int, ...]] = set()
        self._held: list[Tensor] = []  # an address belongs to one tensor only as long as that tensor lives

    def add(self, name: str, sets: Mapping[int | None, Tensor], whole: Tensor, inputs: Any = ()) -> None:
        """Add a representation, or further sets of one, unless it was recorded under another name.

        Args:
            name: of the representation. A second one of the same name and set is called ``<name> (call 2)``.
            sets: set -> (B, …). Axes after the first are flattened.
            whole: the tensor that all of them are parts of.
            inputs: arguments from which it was computed.
        """
        identity = whole.data_ptr(), int(whole.storage_offset()), whole.numel(), whole._version
        if identity in self._seen or not whole.is_floating_point():
            return
        self._seen.add(identity)
        self._held.append(whole)
        name = self._find_free_name(name, sets)
        if name not in self.representations:
            self.representations[name] = Representation(name, self._find_source(inputs))
        of_name = self.representations[name].sets
        for m, tensor in sets.items():
            of_name[m] = tensor.detach().flatten(1).clone()  # a copy, which later changes in place do not reach
        self._names[_address(whole)] = name

    def collect(self) -> list[Representation]:
        """Return the representations of the forward that has run."""
        found = list(self.representations.values())
        if self.merges_sets:
            for one in found:
                if set(one.sets) == {0}:
                    one.sets[None] = one.sets.pop(0)
        return found

    def _find_free_name(self, name: str, sets: Iterable[int | None]) -> str:
        free, call = name, 1
        while free in self.representations and not self.representations[free].sets.keys().isdisjoint(sets):
            call += 1
            free = f"{name} (call {call})"
        return free

    def _find_source(self, inputs: Any) -> str | None:
        """Return the name of the representation in whose memory an input lies, else that of the last one."""
        for leaf in tree_leaves(inputs):
            if isinstance(leaf, Tensor) and (name := self._names.get(_address(leaf))):
                return name
        return next(reversed(self.representations), None)


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
