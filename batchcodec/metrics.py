"""How far decoded images are from their originals.

All functions take batches of equal shape, uint8 or uint16 [N, H, W, C], and give one float64 for each image. The peak is 255
for uint8 and 65,535 for uint16. PSNR is in dB; images without any error have no finite PSNR: they count as `LOSSLESS_PSNR`
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

_SIGMA, _WINDOW = 1.5, 11
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


def ssim(original: Pixels, decoded: Pixels) -> Floats:
    """Structural similarity of each image: [N], 1 for equal images.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity": Gaussian window of 11 by 11
    with sigma 1.5, K1 = 0.01, K2 = 0.03, over the positions where the whole window fits, averaged over channels. Images with a
    side under 11 get the largest odd window that fits.
    """
    return np.concatenate([_ssim(original[part], decoded[part]) for part in _parts(original.shape)])


def _ssim(original: Pixels, decoded: Pixels) -> Floats:
    peak = _peak(original)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    x, y = original.astype(np.float64), decoded.astype(np.float64)
    side = min(_WINDOW, *(s - 1 + s % 2 for s in x.shape[1:3]))
    offsets = np.arange(side) - side // 2
    window = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    window /= window.sum()
    mean_x, mean_y = _blurred(x, window), _blurred(y, window)
    var_x = _blurred(x * x, window) - mean_x**2
    var_y = _blurred(y * y, window) - mean_y**2
    covariance = _blurred(x * y, window) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    result: Floats = similarity.mean(axis=(1, 2, 3))
    return result


def _blurred(x: Floats, window: Floats) -> Floats:
    """Weighted means over the window at all positions where it fits: [N, H - k + 1, W - k + 1, C]."""
    k = len(window)
    height, width = x.shape[1] - k + 1, x.shape[2] - k + 1
    rows: Floats = np.sum([w * x[:, i : i + height] for i, w in enumerate(window)], axis=0)
    blurred: Floats = np.sum([w * rows[:, :, i : i + width] for i, w in enumerate(window)], axis=0)
    return blurred


def _parts(shape: tuple[int, ...]) -> Iterator[slice]:
    """Slices of the first axis of about 260,000 samples each, so that float64 copies stay small."""
    step = max(1, _CHUNK_SAMPLES // max(1, int(np.prod(shape[1:]))))
    return (slice(start, start + step) for start in range(0, shape[0], step))
