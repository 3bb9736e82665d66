"""SSIM and MS-SSIM, and all measures of a batch at once. The loops are in `_kernels`, compiled; they run without the GIL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batchcodec.metrics.errors import psnr_of_mse
from batchcodec.types import Pixels

Floats = npt.NDArray[np.float64]

_SIGMA, WINDOW = 1.5, 11
K1, K2 = 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, the finest first (Wang et al. 2003, section 3.2)."""


@dataclass(frozen=True)
class Measures:
    """What `measure` finds, for each image: [N] each.

    Attributes:
        mse: mean squared error in squared steps of the samples' type.
        psnr: in dB, inf without any error.
        max_error: largest absolute difference of a sample, in steps.
        ssim: structural similarity, 1 for equal images.
        ms_ssim: the same at several scales.
    """

    mse: Floats
    psnr: Floats
    max_error: npt.NDArray[np.int64]
    ssim: Floats
    ms_ssim: Floats


def ssim(original: Pixels, decoded: Pixels) -> Floats:
    """Structural similarity of each image: [N], 1 for equal images.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity": Gaussian window of 11 by 11
    with sigma 1.5, K1 = 0.01, K2 = 0.03, over the positions where the whole window fits, averaged over channels. Images with a
    side under 11 get the largest odd window that fits.
    """
    return _ssim(_similarity(original, decoded, 1))


def ms_ssim(original: Pixels, decoded: Pixels) -> Floats:
    """Structural similarity at several scales of each image: [N], 1 for equal images, from 0.

    Wang, Simoncelli and Bovik 2003, "Multi-scale structural similarity for image quality assessment": the product of the mean
    contrast-structure terms of all scales but the coarsest and the mean SSIM of that one, each to the power of its weight. Each
    scale has half the size of the one before, by means of 2 by 2 samples; beyond an odd edge its samples are repeated, as in
    the authors' code. Window and constants are those of `ssim`. Terms below 0 count 0, and channels are averaged.

    Five scales take sides of at least 161. Smaller images get as many as their smaller side allows (`n_scales`), and the
    weights of these are divided by their sum. With one scale, at sides under 21, MS-SSIM is SSIM. So compare values of images
    of one size only.
    """
    return _ms_ssim(_similarity(original, decoded, n_scales(*original.shape[1:3])))


def n_scales(height: int, width: int) -> int:
    """Scales of MS-SSIM, 1 to 5: the window of 11 still fits the coarsest one."""
    side, n = min(height, width), 1
    while n < len(SCALE_WEIGHTS) and (side := (side + 1) // 2) >= WINDOW:
        n += 1
    return n


def window(side: int) -> Floats:
    """The Gaussian window along one side, an odd number of samples; its sum is 1."""
    weights: Floats = np.exp(-((np.arange(side) - side // 2) ** 2) / (2 * _SIGMA**2))
    weights /= weights.sum()
    return weights


def measure(original: Pixels, decoded: Pixels) -> Measures:
    """All measures of each image, the same as each function gives; errors are summed as integers."""
    from batchcodec.metrics import _kernels

    original, decoded = _as_batches(original, decoded)
    squares, largest = np.empty(len(original), np.int64), np.empty(len(original), np.int64)
    _kernels.errors(original, decoded, squares, largest)
    mse = squares / max(1, int(np.prod(original.shape[1:])))
    terms = _similarity(original, decoded, n_scales(*original.shape[1:3]))
    psnr = psnr_of_mse(mse, float(np.iinfo(original.dtype).max))
    return Measures(mse, psnr, largest, _ssim(terms), _ms_ssim(terms))


def _similarity(original: Pixels, decoded: Pixels, scales: int) -> Floats:
    """Mean SSIM and mean contrast-structure term: [N, C, scales, 2]."""
    from batchcodec.metrics import _kernels

    original, decoded = _as_batches(original, decoded)
    n, height, width, channels = original.shape
    side = min(WINDOW, *(s - 1 + s % 2 for s in (height, width)))
    peak = float(np.iinfo(original.dtype).max)
    terms = np.empty((n, channels, scales, 2))
    _kernels.similarity(original, decoded, window(side), (K1 * peak) ** 2, (K2 * peak) ** 2, scales, terms)
    return terms


def _ssim(terms: Floats) -> Floats:
    result: Floats = terms[:, :, 0, 0].mean(axis=1)
    return result


def _ms_ssim(terms: Floats) -> Floats:
    scales = terms.shape[2]
    weights = np.array(SCALE_WEIGHTS[:scales])
    if scales < len(SCALE_WEIGHTS):  # all five are taken as published, though their sum is 1.0001
        weights /= weights.sum()
    used = np.concatenate([terms[:, :, :-1, 1], terms[:, :, -1:, 0]], axis=2)  # [N, C, scales]
    result: Floats = np.prod(np.maximum(used, 0) ** weights, axis=2).mean(axis=1)
    return result


def _as_batches(original: Pixels, decoded: Pixels) -> tuple[Any, Any]:
    if original.shape != decoded.shape or original.dtype != decoded.dtype:
        raise ValueError(f"{original.shape} {original.dtype} and {decoded.shape} {decoded.dtype} are not of one kind")
    return np.ascontiguousarray(original), np.ascontiguousarray(decoded)
