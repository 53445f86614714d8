"""All further sets in one pass: ``torch.func.vmap`` over their parameters."""

import contextlib

import torch
from torch.func import vmap

from fuxictr_me.any_model.nested import tensors
from fuxictr_me.any_model.rehearsal import aside


class BatchedSets:
    """Runs sets that are alike at once, tables included, by stacking their parameters in every step.

    Args:
        models (list of nn.Module): sets 1 ... M - 1.
        gate (Gate): of the first of them.
    """

    def __init__(self, models, gate):
        self.models, self.gate = models, gate

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
        pairs = zip(tensors(in_turn), tensors(at_once), strict=True)
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
            of_sets = [of_set[name] for of_set in parameters]
            # constants that FuxiCTR keeps as frozen parameters decide on shapes, and are one for all sets
            alike = not p.requires_grad and all(torch.equal(p, other) for other in of_sets)
            stacked[name], dims[name] = (p, None) if alike else (torch.stack(of_sets), 0)
        statistics = {name: torch.stack([of_set[name] for of_set in buffers]) for name in buffers[0]}
        points = []

        def run(values, statistics):
            with _swapped(first, {**values, **statistics}):
                taken = self.gate.take(first, inputs, passes)
            points[:] = [(point, len(values)) for point, values in taken]
            return [value for _, values in taken for value in values]

        results = vmap(run, in_dims=(dims, 0), randomness="different")(stacked, statistics)
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
