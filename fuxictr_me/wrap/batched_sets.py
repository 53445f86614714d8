"""All further sets in one pass: ``torch.func.vmap`` over their parameters."""

import contextlib

import torch
from torch.func import vmap
from torch.utils._pytree import tree_leaves

from fuxictr_me.wrap.rehearsal import aside


class BatchedSets:
    """Runs sets that are alike at once, tables included, by stacking their parameters in every step.

    Args:
        models (list of nn.Module): sets 1 ... M - 1.
        gate (Gate): of the first of them.

    Attributes:
        alike (set of str): frozen parameters that are the same in all sets: constants of FuxiCTR's, such as masks, on
            which shapes depend. They are not stacked.
    """

    def __init__(self, models, gate):
        self.models, self.gate = models, gate
        parameters = [dict(model.named_parameters()) for model in models]
        frozen = [name for name, p in parameters[0].items() if not p.requires_grad]
        self.alike = {n for n in frozen if all(torch.equal(parameters[0][n], own[n]) for own in parameters)}

    def fits(self, device):
        """Whether a GPU has room for stacked parameters and their gradients, beside gradients and Adam's moments."""
        needed = sum(p.numel() * p.element_size() for model in self.models for p in model.parameters())
        return torch.cuda.mem_get_info(device)[0] > 5 * needed

    def differs(self, take_in_turn, batch, passes):
        """Try one batch, in evaluation mode, against the sets in turn.

        Args:
            take_in_turn (callable): as ``take``.
            batch: as the models' ``forward`` takes it.
            passes (dict): training mode -> how often merge points are passed.

        Returns:
            str: empty if it is the same, else what is not.
        """
        with contextlib.ExitStack() as stack, torch.no_grad():
            for model in self.models:
                stack.enter_context(aside(model))
                model.eval()
            in_turn = take_in_turn(batch, passes[False])
            try:
                at_once = self.take(batch, passes[False])
                for model in self.models:
                    model.train()
                self.take(batch, passes[True])
            except (RuntimeError, TypeError, ValueError, IndexError) as error:
                return " ".join(str(error).split())[:100]
        in_turn, at_once = ([value for taken in of_sets for _, value in taken] for of_sets in (in_turn, at_once))
        pairs = zip(tree_leaves(in_turn), tree_leaves(at_once), strict=True)
        same = all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in pairs)
        return "" if same else "torch.func.vmap gives other values"

    def take(self, inputs, passes):
        """As ``Gate.take``, of each set.

        Returns:
            list: for each set, what ``Gate.take`` gives.
        """
        first = self.models[0]
        parameters = [dict(model.named_parameters()) for model in self.models]
        buffers = [dict(model.named_buffers()) for model in self.models]
        stacked, dims = {}, {}
        for name, p in parameters[0].items():
            is_alike = name in self.alike
            stacked[name] = p if is_alike else torch.stack([of_set[name] for of_set in parameters])
            dims[name] = None if is_alike else 0
        statistics = {name: torch.stack([of_set[name] for of_set in buffers]) for name in buffers[0]}
        points = []

        def run(values, statistics):
            with _swapped(first, {**values, **statistics}):
                taken = self.gate.take(first, inputs, passes)
            points[:] = [(point, len(values)) for point, values in taken]
            return [value for _, values in taken for value in values]

        results = vmap(run, in_dims=(dims, 0), randomness="different")(stacked, statistics)
        if first.training:
            with torch.no_grad():
                for m, of_set in enumerate(buffers):
                    for name, buffer in of_set.items():
                        buffer.copy_(statistics[name][m])
        return [_regrouped(points, [result[m] for result in results]) for m in range(len(self.models))]


@contextlib.contextmanager
def _swapped(module, values):
    """``module`` with other parameters and buffers, by name.

    ``torch.func.functional_call`` does not put back those of a module that is registered under two names, as FuxiCTR's
    ``share_embedding`` does.
    """
    before = []
    for path, part in module.named_modules():
        for store in (part._parameters, part._buffers):
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


def _regrouped(points, values):
    values = iter(values)
    return [(point, [next(values) for _ in range(count)]) for point, count in points]
