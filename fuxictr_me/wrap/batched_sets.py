"""Run all further sets in one pass: ``torch.func.vmap`` over their parameters."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils._pytree import tree_leaves

from fuxictr_me.nn.preserve_state import preserve_state
from fuxictr_me.wrap.merge_gate import Captured, MergeGate
from fuxictr_me.wrap.merge_points import MergePoint


class BatchedSets:
    """Runs sets that are alike at once, tables included, by stacking their parameters in every step.

    Args:
        models: sets 1 … M - 1.
        gate: of the first of them.

    Attributes:
        constants: names of frozen parameters that are equal in all sets, such as FuxiCTR's masks. Shapes depend on
            them, so they are not stacked.
    """

    def __init__(self, models: Sequence[Any], gate: MergeGate) -> None:
        self.models, self.gate = models, gate
        parameters = [dict(model.named_parameters()) for model in models]
        frozen = [name for name, p in parameters[0].items() if not p.requires_grad]
        self.constants = {n for n in frozen if all(torch.equal(parameters[0][n], own[n]) for own in parameters)}

    def fits(self, device: torch.device) -> bool:
        """Return whether a GPU has room for stacked parameters and their gradients.

        Gradients and Adam's moments need room, too.
        """
        needed = sum(p.numel() * p.element_size() for model in self.models for p in model.parameters())
        return torch.cuda.mem_get_info(device)[0] > 5 * needed

    def find_difference(
        self,
        capture_in_turn: Callable[[Any, int | None], list[Captured]],
        batch: Any,
        passes: Mapping[bool, int | None],
    ) -> str:
        """Compare one batch, in evaluation mode, with the sets run in turn.

        Args:
            capture_in_turn: the same as ``capture``, set by set.
            batch: as the models' ``forward`` takes it.
            passes: training mode -> number of times that merge points are passed.

        Returns:
            An empty string if the results are equal, else the reason why not.
        """
        with contextlib.ExitStack() as stack, torch.no_grad():
            for model in self.models:
                stack.enter_context(preserve_state(model))
                model.eval()
            in_turn = capture_in_turn(batch, passes[False])
            try:
                at_once = self.capture(batch, passes[False])
                for model in self.models:
                    model.train()
                self.capture(batch, passes[True])
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                return " ".join(str(error).split())[:100]
        values = ([tensors for captured in sets for _, tensors in captured] for sets in (in_turn, at_once))
        pairs = zip(*map(tree_leaves, values), strict=True)
        is_same = all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)
        return "" if is_same else "torch.func.vmap gives other values"

    def capture(self, inputs: Any, passes: int | None) -> list[Captured]:
        """Return for each set what ``MergeGate.capture`` returns."""
        first = self.models[0]
        parameters = [dict(model.named_parameters()) for model in self.models]
        buffers = [dict(model.named_buffers()) for model in self.models]
        stacked, dims = {}, {}
        for name, p in parameters[0].items():
            is_constant = name in self.constants
            stacked[name] = p if is_constant else torch.stack([own[name] for own in parameters])
            dims[name] = None if is_constant else 0
        statistics = {name: torch.stack([own[name] for own in buffers]) for name in buffers[0]}
        points: list[tuple[MergePoint, int]] = []  # each pass of a point, and its number of values

        def run(values: dict[str, Tensor], statistics: dict[str, Tensor]) -> list[Tensor]:
            with _swap_tensors(first, {**values, **statistics}):
                captured = self.gate.capture(first, inputs, passes)
            points[:] = [(point, len(values)) for point, values in captured]
            return [value for _, values in captured for value in values]

        results = vmap(run, in_dims=(dims, 0), randomness="different")(stacked, statistics)
        if first.training:
            with torch.no_grad():
                for m, own in enumerate(buffers):
                    for name, buffer in own.items():
                        buffer.copy_(statistics[name][m])
        return [_group_by_point(points, [result[m] for result in results]) for m in range(len(self.models))]


@contextlib.contextmanager
def _swap_tensors(module: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Give ``module`` other parameters and buffers, by name, within the context.

    ``torch.func.functional_call`` does not restore those of a module that is registered under two names, as with
    FuxiCTR's ``share_embedding``.
    """
    before: list[tuple[dict[str, Any], str, Tensor]] = []
    for path, part in module.named_modules():
        stores: list[dict[str, Any]] = [part._parameters, part._buffers]
        for store in stores:
            for name, tensor in store.items():
                full = f"{path}.{name}" if path else name
                if tensor is not None and full in values:
                    before.append((store, name, tensor))
                    store[name] = values[full]
    try:
        yield
    finally:
        for store, name, tensor in before:
            store[name] = tensor


def _group_by_point(points: Sequence[tuple[MergePoint, int]], values: Sequence[Tensor]) -> Captured:
    remaining = iter(values)
    return [(point, [next(remaining) for _ in range(count)]) for point, count in points]
