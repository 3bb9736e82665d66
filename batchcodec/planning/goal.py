"""What is asked of an archive, and which quality of a codec comes to it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from batchcodec.planning.forecast import Forecast

LOW, HIGH = 1, 99
"""Qualities that every codec has."""
NEAR_DECIBELS, NEAR_BYTES = 0.7, 1.15
MOST_MARGIN, MOST_FACTOR = 0.3, 1.05
"""What a strict goal leaves to chance at most when a quality is chosen: an interval of few groups says more of their number."""
BYTES_FOR_A_DECIBEL = 0.13
"""About the logarithm of the factor by which a dB more takes more bytes, at usual qualities."""
USUAL_DECIBELS = 35.0
"""At which codecs are compared where the goal is a size."""
SLOPES = (0.08, 1.5)
"""dB that a step of a codec's quality is worth, at least and at most."""
ENOUGH_GROUPS = 3
APART = 5
"""Steps between two qualities that tell a slope."""
FARTHEST = 25
"""Steps beyond what was tried."""
QUALITIES_FOR_A_DECIBEL = 5
"""About the steps of a codec's quality that a dB takes, where only one was tried."""


@dataclass(frozen=True)
class Goal:
    """One of these: at least so many dB with as few bytes as possible, or at most so many bytes with as many dB.

    Attributes:
        psnr: mean over images, dB; None if it is the size that is given.
        n_bytes: of the archive.
        strict: whether the whole interval must reach it, not just the estimate.
        lossless: whether nothing may be lost; then the others are None.
    """

    psnr: float | None = None
    n_bytes: float | None = None
    strict: bool = False
    lossless: bool = False

    def reached(self, forecast: Forecast) -> bool:
        """Whether an archive would be what is asked."""
        if self.lossless:
            return forecast.lossless
        if self.n_bytes is not None:
            return (forecast.n_bytes.high if self.strict else forecast.n_bytes.value) <= self.n_bytes
        if self.psnr is None:
            return True
        low = forecast.mean_psnr.low if self.strict and math.isfinite(forecast.mean_psnr.low) else forecast.mean_psnr.value
        return low >= self.psnr

    def roughly(self) -> Goal:
        """The same, reached by an estimate alone."""
        return replace(self, strict=False)

    def nearly(self) -> Goal:
        """A goal that is reached by what comes near to this one."""
        return replace(
            self,
            psnr=None if self.psnr is None else self.psnr - NEAR_DECIBELS,
            n_bytes=None if self.n_bytes is None else self.n_bytes * NEAR_BYTES,
            strict=False,
        )

    def rank(self, forecast: Forecast) -> float:
        """The lower, the better, among archives that are what is asked."""
        return -forecast.mean_psnr.value if self.n_bytes is not None else forecast.n_bytes.value

    def promise(self, tried: Mapping[int, Forecast]) -> float:
        """The lower, the better: about the logarithm of the bytes that a codec takes at the goal, by the trial next to it."""
        nearest = self.nearest(tried)
        return math.log(nearest.n_bytes.value) + BYTES_FOR_A_DECIBEL * (self._level - nearest.mean_psnr.value)

    def nearest(self, tried: Mapping[int, Forecast]) -> Forecast:
        """The trial whose quality is nearest to the goal's; to a usual one, where it is the size that is given."""
        return min(tried.values(), key=lambda f: abs(f.mean_psnr.value - self._level))

    @property
    def _level(self) -> float:
        return self.psnr if self.psnr is not None else USUAL_DECIBELS

    def quality(self, tried: Mapping[int, Forecast]) -> int:
        """The quality that comes to the goal by what was tried, interpolated; it may be among the tried."""
        if self.lossless:
            return HIGH
        if self.n_bytes is not None:
            larger = {q: min(f.n_bytes.high / f.n_bytes.value, MOST_FACTOR) if self.strict else 1.0 for q, f in tried.items()}
            points = {q: math.log(f.n_bytes.value * larger[q] / self.n_bytes) for q, f in tried.items()}
            levels = {q: value / BYTES_FOR_A_DECIBEL for q, value in points.items()}
            return max(LOW, min(HIGH, math.floor(_crossing(levels, tried, 0.0) + 1e-6)))
        points = {
            q: f.mean_psnr.value - (min(f.mean_psnr.value - f.mean_psnr.low, MOST_MARGIN) if self.strict else 0.0)
            for q, f in tried.items()
        }
        return max(LOW, min(HIGH, math.ceil(_crossing(points, tried, self.psnr or 0.0) - 1e-6)))


def _crossing(points: Mapping[int, float], tried: Mapping[int, Forecast], level: float) -> float:
    """Where values in dB that rise with the quality cross a level, by the nearest point and the slope around it.

    What was tried on few groups, while others were on more, does not count, and points side by side give no slope.
    """
    most = max(forecast.n_groups for forecast in tried.values())
    solid = sorted(q for q in points if tried[q].n_groups >= min(most, ENOUGH_GROUPS))
    nearest = min(solid, key=lambda q: abs(points[q] - level))
    around = next(((a, b) for a, b in itertools.pairwise(solid) if points[a] <= level <= points[b]), (solid[0], solid[-1]))
    slope = 1 / QUALITIES_FOR_A_DECIBEL
    for low, high in (around, (solid[0], solid[-1])):
        if high - low >= APART:
            slope = min(max((points[high] - points[low]) / (high - low), SLOPES[0]), SLOPES[1])
            break
    return min(max(nearest + (level - points[nearest]) / slope, solid[0] - FARTHEST), solid[-1] + FARTHEST)
