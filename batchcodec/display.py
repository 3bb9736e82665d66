"""Pixels of any kind as 8-bit pictures to look at, on a page or in a terminal.

16-bit samples seldom use their whole range, so they are stretched: the 0.1th percentile of the colour samples of an image
becomes black, the 99.9th white. That is the image's *window*. Alpha is never stretched. Nothing here is for measuring.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from batchcodec.types import Pixels

PERCENTILES = 0.1, 99.9
_SAMPLED = 1 << 18
"""About so many samples decide on a window."""


@dataclass(frozen=True, slots=True)
class Window:
    """The samples that are shown as black and as white, in steps of the image's own type."""

    low: int
    high: int

    @property
    def scale(self) -> float:
        """What a step is multiplied by to get steps of 8 bits."""
        return 255 / max(1, self.high - self.low)


def window_of(pixels: Pixels) -> Window:
    """The window of an image, uint8 or uint16 [H, W, C]: of 8 bits always the whole range."""
    if pixels.dtype == np.uint8:
        return Window(0, 255)
    colour = pixels[:, :, : _n_colours(pixels)]
    step = max(1, int((colour.size / _SAMPLED) ** 0.5))
    low, high = np.percentile(colour[::step, ::step], PERCENTILES)
    if low == high:  # one value: as bright as it is
        return Window(0, 65535)
    return Window(int(low), int(np.ceil(high)))


def _n_colours(pixels: Pixels) -> int:
    return (1, 1, 3, 3)[pixels.shape[2] - 1]


def shown(pixels: Pixels, window: Window | None = None) -> Pixels:
    """An image as 8 bits: uint8 or uint16 [H, W, C] to uint8 [H, W, C].

    Args:
        pixels: the image.
        window: which samples become black and white; its own by default.
    """
    if pixels.dtype == np.uint8:
        return pixels
    window = window or window_of(pixels)
    n = _n_colours(pixels)
    colour = (pixels[:, :, :n].astype(np.float32) - window.low) * window.scale
    alpha = pixels[:, :, n:].astype(np.float32) / 257
    made: Pixels = np.rint(np.concatenate((colour, alpha), axis=2).clip(0, 255)).astype(np.uint8)
    return made


def fitted(pixels: Pixels, width: int, height: int) -> Pixels:
    """An image made smaller until it fits, as it is if it does: uint8 [H, W, C] both."""
    from PIL import Image

    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    if scale >= 1:
        return pixels
    size = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    made = Image.fromarray(np.ascontiguousarray(flat)).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(made).reshape(size[1], size[0], pixels.shape[2])


def difference(original: Pixels, decoded: Pixels, window: Window, gain: int) -> Pixels:
    """How far two images of one shape are apart, amplified: uint8 [H, W, 1 or 3], black where they are equal.

    Args:
        original: uint8 or uint16 [H, W, C].
        decoded: the same shape and type.
        window: of the original: an error counts as it would be seen.
        gain: what it is multiplied by.
    """
    n = _n_colours(original)
    error = np.abs(original.astype(np.int32) - decoded) * (window.scale * gain)
    if n < original.shape[2]:
        # A wrong alpha is seen in all colours. It has not been stretched, so its step is that of the whole range.
        alpha = error[:, :, n:] * (255 / np.iinfo(original.dtype).max / window.scale)
        error = np.maximum(error[:, :, :n], alpha)
    made: Pixels = np.rint(error.clip(0, 255)).astype(np.uint8)
    return made


def png(pixels: Pixels) -> bytes:
    """uint8 [H, W, C] as a PNG file, made fast rather than small."""
    from PIL import Image

    buffer = io.BytesIO()
    flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    Image.fromarray(np.ascontiguousarray(flat)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
