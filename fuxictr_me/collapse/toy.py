"""The paper's toy experiment: a field that interacts with a field of few ids collapses (paper, figure 4).

Three fields, D₁ = D₂ = 100; a factorisation machine with logit Σ_{i<j} ⟨e_i, e_j⟩; one row for each (x₁, x₂),
so 10,000 rows, with x₃ and y uniform at random; tables from N(0, 1), of which only E₁ is trained, by full-batch
SGD. The paper states neither the dimension nor the loss; here K = 10 and the mean binary cross-entropy are used.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fuxictr_me.collapse.spectrum import information_abundance
from fuxictr_me.errors import check_positive_int

NUM_IDS = 100


@dataclass(frozen=True)
class ToyData:
    """Initial tables and rows of a run, float64. With one seed, E₁, E₂ and y are the same for every D₃."""

    E1: Tensor  # (100, K)
    E2: Tensor  # (100, K)
    E3: Tensor  # (D₃, K)
    x3: Tensor  # (100, 100), the id of field 3 in the row of (x₁, x₂)
    y: Tensor  # (100, 100), the label of that row, 0 or 1


def toy_data(d3: int, dim: int = 10, seed: int = 0) -> ToyData:
    """Draw tables and rows, and leave torch's random state unchanged.

    Args:
        d3: D₃, the number of ids of field 3.
        seed: of the random numbers.
    """
    random, shape = torch.Generator().manual_seed(seed), (NUM_IDS, NUM_IDS)

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, dim, generator=random, dtype=torch.float64)

    check_positive_int("dim", dim)
    E1, E2 = normal(NUM_IDS), normal(NUM_IDS)
    y = torch.randint(2, shape, generator=random, dtype=torch.float64)
    E3 = normal(check_positive_int("d3", d3))
    return ToyData(E1, E2, E3, torch.randint(d3, shape, generator=random), y)


def toy_gradient(E1: Tensor, partners: Tensor, rest: Tensor, y: Tensor) -> Tensor:
    """Return ∂L/∂E₁ (D₁, K) of the mean binary cross-entropy over all rows.

    Args:
        E1: (D₁, K).
        partners: (D₁, D₂, K), e₂ + e₃ of each row.
        rest: (D₁, D₂), ⟨e₂, e₃⟩, the part of the logit without e₁.
        y: (D₁, D₂), labels.
    """
    logits = torch.einsum("ak,abk->ab", E1, partners) + rest
    error = (logits.sigmoid() - y) / y.numel()  # ∂L/∂logit
    return torch.einsum("ab,abk->ak", error, partners)


def toy(d3: int, dim: int = 10, iterations: int = 5_000, lr: float = 1.0, seed: int = 0) -> Tensor:
    """Train E₁ and return its information abundance after each step (paper, figure 4).

    Args:
        d3: D₃; 3 or 100 in the paper.
        iterations: SGD steps, each on all rows.
        lr: step size on the mean loss.
        seed: of tables and rows.

    Returns:
        (iterations + 1,), float64: IA(E₁) at initialisation and after each step.
    """
    data = toy_data(d3, dim, seed)
    e3 = data.E3[data.x3]  # (100, 100, K)
    partners = data.E2 + e3
    rest = torch.einsum("bk,abk->ab", data.E2, e3)
    E1 = data.E1.clone()
    trajectory = [information_abundance(E1)]
    for _ in range(iterations):
        E1 -= lr * toy_gradient(E1, partners, rest, data.y)
        trajectory.append(information_abundance(E1))
    return torch.tensor(trajectory, dtype=torch.float64)
