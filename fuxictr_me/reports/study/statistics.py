"""What runs of a few seeds can show: means, paired differences, and tests corrected for their number.

The rule of a study: a paired t test over the seeds, the p values of all cells that answer one question corrected by
Holm, at 5 %; with fewer than ``FEWEST_SEEDS`` pairs nothing is concluded, whatever p is.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

LEVEL = 0.05
POWER = 0.8
FEWEST_SEEDS = 5  # with 3 the sd is off by a factor of 2 in every fourth study, with 5 in every eleventh; BARS has 5
DECIMALS = 12  # of a difference; beyond them metrics of order 1 hold nothing but the rounding of floats
NO_DIFFERENCE = "no difference that these seeds can show"


@dataclass(frozen=True)
class Paired:
    """A paired comparison, a − b, over seeds.

    Attributes:
        n (int): pairs.
        mean (float or None): of the differences; None without pairs.
        sd (float or None): of the differences, over n − 1; None with fewer than two pairs, as are the next three.
        low, high (float or None): confidence interval of the mean, Student's t.
        p (float or None): two-sided, paired t test. 1 where all differences are 0; None where all are one other number:
            the seed changed nothing.
        p_wilcoxon (float or None): two-sided, signed ranks, exact; None without pairs.
    """

    n: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_wilcoxon: float | None = None


def mean_and_sd(values):
    """Mean and standard deviation (over n − 1).

    Args:
        values (sequence of float): (n,).

    Returns:
        tuple: mean (None of no value), sd (None of fewer than two).
    """
    mean = float(np.mean(values)) if len(values) else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def paired(a, b, level=1 - LEVEL):
    """Compare two sequences pair by pair.

    Args:
        a, b (sequence of float): (n,); a[i] and b[i] are of one seed.
        level (float): of the confidence interval.

    Returns:
        Paired: of a − b.

    Raises:
        ValueError: sequences of unequal length.
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"pairs need as many values on both sides, got {len(a)} and {len(b)}")
    d = np.round(a - b, DECIMALS)
    n = len(d)
    mean, sd = mean_and_sd(d)
    if n == 0:
        return Paired(0)
    if n == 1:
        return Paired(1, mean, p_wilcoxon=signed_rank_p(d))
    if np.ptp(d) == 0:
        return Paired(n, mean, 0.0, mean, mean, None if mean else 1.0, signed_rank_p(d))
    error = sd / np.sqrt(n)
    half = stats.t.isf((1 - level) / 2, n - 1) * error
    p = 2 * stats.t.sf(abs(mean) / error, n - 1)
    return Paired(n, mean, sd, float(mean - half), float(mean + half), float(p), signed_rank_p(d))


def signed_rank_p(d):
    """Wilcoxon's signed-rank test, two-sided and exact, with tied ranks too (scipy's exact one counts as if none were).

    Args:
        d (sequence of float): (n,), differences; zeros are left out.

    Returns:
        float: p; 1 where nothing is left.
    """
    d = np.asarray(d, dtype=float)
    d = d[d != 0]
    ranks = np.rint(2 * stats.rankdata(abs(d))).astype(int)  # twice, so that those of ties are integers
    chance = np.zeros(ranks.sum() + 1)  # of each sum of the positive ranks
    chance[0] = 1
    for rank in ranks:
        chance = (chance + np.roll(chance, rank)) / 2
    positive = ranks[d > 0].sum()
    return float(min(1, 2 * min(chance[: positive + 1].sum(), chance[positive:].sum())))


def smallest_p(n):
    """The smallest p that Wilcoxon's signed-rank test can give with n pairs: 2 / 2ⁿ. Below .05 from n = 6 on."""
    return min(1.0, 2 / 2**n)


def holm(p_values):
    """Holm's correction for the number of tests (1979, Scand. J. Statist. 6).

    The i-th smallest of m becomes max_{j ≤ i} (m − j + 1) p_j, at most 1.

    Args:
        p_values (sequence of float or None): None is no test, and stays None.

    Returns:
        list of float or None: in the same order.
    """
    tested = sorted((i for i, p in enumerate(p_values) if p is not None), key=lambda i: p_values[i])
    corrected, largest = list(p_values), 0.0
    for rank, i in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def detectable(sd, n, level=LEVEL, power=POWER):
    """The true mean difference that a two-sided paired t test would find with the given power.

    Args:
        sd (float or None): of the differences.
        n (int): pairs.
        level (float): of the test; of m tests, level / m is what Holm asks of the first.
        power (float)

    Returns:
        float or None: by the noncentral t distribution (without the far tail, below 1e-6); None where sd is None or 0.
    """
    if not sd or n < 2:
        return None
    bound = stats.t.isf(level / 2, n - 1)
    return float(special.nctdtrinc(n - 1, 1 - power, bound) * sd / np.sqrt(n))


def conclusion(pair, p, first="ME", second="SE", lower_is_better=False):
    """What may be said of a comparison.

    Args:
        pair (Paired): first − second.
        p (float or None): of its t test, corrected for the number of cells.
        first, second (str)
        lower_is_better (bool): as of the logloss.

    Returns:
        str: ``<first> ahead``, ``<second> ahead``, ``NO_DIFFERENCE``, or ``nothing can be concluded (n seeds)``: with
        fewer than ``FEWEST_SEEDS`` pairs, or where the seed changed nothing.
    """
    if pair.n < FEWEST_SEEDS or p is None:
        return f"nothing can be concluded ({pair.n} seed{'' if pair.n == 1 else 's'})"
    if p > LEVEL:
        return NO_DIFFERENCE
    return f"{first if (pair.mean < 0) == lower_is_better else second} ahead"
