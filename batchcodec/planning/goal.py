"""What is asked of an archive, and which quality of a codec comes to it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from batchcodec.planning.forecast import Forecast

LOW, HIGH = 1, 100


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

    def rank(self, forecast: Forecast) -> float:
        """The lower, the better, among archives that are what is asked."""
        return -forecast.mean_psnr.value if self.n_bytes is not None else forecast.n_bytes.value

    def quality(self, tried: Mapping[int, Forecast]) -> int:
        """The quality to try next: the one that comes to the goal by what was tried, interpolated. It may be among the tried."""
        if self.lossless:
            return HIGH
        if self.n_bytes is not None:
            points = {
                q: math.log(f.n_bytes.high if math.isfinite(f.n_bytes.high) else f.n_bytes.value) for q, f in tried.items()
            }
            return max(LOW, min(HIGH, math.floor(_crossing(points, math.log(self.n_bytes)) + 1e-6)))
        margins = {q: f.mean_psnr.value - f.mean_psnr.low for q, f in tried.items()}
        points = {
            q: f.mean_psnr.value - (margins[q] if self.strict and math.isfinite(margins[q]) else 0.0) for q, f in tried.items()
        }
        return max(LOW, min(HIGH, math.ceil(_crossing(points, self.psnr or 0.0) - 1e-6)))


def _crossing(points: Mapping[int, float], level: float) -> float:
    """Where values that rise with the quality cross a level, on lines between and beyond the points."""
    qualities = sorted(points)
    if len(qualities) == 1:
        return qualities[0] + (level - points[qualities[0]]) * 5
    pairs = list(zip(qualities, qualities[1:], strict=False))
    q0, q1 = next(((a, b) for a, b in pairs if points[b] >= level), pairs[-1])
    slope = max((points[q1] - points[q0]) / (q1 - q0), 1e-3)
    return q0 + (level - points[q0]) / slope
