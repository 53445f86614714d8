"""Statistics of runs with a few seeds: means, paired differences, and tests corrected for their number.

The rule of a study: a paired t test over the seeds at 5 %, whose p values are corrected by Holm's method over all cells
that answer one question. With fewer than ``FEWEST_SEEDS`` pairs nothing is concluded, whatever p is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from fuxictr_me.formatting import pluralize

LEVEL = 0.05
POWER = 0.8
FEWEST_SEEDS = (
    5  # the sd is off by a factor of 2 in every fourth study with 3 seeds, in every eleventh with 5, as in BARS
)
DECIMALS = 12  # of a difference: the digits beyond are rounding errors of metrics of order 1
NO_DIFFERENCE = "no significant difference"


@dataclass(frozen=True)
class PairedTest:
    """Result of a paired comparison, a − b, over seeds.

    Attributes:
        n: number of pairs.
        mean: of the differences; None without pairs.
        sd: of the differences, over n − 1; None with fewer than two pairs, as are ``low``, ``high`` and ``p``.
        low, high: confidence interval of the mean, by Student's t.
        p: two-sided paired t test. It is 1 if all differences are 0, and None if all are the same other number: then
            the seed had no influence.
        p_wilcoxon: two-sided signed-rank test, exact; None without pairs.
    """

    n: int
    mean: float | None = None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_wilcoxon: float | None = None


def mean_and_sd(values: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the mean (None without values) and the standard deviation over n − 1 (None with fewer than two)."""
    mean = float(np.mean(values)) if len(values) else None
    return mean, float(np.std(values, ddof=1)) if len(values) > 1 else None


def compare_pairs(a: Sequence[float], b: Sequence[float], level: float = 1 - LEVEL) -> PairedTest:
    """Compare two sequences pair by pair, a − b.

    Args:
        a, b: (n,); a[i] and b[i] have the same seed.
        level: of the confidence interval.

    Raises:
        ValueError: the sequences have different lengths.
    """
    if len(a) != len(b):
        raise ValueError(f"pairs need equally many values on both sides, got {len(a)} and {len(b)}")
    d = np.round(np.asarray(a, dtype=float) - np.asarray(b, dtype=float), DECIMALS)
    n = len(d)
    mean, sd = mean_and_sd(d)
    if mean is None:
        return PairedTest(0)
    if sd is None:
        return PairedTest(1, mean, p_wilcoxon=signed_rank_p(d))
    if np.ptp(d) == 0:
        return PairedTest(n, mean, 0.0, mean, mean, None if mean else 1.0, signed_rank_p(d))
    error = sd / np.sqrt(n)
    half = stats.t.isf((1 - level) / 2, n - 1) * error
    p = 2 * stats.t.sf(abs(mean) / error, n - 1)
    return PairedTest(n, mean, sd, float(mean - half), float(mean + half), float(p), signed_rank_p(d))


def signed_rank_p(d: Sequence[float]) -> float:
    """Return p of Wilcoxon's signed-rank test, two-sided and exact, also with tied ranks (which scipy's is not).

    Args:
        d: (n,), differences; zeros are left out. Without any other number, p is 1.
    """
    nonzero = np.array([value for value in d if value != 0], dtype=float)
    ranks = np.rint(2 * stats.rankdata(abs(nonzero))).astype(int)  # doubled, so that the ranks of ties are integers
    chance = np.zeros(ranks.sum() + 1)  # probability of each sum of the positive ranks
    chance[0] = 1
    for rank in ranks:
        chance = (chance + np.roll(chance, rank)) / 2
    positive = ranks[nonzero > 0].sum()
    return float(min(1, 2 * min(chance[: positive + 1].sum(), chance[positive:].sum())))


def smallest_signed_rank_p(n: int) -> float:
    """Return the smallest p that Wilcoxon's signed-rank test can give with n pairs, 2 / 2ⁿ: below .05 from n = 6 on."""
    return min(1.0, 2 / 2**n)


def adjust_by_holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p values for the number of tests by Holm's method (1979, Scand. J. Statist. 6).

    The i-th smallest of m becomes max_{j ≤ i} (m − j + 1) p_j, at most 1. None stands for no test and stays None.
    """
    tested = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected, largest = list(p_values), 0.0
    for rank, (p, i) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - rank) * p))
        corrected[i] = largest
    return corrected


def detectable_difference(sd: float | None, n: int, level: float = LEVEL, power: float = POWER) -> float | None:
    """Return the true mean difference that a two-sided paired t test would find with the given power.

    Args:
        sd: of the differences.
        n: number of pairs.
        level: of the test. Of m tests, Holm's method requires level / m of the first.
        power: probability of finding it.

    Returns:
        by the noncentral t distribution (without the far tail, below 1e-6); None if ``sd`` is None or 0.
    """
    if not sd or n < 2:
        return None
    bound = stats.t.isf(level / 2, n - 1)
    return float(special.nctdtrinc(n - 1, 1 - power, bound) * sd / np.sqrt(n))


def conclude(test: PairedTest, p: float | None, first: str = "ME", second: str = "SE", is_loss: bool = False) -> str:
    """Say what a comparison allows to conclude.

    Args:
        test: first − second.
        p: of its t test, corrected for the number of cells.
        first, second: names of the two sides.
        is_loss: whether lower is better.

    Returns:
        ``<first> ahead``, ``<second> ahead``, ``NO_DIFFERENCE``, or ``nothing can be concluded (n seeds)``: with fewer
        than ``FEWEST_SEEDS`` pairs, or if the seed had no influence.
    """
    if test.n < FEWEST_SEEDS or test.mean is None or p is None:
        return f"nothing can be concluded ({pluralize(test.n, 'seed')})"
    if p > LEVEL:
        return NO_DIFFERENCE
    return f"{first if (test.mean < 0) == is_loss else second} ahead"
