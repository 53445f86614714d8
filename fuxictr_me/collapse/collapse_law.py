"""The interaction-collapse law, tested on a model of one's own.

The law (paper, figure 3; arXiv 2310.04400): IA(E_i^{→j}) grows with IA(E_i) and with IA(E_j), so what
interacts with collapsed fields collapses. That it grows with IA(E_i) is near to a matter of course, as
E_i^{→j} is made of E_i; that it grows with IA(E_j) is what the law says.
"""

from dataclasses import dataclass

import numpy as np

from fuxictr_me.errors import check_positive_int


@dataclass(frozen=True)
class Association:
    """How IA(E_i^{→j}) goes with the IA of one of its two fields, over ordered pairs i ≠ j.

    All correlations are NaN where one side is constant, e.g. that of FwFM with IA(E_j).

    Attributes:
        pearson, spearman (float): over all pairs as they are.
        partial_pearson (float): with the other field accounted for: both sides centred over the pairs
            that share that other field.
        partial_spearman (float): the same of the ranks within those pairs.
        p_value (float): of ``partial_pearson``, one-sided: the share of random relabellings of the fields
            that give as much or more. One field is in many pairs, so the pairs are not independent and
            are not permuted one by one (Mantel 1967).
    """

    pearson: float
    spearman: float
    partial_pearson: float
    partial_spearman: float
    p_value: float


@dataclass(frozen=True)
class InteractionCollapse:
    """The law on one model and one embedding set.

    Attributes:
        partner (Association): with IA(E_j), field i accounted for.
        own (Association): with IA(E_i), field j accounted for.
        num_fields (int): fields that count.
    """

    partner: Association
    own: Association
    num_fields: int


def interaction_collapse(sub_abundance, abundance, permutations=9_999, seed=0):
    """Test the law on the abundances of a model.

    Values are rounded to nine decimals, so that those that differ by rounding alone tie.

    Args:
        sub_abundance (array or Tensor): (F, F), IA(E_i^{→j}), row i, column j; its diagonal is not read.
        abundance (array or Tensor): (F,), IA(E_i). Fields of NaN, which have no table, are left out.
        permutations (int): relabellings drawn for the p-values, which are at least 1 / (permutations + 1).
            F fields have but F! of them: with few fields no p-value can be small.
        seed (int): of the draw.

    Returns:
        InteractionCollapse

    Raises:
        ValueError: shapes that do not go together, or NaN in a pair of two fields with tables.

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
        partner=_association(y, a, permutations, random),
        own=_association(y.T, a, permutations, random),
        num_fields=len(a),
    )


def _association(y, a, permutations, random):
    """Of y[i, j] with a[j], row i accounted for."""
    from scipy.stats import rankdata  # here, for it takes most of a second to import

    pairs = ~np.eye(len(a), dtype=bool)
    shape = (len(a), max(len(a) - 1, 0))
    Y, A = y[pairs].reshape(shape), np.broadcast_to(a, y.shape)[pairs].reshape(shape)  # (F, F - 1), row i
    partial = _correlation(_centred(Y), _centred(A))
    return Association(
        pearson=_correlation(Y, A),
        spearman=_correlation(rankdata(Y), rankdata(A)),
        partial_pearson=partial,
        partial_spearman=_correlation(_centred(rankdata(Y, axis=1)), _centred(rankdata(A, axis=1))),
        p_value=np.nan if np.isnan(partial) else _p_value(Y, pairs, a, permutations, random),
    )


def _p_value(Y, pairs, a, permutations, random):
    """Share of relabellings whose partial correlation is that of ``a`` or more, ``a`` itself counted.

    The correlation is Σ_ij (y_ij - ȳ_i) a_j over a product of two norms that no relabelling changes, so its
    numerator Σ_j s_j a_j is enough.
    """
    s = np.zeros(pairs.shape)
    s[pairs] = _centred(Y).ravel()
    s = s.sum(axis=0)
    relabelled = random.permuted(np.tile(a, (permutations, 1)), axis=1)
    as_much = relabelled @ s >= a @ s - 1e-9 * np.linalg.norm(a) * np.linalg.norm(s)
    return float((1 + as_much.sum()) / (1 + permutations))


def _centred(x):
    return x - x.mean(axis=1, keepdims=True) if x.size else x


def _correlation(x, y):
    """Pearson; NaN where either is constant to within rounding."""
    if x.size == 0:
        return float("nan")
    x, y = (z.ravel() - z.mean() for z in (x, y))
    norms = np.linalg.norm(x), np.linalg.norm(y)
    return float(np.clip(x @ y / np.prod(norms), -1, 1)) if min(norms) > 1e-9 else float("nan")
