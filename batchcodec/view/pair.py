"""An item at its full size, with its original beside it where there is one, as pictures and as figures."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from batchcodec import display, metrics
from batchcodec.archive.reader import Archive
from batchcodec.display import Window
from batchcodec.report.originals import Originals
from batchcodec.types import Pixels

MAX_SIDE = 4096
"""Pixels of a side that are shown; larger images are made smaller. Browsers give up on pictures that are too large."""
_KEPT = 2


@dataclass(frozen=True)
class Quality:
    """An item beside its original.

    Attributes:
        psnr: in dB; None where they are equal.
        max_error: largest difference of a sample, in steps.
    """

    equal: bool
    psnr: float | None
    max_error: int


@dataclass(frozen=True)
class Pair:
    """An item and its original, uint8 or uint16 [H, W, C] both.

    Attributes:
        original: None where there is none of this size.
        window: which samples are shown as black and white, in both: that of `decoded`.
        reason: why there is no original; empty without a dataset to compare with.
    """

    decoded: Pixels
    original: Pixels | None
    window: Window
    reason: str = ""

    def quality(self) -> Quality | None:
        """Figures, where there is an original."""
        if self.original is None:
            return None
        psnr = float(metrics.psnr(self.original[None], self.decoded[None])[0])
        worst = int(metrics.max_error(self.original[None], self.decoded[None])[0])
        return Quality(worst == 0, psnr if np.isfinite(psnr) else None, worst)

    def original_png(self) -> bytes | None:
        """The original as a PNG file, where there is one."""
        return None if self.original is None else full_png(display.shown(self.original, self.window))

    def difference_png(self, gain: int) -> bytes | None:
        """The difference, so many times amplified, as a PNG file, where there is an original."""
        if self.original is None:
            return None
        return full_png(display.difference(self.original, self.decoded, self.window, gain))


def full_png(pixels: Pixels) -> bytes:
    """uint8 [H, W, C] as a PNG file, of at most `MAX_SIDE` pixels a side."""
    return display.png(display.fitted(pixels, MAX_SIDE, MAX_SIDE))


class Pairs:
    """The pairs of an open archive. The last two are kept: a page asks for figures and pictures of one after the other.

    Args:
        archive: it stays open while this is used.
        originals: the dataset that was packed, if there is one to compare with.
    """

    def __init__(self, archive: Archive, originals: Originals | None) -> None:
        self._archive, self._originals = archive, originals
        self._lock = threading.Lock()  # a dataset is read by one thread
        self._kept: OrderedDict[int, Pair] = OrderedDict()

    def decoded(self, index: int) -> Pixels:
        """An item alone, which does not wait for the original: uint8 or uint16 [H, W, C]. Raises as `Archive.read`."""
        return self._archive.read_each([index])[0]

    def __getitem__(self, index: int) -> Pair:
        """The pair of an item. Raises what decoding the item or reading the dataset raises."""
        with self._lock:
            pair = self._kept.pop(index, None) or self._read(index)
            self._kept[index] = pair
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
            return pair

    def _read(self, index: int) -> Pair:
        decoded = self.decoded(index)
        window = display.window_of(decoded)
        if self._originals is None:
            return Pair(decoded, None, window)
        item = self._originals.find(index, self._archive.row(index).name)
        if item is None:
            return Pair(decoded, None, window, "the dataset has no such item, or it cannot be read")
        if item.pixels.shape != decoded.shape or item.pixels.dtype != decoded.dtype:
            return Pair(decoded, None, window, "the image in the dataset has another size or type")
        return Pair(decoded, item.pixels, window)
