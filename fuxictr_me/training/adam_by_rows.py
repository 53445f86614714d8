"""Adam's arithmetic on some rows of a table, without waiting for the device."""

import torch
from torch import Tensor


def adam_state(optimizer: torch.optim.Optimizer, weight: Tensor) -> dict:
    """Return Adam's state of a parameter, created if needed, in the form of PyTorch's fused Adam."""
    state = optimizer.state[weight]
    if not state:
        w = weight.detach()
        step = w.new_zeros((), dtype=torch.float32)
        state.update(step=step, exp_avg=torch.zeros_like(w), exp_avg_sq=torch.zeros_like(w))
    return state


def learning_rate(group: dict, like: Tensor) -> Tensor:
    """Return the learning rate of a parameter group as a Tensor () on a table's device, of its dtype."""
    lr = group["lr"]
    if isinstance(lr, Tensor):
        return lr.to(device=like.device, dtype=like.dtype)
    return torch.full((), lr, dtype=like.dtype, device=like.device)


def corrections(step: Tensor, betas: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return Adam's bias corrections 1 - β₁ᵗ and 1 - β₂ᵗ at step t: Tensors () of float64, as they start small."""
    step = step.double()
    return 1 - torch.pow(betas[0], step), 1 - torch.pow(betas[1], step)


def move_rows(
    weight: Tensor,
    state: dict,
    rows: Tensor,
    gradient: Tensor,
    lr: Tensor,
    corrected: tuple[Tensor, Tensor],
    group: dict,
    lazily: bool = False,
) -> None:
    """Take a step of Adam on some rows of a table.

    Args:
        weight: (D, K), changed in place, as ``exp_avg`` and ``exp_avg_sq`` (D, K) in ``state`` are.
        rows: (n,); a row may occur twice, with the same gradient.
        gradient: (n, K).
        lr: ().
        corrected: the bias corrections, see ``corrections``.
        group: the optimizer's, with ``betas`` and ``eps``.
        lazily: add ε before the bias correction, as PyTorch's SparseAdam does.
    """
    (beta1, beta2), (first, second) = group["betas"], (c.to(weight.dtype) for c in corrected)
    m = state["exp_avg"][rows].lerp_(gradient, 1 - beta1)
    v = state["exp_avg_sq"][rows].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    state["exp_avg"][rows], state["exp_avg_sq"][rows] = m, v
    root = second.sqrt()
    denominator = v.sqrt_().add_(group["eps"]).div_(root) if lazily else v.sqrt_().div_(root).add_(group["eps"])
    weight[rows] = weight[rows].sub_(m.div_(denominator).mul_(lr / first))
