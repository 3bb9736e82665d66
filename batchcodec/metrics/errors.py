"""MSE, PSNR and the largest error.

PSNR is in dB; images without any error have no finite PSNR: they count as `LOSSLESS_PSNR`
in means, so that one perfect image does not make a mean infinite.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from batchcodec.types import Pixels

Floats = npt.NDArray[np.float64]

LOSSLESS_PSNR = 100.0
"""dB that an image without error counts in a mean."""

_CHUNK_SAMPLES = 1 << 18


def _peak(pixels: Pixels) -> float:
    return float(np.iinfo(pixels.dtype).max)


def mse(original: Pixels, decoded: Pixels) -> Floats:
    """Mean squared error of each image, in squared steps of its own dtype: [N]."""
    errors = [
        np.square(original[part].astype(np.float64) - decoded[part]).mean(axis=(1, 2, 3)) for part in _parts(original.shape)
    ]
    return np.concatenate(errors)


def psnr(original: Pixels, decoded: Pixels) -> Floats:
    """Peak signal-to-noise ratio of each image in dB, inf where there is no error: [N]."""
    return psnr_of_mse(mse(original, decoded), _peak(original))


def psnr_of_mse(error: Floats, peak: float) -> Floats:
    """10 log10(peak^2 / MSE)."""
    with np.errstate(divide="ignore"):
        ratio: Floats = 10 * np.log10(peak**2 / error)
    return ratio


def mean_psnr(values: Floats) -> float:
    """Mean of PSNRs in dB with at most `LOSSLESS_PSNR` for each."""
    return float(np.minimum(values, LOSSLESS_PSNR).mean())


def max_error(original: Pixels, decoded: Pixels) -> npt.NDArray[np.int64]:
    """Largest absolute difference of a sample in each image: [N]."""
    errors = [np.abs(original[part].astype(np.int64) - decoded[part]).max(axis=(1, 2, 3)) for part in _parts(original.shape)]
    return np.concatenate(errors)


def _parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first axis of about 260,000 samples each, so that float64 copies stay small."""
    step = max(1, _CHUNK_SAMPLES // max(1, int(np.prod(shape[1:]))))
    return (slice(start, start + step) for start in range(0, shape[0], step))
