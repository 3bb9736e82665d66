"""Points of rate and distortion, and what is computed from them: curves, bytes at a quality, BD-rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np

from batchcodec.errors import MissingDependencyError


@dataclass(frozen=True)
class Point:
    """One archive. Seconds are of all items together, bytes of one item on average and without weights.

    Attributes:
        codec: what the curve is called that the point is on.
        setting: what is called the point on it.
        n_items: images in the archive.
        bytes_per_item: of the whole archive but the weights: payload, directory, index and framing.
        weight_bytes: decoder weights, in an archive once.
        bits_per_pixel: without weights.
        mean_psnr: mean over images, dB.
        pooled_psnr: of all errors together, dB.
        encode_seconds: in the codec.
        decode_seconds: reading all items from the closed archive.
        mean_ssim: mean over images; None where it was not measured.
        mean_ms_ssim: the same for MS-SSIM.
    """

    codec: str
    setting: str
    n_items: int
    bytes_per_item: float
    weight_bytes: int
    bits_per_pixel: float
    mean_psnr: float
    pooled_psnr: float
    encode_seconds: float
    decode_seconds: float
    mean_ssim: float | None = None
    mean_ms_ssim: float | None = None


def with_weights(point: Point, n_items: int) -> Point:
    """The point of an archive of `n_items` such images, whose weights are counted in `bytes_per_item`."""
    factor = 1 + point.weight_bytes / n_items / point.bytes_per_item
    return replace(
        point, bytes_per_item=point.bytes_per_item * factor, bits_per_pixel=point.bits_per_pixel * factor, weight_bytes=0
    )


def curve(points: Sequence[Point], *, pooled: bool = False) -> tuple[list[float], list[float]]:
    """PSNR in dB and bytes per item of the points that raise both, in rising order."""
    rows = sorted((p.pooled_psnr if pooled else p.mean_psnr, p.bytes_per_item) for p in points)
    kept: list[tuple[float, float]] = []
    for row in rows:
        while kept and kept[-1][1] >= row[1]:  # fewer bytes at a higher PSNR: that point is never used
            kept.pop()
        if not kept or row[0] > kept[-1][0]:
            kept.append(row)
    return [row[0] for row in kept], [row[1] for row in kept]


def bytes_at(points: Sequence[Point], psnr: float, *, pooled: bool = False) -> float | None:
    """Bytes per item at a PSNR, piecewise linear in (dB, log bytes); None outside of what was measured."""
    decibels, n_bytes = curve(points, pooled=pooled)
    if not decibels or not decibels[0] <= psnr <= decibels[-1]:
        return None
    return float(np.exp(np.interp(psnr, decibels, np.log(n_bytes))))


def around(points: Sequence[Point], psnr: float) -> tuple[Point | None, Point | None]:
    """The packed points below and above a mean PSNR that are next to it."""
    below = max((p for p in points if p.mean_psnr <= psnr), key=lambda p: p.mean_psnr, default=None)
    return below, min((p for p in points if p.mean_psnr > psnr), key=lambda p: p.mean_psnr, default=None)


def bd_rate(anchor: Sequence[Point], test: Sequence[Point], *, pooled: bool = False) -> float | None:
    """Bytes that `test` needs beside `anchor` at equal PSNR in %, over the PSNR that both have; None where there is none.

    Raises:
        MissingDependencyError: the package that computes it is not installed.
    """
    return bd_rate_of(*curve(anchor, pooled=pooled), *curve(test, pooled=pooled))


def bd_rate_of(psnr: list[float], rate: list[float], test_psnr: list[float], test_rate: list[float]) -> float | None:
    """`bd_rate` of curves in rising order: PCHIP on the logarithm of the rate (VCEG-M33, as JVET computes it)."""
    check_bd_rate()
    import bjontegaard

    if min(len(psnr), len(test_psnr)) < 2 or max(psnr[0], test_psnr[0]) >= min(psnr[-1], test_psnr[-1]):
        return None
    found = bjontegaard.bd_rate(rate, psnr, test_rate, test_psnr, method="pchip", require_matching_points=False, min_overlap=0)
    return float(found)


def check_bd_rate() -> None:
    """Raise `MissingDependencyError` if BD-rates cannot be computed."""
    if find_spec("bjontegaard") is None:
        raise MissingDependencyError("a BD-rate", "bjontegaard", "compare")
