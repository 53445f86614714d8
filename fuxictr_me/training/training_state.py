"""All tensors that a training step changes: they can be copied, restored, and compared."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fuxictr_me.compat import BaseModel

SAMPLE = 1 << 20  # approximate number of entries of a tensor that are compared
# Largest relative distances. Adam's first moves have the sign of the gradient, even if that is only rounding.
TOLERANCES = {"loss": 1e-3, "weights": 0.2, "exp_avg": 1e-2, "exp_avg_sq": 1e-2, "buffers": 1e-2}


class TrainingState:
    """Weights, buffers and optimizer state of a model, and the state of the random number generators.

    Args:
        model: a ``FastTraining`` after a first step, which creates the optimizer's state.
    """

    def __init__(self, model: BaseModel):
        weights: list[Tensor] = list(model.parameters())
        held = {weight.untyped_storage().data_ptr() for weight in weights}
        buffers = [b for b in model.buffers() if b.untyped_storage().data_ptr() not in held]  # else views of a table
        buffers += model.running_totals()
        for rows in model._step.rows:
            buffers += rows.state_tensors()
        self.groups = {"weights": weights, "buffers": buffers}
        for of_parameter in model.optimizer.state.values():
            for name, value in of_parameter.items():
                if torch.is_tensor(value):
                    self.groups.setdefault(name, []).append(value)
        self.tensors = [tensor.detach() for group in self.groups.values() for tensor in group]
        self.cuda_devices = {tensor.device for tensor in self.tensors if tensor.device.type == "cuda"}

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors)

    def copy(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return copies of the tensors and of the generators' states in RAM, for ``restore``."""
        generators = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in self.cuda_devices)]
        return [tensor.to("cpu", copy=True) for tensor in self.tensors], generators

    @torch.no_grad()
    def restore(self, copy: tuple[list[Tensor], list[Tensor]]) -> None:
        """Restore what ``copy`` returned, in place."""
        tensors, (generator, *of_cuda) = copy
        for tensor, value in zip(self.tensors, tensors, strict=True):
            tensor.copy_(value)
        torch.set_rng_state(generator)
        for device, state in zip(self.cuda_devices, of_cuda, strict=True):
            torch.cuda.set_rng_state(state, device)

    def sample(self) -> list[Tensor]:
        """Return a part of each tensor, for ``difference``: a large one's entries at equal distances."""
        return [tensor.flatten()[:: _sampling_distance(tensor)].clone() for tensor in self.tensors]

    @torch.no_grad()
    def difference(self, before: list[Tensor], expected: list[Tensor]) -> str:
        """Compare the present state with an expected one.

        Args:
            before, expected: what ``sample`` returned before a step, and after a step that is known to be right.

        Returns:
            Empty if every group of tensors is as expected within ``TOLERANCES``, else what differs. Distances of
            weights and buffers are relative to their change in the step.
        """
        rest = list(zip(self.sample(), before, expected, strict=True))
        for name, group in self.groups.items():
            of_group, rest = rest[: len(group)], rest[len(group) :]
            distance = _norm([now.double() - after.double() for now, _, after in of_group])
            if name in ("weights", "buffers"):
                scale = _norm([after.double() - start.double() for _, start, after in of_group])
            else:
                scale = _norm([after.double() for _, _, after in of_group])
            if not distance <= TOLERANCES.get(name, 0) * scale:
                return f"{name} differ by {distance:.2g}, of {scale:.2g}"
        return ""


def _sampling_distance(tensor: Tensor) -> int:
    """Return a distance between about ``SAMPLE`` entries that passes through every column of a matrix."""
    columns, distance = tensor.shape[-1] if tensor.ndim else 1, 1 + tensor.numel() // SAMPLE
    while math.gcd(distance, columns) > 1:
        distance += 1
    return distance


def _norm(tensors: Sequence[Tensor]) -> float:
    """Return ‖·‖ of all tensors together."""
    return sum(float(x.square().sum()) for x in tensors) ** 0.5
