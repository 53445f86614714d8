"""How far embedding sets differ: in the spaces that their tables span, and in which fields they let interact.

The functions of tables take whole tables. They also take the columns of the triangular factor of the sets side by
side, which gives the same for all pairs of sets from one pass over tall tables::

    R = triangular_factor([E1, E2, E3])
    R1, R2, R3 = R.split(dims, dim=1)
    principal_angles(R1, R2)

For [E1 E2 E3] = Q R with Q orthonormal, E_m = Q R_m: angles and products E_mᵀ E_n = R_mᵀ R_n are the same.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from fuxictr_me.collapse.measures import NEGLIGIBLE
from fuxictr_me.collapse.spectrum import triangular_factor


@torch.no_grad()
def principal_angles(A: Tensor, B: Tensor) -> Tensor:
    """Return the principal angles between the column spaces of two tables, largest first, in radians.

    An angle of 0 is a direction that both tables have, π/2 one that the other table lacks (Björck & Golub 1973). Both
    tables are orthonormalised first; directions whose singular value is below 1e-6 of the table's largest do not
    count. Small angles are computed from sines, large ones from cosines, so both keep their digits. In D
    dimensions two spaces share at least K_A + K_B - D directions.

    Args:
        A: (D, K_A); any D, with bounded extra memory.
        B: (D, K_B).

    Returns:
        (min(rank A, rank B),), float64; empty if one rank is 0.

    Raises:
        ValueError: if A and B are not matrices of equal length, or entries are not finite.

    Example::

        >>> principal_angles(torch.eye(3)[:, :2], torch.eye(3)[:, 1:])  # they share the second axis
        tensor([1.5708, 0.0000], dtype=torch.float64)
    """
    A, B = (_orthonormalise(part) for part in triangular_factor([A, B]).split([A.shape[1], B.shape[1]], dim=1))
    if A.shape[1] < B.shape[1]:
        A, B = B, A
    cosines = torch.linalg.svdvals(A.T @ B).clamp(max=1).flip(0)
    sines = torch.linalg.svdvals(B - A @ (A.T @ B)).clamp(max=1)
    return torch.where(cosines.square() > 0.5, sines.asin(), cosines.acos())


@torch.no_grad()
def table_space_similarity(fields: Sequence[Sequence[Tensor]]) -> float:
    """Return the mean squared singular value of E⁽ᵐ⁾ᵀ E⁽ⁿ⁾ of whole tables, over pairs of sets.

    The authors' code defines it for batches (``fuxictr_me.nn.penalties.space_similarity``): the k-th largest
    singular values are averaged over the fields before they are squared,
    mean_{m<n, k} (mean_i σ_k(E_i⁽ᵐ⁾ᵀ E_i⁽ⁿ⁾))². It grows with the scale of the tables and with D. Compare
    it only between models of one data set and initialisation, or use ``principal_angles``.

    Args:
        fields: for each field its M tables (D_i, K), or the columns of their factor.

    Raises:
        ValueError: if there are fewer than two sets, if M or K differ between fields, or if entries are not finite.

    Example::

        >>> table_space_similarity([[torch.eye(2), 3 * torch.eye(2)]])
        9.0
    """
    shapes = {tuple(table.shape[1] for table in sets) for sets in fields}
    if len(shapes) != 1 or len(dims := shapes.pop()) < 2 or len(set(dims)) != 1:
        raise ValueError("every field must have the same number of tables, 2 or more, of one dimension")
    spectra = []
    for sets in fields:
        columns = triangular_factor(sets).split(dims[0], dim=1)
        products = torch.stack([A.T @ B for A, B in itertools.combinations(columns, 2)])  # (M(M - 1)/2, K, K)
        spectra.append(torch.linalg.svdvals(products))
    return float(torch.stack(spectra).mean(dim=0).square().mean())


def variance_of_norms(norms: Tensor) -> Tensor:
    """Return the across-set variance of ‖W⁽ᵐ⁾_{i→j}‖²_F of each pair of fields, to see whether sets interact alike.

    Its mean over pairs is the penalty ``fuxictr_me.nn.penalties.norm_alignment`` of one layer (paper, figures 8c
    and 8d).

    Args:
        norms: (M, F, F), ‖W⁽ᵐ⁾_{i→j}‖_F, the ``block_norms`` of each set.

    Returns:
        (F, F), with divisor M, not M - 1; NaN if there is no block.

    Example::

        >>> variance_of_norms(torch.tensor([[[1.0]], [[3.0]]]))  # of 1 and 9
        tensor([[16.]])
    """
    return norms.square().var(dim=0, unbiased=False)


def _orthonormalise(A: Tensor) -> Tensor:
    """Return an orthonormal basis of the column space of A."""
    U, S, _ = torch.linalg.svd(A, full_matrices=False)
    return U[:, S / S.max() > NEGLIGIBLE] if len(S) else U
