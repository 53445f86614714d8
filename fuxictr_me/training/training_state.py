"""All tensors that a training step changes: copied, put back, and compared."""

import math

import torch
from torch import Tensor, nn

SAMPLE = 1 << 20  # entries of a tensor that are compared, about
# Largest relative distances. Adam's first moves have the sign of the gradient, even of one that is mere rounding.
TOLERANCES = {"loss": 1e-3, "weights": 0.2, "exp_avg": 1e-2, "exp_avg_sq": 1e-2, "buffers": 1e-2}


class TrainingState:
    """Weights, buffers and optimizer state of a model, and the state of the random number generators.

    Args:
        model: a ``FastTraining`` after a first step, which makes the optimizer's state.
    """

    def __init__(self, model: nn.Module):
        weights = list(model.parameters())
        held = {weight.untyped_storage().data_ptr() for weight in weights}
        buffers = [b for b in model.buffers() if b.untyped_storage().data_ptr() not in held]  # else views of a table
        self.groups = {"weights": weights, "buffers": buffers + list(model.running_totals())}
        for rows in model._step.rows:
            self.groups["buffers"] += rows.state_tensors()
        for of_parameter in model.optimizer.state.values():
            for name, value in of_parameter.items():
                if torch.is_tensor(value):
                    self.groups.setdefault(name, []).append(value)
        self.tensors = [tensor.detach() for group in self.groups.values() for tensor in group]
        self.cuda = {tensor.device for tensor in self.tensors if tensor.device.type == "cuda"}

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)

    def copy(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return (tensors, generators) in RAM, for ``restore``."""
        generators = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self.cuda)]
        return [tensor.to("cpu", copy=True) for tensor in self.tensors], generators

    @torch.no_grad()
    def restore(self, copy: tuple[list[Tensor], list[Tensor]]) -> None:
        """Put back what ``copy`` returned, in place."""
        tensors, (generator, *of_cuda) = copy
        for tensor, value in zip(self.tensors, tensors, strict=True):
            tensor.copy_(value)
        torch.set_rng_state(generator)
        for device, state in zip(self.cuda, of_cuda, strict=True):
            torch.cuda.set_rng_state(state, device)

    def sample(self) -> list[Tensor]:
        """Return a part of each tensor, for ``difference``: a large one's entries at equal distances."""
        return [tensor.flatten()[:: _distance(tensor)].clone() for tensor in self.tensors]

    @torch.no_grad()
    def difference(self, before: list[Tensor], expected: list[Tensor]) -> str:
        """Compare with an expected state.

        Args:
            before, expected: what ``sample`` returned before a step, and after the step that is held to be right.

        Returns:
            Empty if every group of tensors is as expected within ``TOLERANCES``, else what is not. Weights and
            buffers are held to the size of their moves.
        """
        rest = list(zip(self.sample(), before, expected, strict=True))
        for name, group in self.groups.items():
            of_group, rest = rest[: len(group)], rest[len(group) :]
            distance = _norm([x.double() - wanted.double() for x, _, wanted in of_group])
            if name in ("weights", "buffers"):
                scale = _norm([wanted.double() - start.double() for _, start, wanted in of_group])
            else:
                scale = _norm([wanted.double() for _, _, wanted in of_group])
            if not distance <= TOLERANCES.get(name, 0) * scale:
                return f"{name} differ by {distance:.2g}, of {scale:.2g}"
        return ""


def _distance(tensor: Tensor) -> int:
    """Return a distance between about ``SAMPLE`` entries that passes through every column of a matrix."""
    columns, distance = tensor.shape[-1] if tensor.ndim else 1, 1 + tensor.numel() // SAMPLE
    while math.gcd(distance, columns) > 1:
        distance += 1
    return distance


def _norm(tensors: list[Tensor]) -> float:
    """‖·‖ of all tensors together."""
    return sum(float(x.square().sum()) for x in tensors) ** 0.5
