"""Sub-embeddings E_i^{→j} = E_i W_{i→j}ᵀ: what field j sees of field i (paper, figure 3; arXiv 2310.04400).

``blocks[i][j]`` is W_{i→j} (K_j, K_i), or None if field i does not interact with field j. These functions compute the
blocks of each family of models:

- ``cross_blocks``: DCNv2's first layer; with ``low_rank_cross_weight`` its low-rank mixture;
- ``fwfm_blocks``: FwFM and NFwFM, W_{i→j} = r_ij I;
- ``fmfm_blocks``: FmFM, a matrix for each pair;
- ``ffm_blocks``: FFM, whose fields have one table for each partner.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fuxictr_me.collapse.spectrum import abundance
from fuxictr_me.errors import UsageError

Blocks = Sequence[Sequence[Tensor | None]]


@torch.no_grad()
def sub_embedding_abundance(factors: Sequence[Tensor | None], blocks: Blocks) -> Tensor:
    """Return IA(E_i^{→j}) of all pairs of fields.

    With E_i = Q R_i, Q orthonormal, E_i Wᵀ = Q (R_i Wᵀ), so IA(E_i Wᵀ) = IA(R_i Wᵀ): no product as tall as a
    table is formed.

    Args:
        factors: R_i (≤ K_i, K_i), the ``triangular_factor`` of each field's table; None for a field without a table,
            e.g. a numeric one.
        blocks: ``blocks[i][j]`` = W_{i→j} (K_j, K_i), or None.

    Returns:
        (F, F), float64, on the CPU: row i, column j. NaN without a table or block; 0.0 if the block is 0.

    Raises:
        ValueError: if blocks and factors differ in the number of fields, or entries are not finite.

    Example::

        >>> sub_embedding_abundance([torch.eye(2)] * 2, fwfm_blocks(torch.tensor([[1.0, 3.0], [0.0, 1.0]]), 2))
        tensor([[2., 2.],
                [0., 2.]], dtype=torch.float64)
    """
    if {len(blocks), *map(len, blocks)} != {len(factors)}:
        raise ValueError(f"{len(factors)} factors need as many rows and columns of blocks")
    values = torch.full((len(factors), len(factors)), torch.nan, dtype=torch.float64)
    for i, j in itertools.product(range(len(factors)), repeat=2):
        R, W = factors[i], blocks[i][j]
        if R is not None and W is not None:
            product = R @ W.to(R).T
            if not product.isfinite().all():
                raise ValueError(f"W from field {i} to field {j}, or the factor of field {i}, is not finite")
            values[i, j] = abundance(torch.linalg.svdvals(product))
    return values


@torch.no_grad()
def block_norms(blocks: Blocks) -> Tensor:
    """Return ‖W_{i→j}‖_F of all pairs of fields (paper, figure 8c).

    Args:
        blocks: ``blocks[i][j]`` = W_{i→j} (K_j, K_i), or None.

    Returns:
        (F, F), float64, on the CPU: row i, column j. NaN without a block.
    """
    return torch.tensor(
        [[math.nan if W is None else float(W.to(torch.float64).norm()) for W in row] for row in blocks],
        dtype=torch.float64,
    )


def cross_blocks(weight: Tensor, field_dims: Sequence[int]) -> Blocks:
    """Return W_{i→j} of a cross weight: row block j, column block i.

    Args:
        weight: (ΣK, ΣK), stored (out, in) as in ``nn.Linear``.
        field_dims: K of each field.

    Returns:
        Views ``blocks[i][j]`` (K_j, K_i).

    Raises:
        UsageError: if the weight has another shape.
    """
    dims = list(field_dims)
    if tuple(weight.shape) != (sum(dims), sum(dims)):
        raise UsageError(f"a cross weight of fields of {dims} must be square, got {tuple(weight.shape)}")
    return [column.split(dims, dim=0) for column in weight.split(dims, dim=1)]


@torch.no_grad()
def low_rank_cross_weight(U: Tensor, C: Tensor, V: Tensor) -> Tensor:
    """Return W = (1/E) Σ_e U_e C_e V_eᵀ: the linear part of a low-rank mixture layer, FuxiCTR's ``CrossNetMix``.

    The layer computes x₀ ⊙ Σ_e g_e(x) (U_e tanh(C_e tanh(V_eᵀ x)) + b). It is not linear in x: W is its
    Jacobian at x = 0, where tanh is the identity and the softmax gates g are all 1/E. Away from 0, tanh
    bends each expert and the gates favour some of them, so W only describes what the layer does to small
    embeddings.

    Args:
        U: (E, ΣK, R), of one layer and one set.
        C: (E, R, R).
        V: (E, ΣK, R).

    Returns:
        (ΣK, ΣK), for ``cross_blocks``.
    """
    return (U @ C @ V.transpose(-1, -2)).mean(dim=0)


def fwfm_blocks(weights: Tensor, dim: int) -> Blocks:
    """Return W_{i→j} = r_ij I of FwFM and NFwFM, so IA(E_i^{→j}) = IA(E_i) wherever r_ij ≠ 0.

    Args:
        weights: (F, F), as in NFwFM, or (F(F - 1)/2,) for the pairs i < j row by row, as FuxiCTR's FwFM stores them
            (``interaction_weight.weight[0]``).

    Returns:
        (K, K) blocks; None on the diagonal if the weights belong to pairs.

    Raises:
        UsageError: if the weights have another shape.
    """
    identity = torch.eye(dim, dtype=weights.dtype, device=weights.device)
    if weights.ndim == 2 and weights.shape[0] == weights.shape[1]:
        return [[r * identity for r in row] for row in weights]
    if weights.ndim != 1:
        raise UsageError(f"field weights must be (F, F), or a vector of pairs, got {tuple(weights.shape)}")
    return fmfm_blocks(weights[:, None, None] * identity)


def fmfm_blocks(weight: Tensor) -> Blocks:
    """Return W_{i→j} = M_ijᵀ and W_{j→i} = M_ij of FmFM, whose pair i < j contributes ⟨e_i M_ij, e_j⟩.

    Args:
        weight: M (F(F - 1)/2, K, K), or its diagonals (F(F - 1)/2, K) ("vectorized"), for the pairs
            i < j row by row, as FuxiCTR's FmFM stores them (``interaction_weight``).

    Returns:
        (K, K) blocks; None on the diagonal.

    Raises:
        UsageError: if the number of weights is not a number of pairs.
    """
    fields = (1 + math.isqrt(1 + 8 * len(weight))) // 2
    if fields * (fields - 1) != 2 * len(weight):
        raise UsageError(f"{len(weight)} weights are not one for each pair of fields: that is F(F - 1)/2")
    matrices = weight if weight.ndim == 3 else torch.diag_embed(weight)
    blocks: list[list[Tensor | None]] = [[None] * fields for _ in range(fields)]
    for (i, j), M in zip(itertools.combinations(range(fields), 2), matrices, strict=True):
        blocks[i][j], blocks[j][i] = M.T, M
    return blocks


def ffm_blocks(num_fields: int, dim: int) -> Blocks:
    """Return the matrices that select E_i^{→j} from the F - 1 tables of field i side by side (FFM, FFMv2).

    The tables lie in the order of the partners j, field i itself left out. In FuxiCTR's FFM these are field i's
    tables in ``embedding_layers`` 0 to F - 2; in its FFMv2, the one wide table.

    Args:
        dim: K of each of the tables.

    Returns:
        (K, K(F - 1)) blocks, float64; None on the diagonal. The matching factors are
        ``triangular_factor([E_i of partner 0, …, E_i of partner F - 1])``.
    """
    slots = torch.eye(dim * (num_fields - 1), dtype=torch.float64).split(dim)
    return [[None if j == i else slots[j - (j > i)] for j in range(num_fields)] for i in range(num_fields)]
