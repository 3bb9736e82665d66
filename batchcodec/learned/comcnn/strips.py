"""Large images go through a network in strips of rows: memory stays bounded, and what comes out is the same.

A convolution sees a few rows around each. A strip is read with that many more on both sides, whose results are thrown away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from batchcodec.types import Pixels

STRIP_PIXELS = 1 << 20
"""Of the input, in a strip without its margins, about."""
ALIGNED = 16
"""Strips begin at multiples of it, so that strides and folded squares stay where they are."""


@dataclass(frozen=True)
class Strip:
    """Rows of the input to read, of what comes out those to keep, and where these belong in the whole output."""

    read: slice
    kept: slice
    rows: slice


def strips(images: Pixels, scale: float, reach: int = 16) -> Iterator[Strip]:
    """The strips of images [N, H, W, C].

    Args:
        images: the input.
        scale: rows of the output for one of the input, a power of two.
        reach: rows of the input that a row of the output depends on, on each side, at most.
    """
    height, width = images.shape[1:3]
    margin = -(-reach // ALIGNED) * ALIGNED
    step = max(1, STRIP_PIXELS // (width * ALIGNED)) * ALIGNED
    for first in range(0, height, step):
        last = min(height, first + step)
        start, stop = max(0, first - margin), min(height, last + margin)
        kept = slice(round((first - start) * scale), round((last - start) * scale))
        yield Strip(slice(start, stop), kept, slice(round(first * scale), round(last * scale)))
