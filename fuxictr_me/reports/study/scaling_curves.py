"""Scaling curves: how a metric changes with size, where it saturates, and whether it has a peak.

A curve is fitted to the means over seeds: a power law with saturation, y(s) = a − b s^(−c) with c > 0, where s is the
size as a multiple of the smallest. The curve has a peak if the largest size is worse than a smaller one. Intervals come
from a bootstrap over seeds, which are drawn with all their sizes together, because one seed is paired across sizes. Its
standard error is multiplied by √(n / (n − 1)) and by Student's t with n − 1 degrees of freedom: percentiles would be
too narrow with few seeds (Hesterberg 2015, The American Statistician 69).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

FEWEST_SIZES, FEWEST_SEEDS = 4, 3
RESAMPLES, SEED, LEVEL = 1000, 2021, 0.95
SHARE = 0.9  # of the gain from the smallest size to the asymptote, at which a curve counts as saturated
EXPONENTS = np.geomspace(0.05, 8, 160)  # c; steps of 3 %

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval."""

    value: float
    low: float
    high: float

    @property
    def is_positive(self) -> bool:
        """Whether the whole interval is above 0."""
        return self.low > 0

    @property
    def is_negative(self) -> bool:
        """Whether the whole interval is below 0."""
        return self.high < 0


@dataclass(frozen=True)
class Curve:
    """The scaling curve of one model and kind, and its verdict. Higher is better: losses have their sign changed.

    Attributes:
        sizes: (S,), as multiples of the smallest, ascending.
        num_seeds: that have a value at all sizes.
        means: (S,), over the seeds.
        a, b, c: of the fitted power law; NaN with fewer than ``FEWEST_SIZES`` sizes or ``FEWEST_SEEDS`` seeds, where
            all estimates are None.
        gain, last_gain: largest minus smallest, and largest minus second largest size.
        best: the size below the largest with the highest mean.
        rise, drop: best minus smallest size, and largest minus best.
        saturation: size at which the power law has ``SHARE`` of its gain.
        band: (2, G), interval of the fitted curve at ``grid``.
        grid: (G,), sizes.
    """

    sizes: Array
    num_seeds: int
    means: Array
    a: float = np.nan
    b: float = np.nan
    c: float = np.nan
    gain: Estimate | None = None
    last_gain: Estimate | None = None
    best: float = np.nan
    rise: Estimate | None = None
    drop: Estimate | None = None
    saturation: Estimate | None = None
    band: Array | None = None
    grid: Array | None = None

    @property
    def verdict(self) -> str:
        """``too few``, ``peaks``, ``loses``, ``stops``, ``still gains``, ``gains`` or ``cannot tell``.

        ``peaks`` and ``loses`` need a significant drop, ``peaks`` also a significant rise before it. ``stops`` needs a
        significant gain and a saturation whose interval ends before the largest size. ``still gains`` needs a
        significant gain from the second largest size to the largest; ``gains`` only the gain as a whole.
        """
        if not (self.gain and self.last_gain and self.rise and self.drop and self.saturation):
            return "too few"
        if self.drop.is_negative:
            return "peaks" if self.rise.is_positive else "loses"
        if not self.gain.is_positive:
            return "cannot tell"
        if self.saturation.high <= self.sizes[-1]:
            return "stops"
        return "still gains" if self.last_gain.is_positive else "gains"


def fit_power_law(sizes: ArrayLike, values: ArrayLike) -> tuple[Array, Array, Array]:
    """Fit y(s) = a − b s^(−c) by least squares, with c of ``EXPONENTS``.

    For a given c the model is linear in a and b, whose least squares are exact; the best c is found among all.

    Args:
        sizes: (S,), positive.
        values: (..., S), one curve per row.

    Returns:
        a, b, c: each of the shape (...).
    """
    x = np.asarray(sizes, dtype=float)[None, :] ** -EXPONENTS[:, None]  # (C, S)
    y = np.asarray(values, dtype=float)
    centred = x - x.mean(axis=1, keepdims=True)
    slopes = (y @ centred.T) / (centred**2).sum(axis=1)  # (..., C), of y against s^(−c)
    explained = slopes**2 * (centred**2).sum(axis=1)  # the part of the sum of squares that c explains
    best = explained.argmax(axis=-1)
    slope = np.take_along_axis(slopes, best[..., None], axis=-1)[..., 0]
    return y.mean(axis=-1) - slope * x.mean(axis=1)[best], -slope, EXPONENTS[best]


def saturation_size(c: ArrayLike) -> Array:
    """Return the size at which a power law has ``SHARE`` of its gain over size 1: (1 − SHARE)^(−1/c)."""
    return (1 - SHARE) ** (-1 / np.asarray(c, dtype=float))


def measure_curve(sizes: ArrayLike, values: ArrayLike, level: float = LEVEL, resamples: int = RESAMPLES) -> Curve:
    """Fit the curves to values of several seeds, with intervals by a bootstrap over seeds that is itself seeded.

    Args:
        sizes: (S,), as multiples of the smallest, ascending.
        values: (n, S), one row per seed; higher is better.
        level: of the intervals. Those of differences between sizes hold together for S − 1 differences (Bonferroni).
        resamples: of the bootstrap.
    """
    sizes, values = np.asarray(sizes, dtype=float), np.asarray(values, dtype=float)
    n = len(values)
    means = values.mean(axis=0) if n else np.full(len(sizes), np.nan)
    if len(sizes) < FEWEST_SIZES or n < FEWEST_SEEDS:
        return Curve(sizes, n, means)
    chosen = np.random.default_rng(SEED).integers(n, size=(resamples, n))
    drawn = values[chosen].mean(axis=1)  # (R, S), means of resampled seeds
    width = _interval_width(level, n)
    (a, b, c), (drawn_a, drawn_b, drawn_c) = fit_power_law(sizes, means), fit_power_law(sizes, drawn)
    best = int(means[:-1].argmax())
    corrected = _interval_width(1 - (1 - level) / (len(sizes) - 1), n)
    grid = np.geomspace(sizes[0], sizes[-1], 60)
    fitted = a - b * grid**-c
    spread = width * (drawn_a[:, None] - drawn_b[:, None] * grid ** -drawn_c[:, None]).std(axis=0)
    return Curve(
        sizes=sizes,
        num_seeds=n,
        means=means,
        a=float(a),
        b=float(b),
        c=float(c),
        gain=_estimate(means[-1] - means[0], drawn[:, -1] - drawn[:, 0], corrected),
        last_gain=_estimate(means[-1] - means[-2], drawn[:, -1] - drawn[:, -2], corrected),
        best=float(sizes[best]),
        rise=_estimate(means[best] - means[0], drawn[:, best] - drawn[:, 0], corrected),
        drop=_estimate(means[-1] - means[best], drawn[:, -1] - drawn[:, best], corrected),
        saturation=_estimate_size(float(saturation_size(c)), saturation_size(drawn_c), width),
        band=np.stack([fitted - spread, fitted + spread]),
        grid=grid,
    )


def _interval_width(level: float, num_seeds: int) -> float:
    """Return half the width of an interval in standard errors of the bootstrap."""
    return float(stats.t.ppf((1 + level) / 2, num_seeds - 1) * np.sqrt(num_seeds / (num_seeds - 1)))


def _estimate(value: float, drawn: Array, width: float) -> Estimate:
    half = width * float(np.std(drawn))
    return Estimate(float(value), float(value) - half, float(value) + half)


def _estimate_size(value: float, drawn: Array, width: float) -> Estimate:
    """Return an estimate whose interval is symmetric in log size."""
    log = _estimate(np.log(value), np.log(drawn), width)
    low, high = np.exp(np.clip([log.low, log.high], -50, 50))
    return Estimate(value, float(low), float(high))
