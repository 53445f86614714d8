"""Sub-embeddings E_i^{→j} = E_i W_{i→j}ᵀ: what field j sees of field i (paper, figure 3; arXiv 2310.04400).

``blocks[i][j]`` is W_{i→j} (K_j, K_i), or None where field i does not interact with field j. Each family of
models has a function here that gives them:

- ``cross_blocks``: DCNv2, of its first layer; with ``low_rank_cross_weight`` its low-rank mixture;
- ``fwfm_blocks``: FwFM and NFwFM, W_{i→j} = r_ij I;
- ``fmfm_blocks``: FmFM, a matrix for each pair;
- ``ffm_blocks``: FFM, whose fields hold a table of their own for each partner.
"""

import itertools
import math

import torch

from fuxictr_me.collapse.spectrum import abundance
from fuxictr_me.errors import UsageError


@torch.no_grad()
def sub_embedding_abundance(factors, blocks):
    """IA(E_i^{→j}) of all pairs of fields.

    With E_i = Q R_i, Q orthonormal, E_i Wᵀ = Q (R_i Wᵀ), so IA(E_i Wᵀ) = IA(R_i Wᵀ): no product as tall as a
    table is formed.

    Args:
        factors (list of Tensor): R_i (≤ K_i, K_i), the ``triangular_factor`` of each field's table; None for
            a field without a table, e.g. a numeric one.
        blocks (nested list or Tensor): ``blocks[i][j]`` = W_{i→j} (K_j, K_i), or None.

    Returns:
        Tensor: (F, F), float64, on the CPU: row i, column j. NaN where there is no table or no block; 0.0
        where the block is 0.

    Raises:
        ValueError: blocks of another number of fields than the factors, or entries that are not finite.

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
def block_norms(blocks):
    """‖W_{i→j}‖_F of all pairs of fields (paper, figure 8c).

    Args:
        blocks (nested list or Tensor): ``blocks[i][j]`` = W_{i→j} (K_j, K_i), or None.

    Returns:
        Tensor: (F, F), float64, on the CPU: row i, column j. NaN where there is no block.
    """
    return torch.tensor(
        [[math.nan if W is None else float(W.to(torch.float64).norm()) for W in row] for row in blocks],
        dtype=torch.float64,
    )


def cross_blocks(weight, field_dims):
    """W_{i→j} of a cross weight: row block j, column block i.

    Args:
        weight (Tensor): (ΣK, ΣK), stored (out, in), as in ``nn.Linear``.
        field_dims (list of int): K of each field.

    Returns:
        list of list of Tensor: views, ``blocks[i][j]`` (K_j, K_i).

    Raises:
        UsageError: a weight of another shape.
    """
    field_dims = list(field_dims)
    if tuple(weight.shape) != (sum(field_dims), sum(field_dims)):
        raise UsageError(f"a cross weight of fields of {field_dims} must be square, got {tuple(weight.shape)}")
    return [list(column.split(field_dims, dim=0)) for column in weight.split(field_dims, dim=1)]


@torch.no_grad()
def low_rank_cross_weight(U, C, V):
    """W = (1/E) Σ_e U_e C_e V_eᵀ: the linear part of a low-rank mixture layer, FuxiCTR's ``CrossNetMix``.

    The layer computes x₀ ⊙ Σ_e g_e(x) (U_e tanh(C_e tanh(V_eᵀ x)) + b). It is not linear in x: W is its
    Jacobian at x = 0, where tanh is the identity and the softmax gates g are all 1/E. Away from 0, tanh
    bends each expert and the gates favour some of them, so W only stands for what the layer does to small
    embeddings.

    Args:
        U, V (Tensor): (E, ΣK, R), of one layer and one set.
        C (Tensor): (E, R, R).

    Returns:
        Tensor: (ΣK, ΣK), for ``cross_blocks``.
    """
    return (U @ C @ V.transpose(-1, -2)).mean(dim=0)


def fwfm_blocks(weights, dim):
    """W_{i→j} = r_ij I: FwFM and NFwFM, so IA(E_i^{→j}) = IA(E_i) wherever r_ij ≠ 0.

    Args:
        weights (Tensor): (F, F), as in NFwFM, or (F(F - 1)/2,) for the pairs i < j row by row, as FuxiCTR's
            FwFM stores them (``interaction_weight.weight[0]``).
        dim (int): K.

    Returns:
        list of list of Tensor: (K, K); None on the diagonal where the weights are of pairs.

    Raises:
        UsageError: weights of another shape.
    """
    identity = torch.eye(dim, dtype=weights.dtype, device=weights.device)
    if weights.ndim == 2 and weights.shape[0] == weights.shape[1]:
        return [[r * identity for r in row] for row in weights]
    if weights.ndim != 1:
        raise UsageError(f"field weights must be (F, F), or a vector of pairs, got {tuple(weights.shape)}")
    return fmfm_blocks(weights[:, None, None] * identity)


def fmfm_blocks(weight):
    """W_{i→j} of FmFM, whose pair i < j gives ⟨e_i M_ij, e_j⟩: W_{i→j} = M_ijᵀ and W_{j→i} = M_ij.

    Args:
        weight (Tensor): M (F(F - 1)/2, K, K), or its diagonals (F(F - 1)/2, K) ("vectorized"), for the pairs
            i < j row by row, as FuxiCTR's FmFM stores them (``interaction_weight``).

    Returns:
        list of list of Tensor: (K, K); None on the diagonal.

    Raises:
        UsageError: not a number of pairs that some number of fields has.
    """
    fields = (1 + math.isqrt(1 + 8 * len(weight))) // 2
    if fields * (fields - 1) != 2 * len(weight):
        raise UsageError(f"{len(weight)} weights are not one for each pair of fields: that is F(F - 1)/2")
    matrices = weight if weight.ndim == 3 else torch.diag_embed(weight)
    blocks = [[None] * fields for _ in range(fields)]
    for (i, j), M in zip(itertools.combinations(range(fields), 2), matrices, strict=True):
        blocks[i][j], blocks[j][i] = M.T, M
    return blocks


def ffm_blocks(num_fields, dim):
    """What picks E_i^{→j} out of the F - 1 tables of field i side by side: FFM, FFMv2.

    The tables lie in the order of the partners j, field i itself left out: with FuxiCTR's FFM, field i's
    tables in ``embedding_layers`` 0 to F - 2; with its FFMv2, the one wide table.

    Args:
        num_fields (int): F.
        dim (int): K of each of the tables.

    Returns:
        list of list of Tensor: (K, K(F - 1)), float64; None on the diagonal. The factors that go with them
        are ``triangular_factor([E_i of partner 0, …, E_i of partner F - 1])``.
    """
    slots = torch.eye(dim * (num_fields - 1), dtype=torch.float64).split(dim)
    partners = ([None if j == i else slots[j - (j > i)] for j in range(num_fields)] for i in range(num_fields))
    return list(partners)
