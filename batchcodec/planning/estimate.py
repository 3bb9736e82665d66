"""Totals of a population from a sample of its clusters, with intervals: pure functions on numbers.

The population is a dataset's groups, as `pack` would form them; a group is a cluster of images, and what is measured of it is
its total (bytes, errors, seconds). What is known of every group beforehand (pixels, images, bytes of the source files) predicts
that total by a regression through the sampled groups, and the predictions are summed over all groups: the regression estimator
of Särndal, Swensson and Wretman 1992, "Model Assisted Survey Sampling", section 6.4, which is the ratio estimator where one
thing is known. The interval is Student's, of the residuals between groups, with the correction for a finite population: it
closes when all groups were measured.

A cheap codec is measured on more groups than the others; what these came to is predicted for the rest from it (`filled`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
CONFIDENCE = 0.95
LEAST_FOR_REGRESSION = 5
"""Clusters from which a factor and an amount are told apart."""


@dataclass(frozen=True)
class Interval:
    """An estimate; `low` and `high` are infinite where the sample is too small to tell."""

    value: float
    low: float
    high: float

    @property
    def relative(self) -> float:
        """Half of the interval as a part of the value."""
        return (self.high - self.low) / 2 / abs(self.value) if self.value else 0.0

    def contains(self, value: float) -> bool:
        """Whether a value is inside."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Total:
    """An estimated total: its value, variance, and the degrees of freedom that the variance has."""

    value: float
    variance: float
    freedom: float

    def __add__(self, other: Total) -> Total:
        """The total of two strata; degrees of freedom as Satterthwaite 1946 has them."""
        variance = self.variance + other.variance
        weights = sum(t.variance**2 / t.freedom for t in (self, other) if t.freedom > 0 and 0 < t.variance < math.inf)
        freedom = variance**2 / weights if weights and math.isfinite(variance) else max(self.freedom, other.freedom)
        return Total(self.value + other.value, variance, freedom)

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Student's interval around the value."""
        if self.variance == 0:
            return Interval(self.value, self.value, self.value)
        if self.freedom < 1 or not math.isfinite(self.variance):
            return Interval(self.value, -math.inf, math.inf)
        half = student(0.5 + confidence / 2, self.freedom) * math.sqrt(self.variance)
        return Interval(self.value, self.value - half, self.value + half)


def total(measured: Sequence[float], known: Floats, known_totals: Floats, n_clusters: float, *, spread: float = 0.0) -> Total:
    """The total of a stratum.

    Args:
        measured: of each sampled cluster: [n].
        known: of each sampled cluster: [n, p], the first column above 0 and about in proportion to the cluster's size.
        known_totals: of all clusters of the stratum together: [p].
        n_clusters: of the stratum.
        spread: standard deviation between clusters, as a part of their mean, that is assumed where the sample has less.
    """
    y = np.asarray(measured, np.float64)
    n, p = known.shape
    if n >= n_clusters:
        return Total(float(y.sum()), 0.0, math.inf)
    if p > 1 and (n < p + 2 or np.linalg.matrix_rank(known / known_totals) < p):
        return total(measured, known[:, :1], known_totals[:1], n_clusters, spread=spread)
    rest = np.maximum(known_totals - known.sum(axis=0), 0.0)
    predicted, variance, freedom = _predicted(y, known, rest, n_clusters, spread)
    return Total(float(y.sum()) + float(rest @ predicted), variance, freedom)


def _predicted(y: Floats, known: Floats, rest: Floats, n_clusters: float, spread: float = 0.0) -> tuple[Floats, float, float]:
    """Factors of the regression, the variance of what they predict for the clusters that were not measured, its freedom.

    The variance is the larger one of two: that of the design, which takes each sample for as likely as any other, and that of
    the model (Royall 1970, "On finite population sampling theory under certain linear regression models"), which is larger
    where the clusters that were measured happen not to be like the others. Both are of at least the `spread` of `total`: a few
    clusters that happen to be alike say little of the others.
    """
    n, p = known.shape
    scale = np.abs(known).max(axis=0)
    scale[scale == 0] = 1.0
    unit, root = known / scale, np.sqrt(known[:, 0])  # the variance of a cluster is about in proportion to its size
    factors = np.linalg.lstsq(unit / root[:, None], y / root, rcond=None)[0]
    residuals, freedom = y - unit @ factors, n - p
    if freedom < 1:
        return factors / scale, math.inf, 0
    between = max(float((residuals**2).sum()) / freedom, float((spread * y.mean()) ** 2))
    within = max(float((residuals**2 / known[:, 0]).sum()) / freedom, float(((spread * y) ** 2 / known[:, 0]).mean()))
    design = n_clusters**2 * (1 - n / n_clusters) * between / n
    inverse = np.linalg.pinv((unit / root[:, None]).T @ (unit / root[:, None]))
    model = within * float(rest[0] + (rest / scale) @ inverse @ (rest / scale))
    return factors / scale, max(design, model), freedom


def filled(
    measured: Mapping[int, float],
    beside: Mapping[int, float],
    extent: Mapping[int, float],
    *,
    differs: bool,
    spread: float = 0.0,
) -> tuple[Floats, Total]:
    """What a few clusters tell of more of them, on which something cheaper was measured that goes with it.

    The first phase of two-phase sampling (Särndal, Swensson and Wretman, chapter 9): the values are for `total`, the second
    phase's variance is to be added to it, times the square of the number of clusters of the population for each of these.

    Args:
        measured: of some clusters, by number.
        beside: the cheaper measurement, of more of them.
        extent: of these: how large they are.
        differs: of few clusters, whether the measurements differ by an amount in proportion to the extent, rather than by a
            factor. Of more, both are found by a regression.
        spread: as in `total`.

    Returns:
        A value for each cluster of `beside`, in its order, measured or predicted, and what that may be off in sum.
    """
    numbers = [number for number in measured if number in beside]
    n, m = len(numbers), len(beside)
    y, x, size = (np.array([values[number] for number in numbers]) for values in (measured, beside, extent))
    every, every_size = (np.array([values[number] for number in beside]) for values in (beside, extent))
    known, rest = np.stack([size, x], axis=1), np.array([every_size.sum() - size.sum(), every.sum() - x.sum()])
    shift = 0.0
    if n < LEAST_FOR_REGRESSION:
        shift = 1.0 if differs else 0.0
        known, rest = (known[:, :1], rest[:1]) if differs else (known[:, 1:], rest[1:])
    factors, variance, freedom = _predicted(y - shift * x, known, rest, m, spread)
    if len(factors) == 1:
        factors = np.array([factors[0], shift]) if differs else np.array([0.0, factors[0]])
    predicted = np.stack([every_size, every], axis=1) @ factors
    values = np.array([measured.get(number, guess) for number, guess in zip(beside, predicted, strict=True)])
    return values, Total(0.0, 0.0, math.inf) if n >= m else Total(0.0, variance, freedom)


def scatter(parts: Sequence[float], n_parts: float) -> float:
    """Variance, relative to its square, of a total that is known of some parts of a population only."""
    values = np.asarray(parts, np.float64)
    if len(values) >= n_parts:
        return 0.0
    if len(values) < 2 or not values.mean():
        return math.inf
    return float(values.var(ddof=1) / len(values) / values.mean() ** 2) * (1 - len(values) / n_parts)


def student(probability: float, freedom: float) -> float:
    """Quantile of Student's t above its median: exact for 1 and 2 degrees of freedom, else to about 1 %.

    Abramowitz and Stegun 1964, 26.7.5: the expansion in powers of 1 / freedom around the normal quantile.
    """
    if freedom < 1:
        raise ValueError(f"{freedom} degrees of freedom")
    if freedom < 2:
        return math.tan(math.pi * (probability - 0.5))
    if freedom < 3:
        return (2 * probability - 1) * math.sqrt(2 / (4 * probability * (1 - probability)))
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))
