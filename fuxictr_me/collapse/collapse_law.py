"""A test of the interaction-collapse law on a trained model.

The law (paper, figure 3; arXiv 2310.04400): IA(E_i^{→j}) grows with IA(E_i) and with IA(E_j), so a field that
interacts with collapsed fields collapses. Growth with IA(E_i) is almost trivial, because E_i^{→j} is computed from
E_i; growth with IA(E_j) is what the law claims.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fuxictr_me.errors import check_positive_int


@dataclass(frozen=True)
class Association:
    """Correlations of IA(E_i^{→j}) with the IA of one of its two fields, over ordered pairs i ≠ j.

    All correlations are NaN if one side is constant, e.g. FwFM's with IA(E_j).

    Attributes:
        pearson, spearman: over all pairs as they are.
        partial_pearson: with the other field accounted for: both sides are centred over the pairs that share that
            other field.
        partial_spearman: the same of the ranks within those pairs.
        p_value: of ``partial_pearson``, one-sided: the share of random relabellings of the fields with a correlation
            at least as large. One field is in many pairs, so the pairs are not independent and are not permuted one by
            one (Mantel 1967).
    """

    pearson: float
    spearman: float
    partial_pearson: float
    partial_spearman: float
    p_value: float


@dataclass(frozen=True)
class InteractionCollapse:
    """Result of the test on one model and one embedding set.

    Attributes:
        partner: association with IA(E_j), field i accounted for.
        own: association with IA(E_i), field j accounted for.
        num_fields: number of fields with a table.
    """

    partner: Association
    own: Association
    num_fields: int


def interaction_collapse(
    sub_abundance: ArrayLike, abundance: ArrayLike, permutations: int = 9_999, seed: int = 0
) -> InteractionCollapse:
    """Test the interaction-collapse law on the abundances of a model.

    Values are rounded to nine decimals, so that values which differ only by rounding are ties.

    Args:
        sub_abundance: (F, F), IA(E_i^{→j}) in row i, column j. The diagonal is not read.
        abundance: (F,), IA(E_i). Fields of NaN, which have no table, are left out.
        permutations: number of random relabellings for the p-values, which are at least 1 / (permutations + 1).
            F fields have only F! relabellings, so with few fields no p-value can be small.
        seed: of the relabellings.

    Raises:
        ValueError: if the shapes do not match, or the value of a pair of two fields with tables is NaN.

    Example::

        >>> a = np.array([1.0, 2.0, 3.0, 5.0])
        >>> law = interaction_collapse(10 * a[:, None] + a, a)
        >>> round(law.partner.pearson, 6), round(law.partner.partial_pearson, 6)  # field i hides what j does
        (-0.240239, 1.0)
    """
    y, a = np.asarray(sub_abundance, dtype=np.float64), np.asarray(abundance, dtype=np.float64)
    if a.ndim != 1 or y.shape != (len(a), len(a)):
        raise ValueError(f"need IA of (F, F) pairs and of (F,) fields, got {y.shape} and {a.shape}")
    check_positive_int("permutations", permutations)
    kept = ~np.isnan(a)
    y, a = y[np.ix_(kept, kept)].round(9), a[kept].round(9)
    if not np.isfinite(y[~np.eye(len(a), dtype=bool)]).all():
        raise ValueError("IA of a pair of fields that both have tables is missing")
    random = np.random.default_rng(seed)
    return InteractionCollapse(
        partner=_associate(y, a, permutations, random), own=_associate(y.T, a, permutations, random), num_fields=len(a)
    )


def _associate(y: NDArray, a: NDArray, permutations: int, random: np.random.Generator) -> Association:
    """Correlate y[i, j] with a[j], row i accounted for."""
    from scipy.stats import rankdata  # imported here because it takes most of a second

    pairs = ~np.eye(len(a), dtype=bool)
    shape = (len(a), max(len(a) - 1, 0))
    Y, A = y[pairs].reshape(shape), np.broadcast_to(a, y.shape)[pairs].reshape(shape)  # (F, F - 1), row i
    partial = _correlation(_centre(Y), _centre(A))
    return Association(
        pearson=_correlation(Y, A),
        spearman=_correlation(rankdata(Y), rankdata(A)),
        partial_pearson=partial,
        partial_spearman=_correlation(_centre(rankdata(Y, axis=1)), _centre(rankdata(A, axis=1))),
        p_value=np.nan if np.isnan(partial) else _p_value(Y, pairs, a, permutations, random),
    )


def _p_value(Y: NDArray, pairs: NDArray, a: NDArray, permutations: int, random: np.random.Generator) -> float:
    """Return the share of relabellings whose partial correlation is at least that of ``a``, counting ``a`` itself.

    The correlation is Σ_ij (y_ij - ȳ_i) a_j over a product of two norms that no relabelling changes, so its
    numerator Σ_j s_j a_j is enough.
    """
    s = np.zeros(pairs.shape)
    s[pairs] = _centre(Y).ravel()
    s = s.sum(axis=0)
    relabelled = random.permuted(np.tile(a, (permutations, 1)), axis=1)
    at_least = relabelled @ s >= a @ s - 1e-9 * np.linalg.norm(a) * np.linalg.norm(s)
    return float((1 + at_least.sum()) / (1 + permutations))


def _centre(x: NDArray) -> NDArray:
    return x - x.mean(axis=1, keepdims=True) if x.size else x


def _correlation(x: NDArray, y: NDArray) -> float:
    """Return Pearson's correlation; NaN if either side is constant to within rounding."""
    if x.size == 0:
        return float("nan")
    x, y = (z.ravel() - z.mean() for z in (x, y))
    norms = np.linalg.norm(x), np.linalg.norm(y)
    return float(np.clip(x @ y / np.prod(norms), -1, 1)) if min(norms) > 1e-9 else float("nan")
