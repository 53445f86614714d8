"""The paper's toy experiment: a field that interacts with a field of few ids collapses (paper, figure 4).

Three fields, D₁ = D₂ = 100; a factorisation machine with logit Σ_{i<j} ⟨e_i, e_j⟩; one row for each (x₁, x₂),
so 10,000 rows, with x₃ and y uniform at random; tables from N(0, 1), of which only E₁ is trained, by full-batch
SGD. Neither the dimension nor the loss is stated there: here K = 10 and the mean binary cross-entropy.
"""

from dataclasses import dataclass

import torch

from fuxictr_me.collapse.spectrum import information_abundance
from fuxictr_me.errors import check_positive_int

NUM_IDS = 100


@dataclass(frozen=True)
class ToyData:
    """What a run starts from, float64. Of one seed, E₁, E₂ and y are the same for every D₃.

    Attributes:
        E1, E2 (Tensor): (100, K).
        E3 (Tensor): (D₃, K).
        x3 (Tensor): (100, 100), the id of field 3 in the row of (x₁, x₂).
        y (Tensor): (100, 100), the label there, 0 or 1.
    """

    E1: torch.Tensor
    E2: torch.Tensor
    E3: torch.Tensor
    x3: torch.Tensor
    y: torch.Tensor


def toy_data(d3, dim=10, seed=0):
    """Draw tables and rows, and leave torch's random state as it was.

    Args:
        d3 (int): D₃, the number of ids of field 3.
        dim (int): K.
        seed (int): of the draw.

    Returns:
        ToyData
    """
    random = torch.Generator().manual_seed(seed)
    normal = {"generator": random, "dtype": torch.float64}
    E1, E2 = (torch.randn(NUM_IDS, check_positive_int("dim", dim), **normal) for _ in range(2))
    y = torch.randint(2, (NUM_IDS, NUM_IDS), **normal)
    E3 = torch.randn(check_positive_int("d3", d3), dim, **normal)
    return ToyData(E1, E2, E3, torch.randint(d3, (NUM_IDS, NUM_IDS), generator=random), y)


def toy_gradient(E1, partners, rest, y):
    """∂L/∂E₁ of the mean binary cross-entropy over all rows.

    Args:
        E1 (Tensor): (D₁, K).
        partners (Tensor): (D₁, D₂, K), e₂ + e₃ of each row.
        rest (Tensor): (D₁, D₂), ⟨e₂, e₃⟩, the part of the logit without e₁.
        y (Tensor): (D₁, D₂).

    Returns:
        Tensor: (D₁, K).
    """
    logits = torch.einsum("ak,abk->ab", E1, partners) + rest
    error = (logits.sigmoid() - y) / y.numel()  # ∂L/∂logit
    return torch.einsum("ab,abk->ak", error, partners)


def toy(d3, dim=10, iterations=5_000, lr=1.0, seed=0):
    """IA(E₁) while E₁ is trained (paper, figure 4).

    Args:
        d3 (int): D₃: 3 or 100 in the paper.
        dim (int): K.
        iterations (int): SGD steps, each on all rows.
        lr (float): step size on the mean loss.
        seed (int): of tables and rows.

    Returns:
        Tensor: (iterations + 1,), float64: IA(E₁) at initialisation and after each step.
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
