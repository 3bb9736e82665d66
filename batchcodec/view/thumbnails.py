"""Small pictures of items. Those of one group are decoded together; a damaged group costs its own pictures and no others."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from batchcodec import display
from batchcodec.archive.reader import Archive
from batchcodec.errors import BatchcodecError
from batchcodec.parallel import cores
from batchcodec.types import Pixels

CACHE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture of an item, or why there is none.

    Attributes:
        png: a PNG file; empty where the item cannot be decoded.
        error: the reason then, else empty.
    """

    png: bytes
    error: str = ""


class Thumbnails:
    """Small pictures of the items of an open archive. Those that were made last are kept. For several threads.

    Args:
        archive: it stays open while this is used.
        cache_bytes: of pictures to keep.
    """

    def __init__(self, archive: Archive, cache_bytes: int = CACHE_BYTES) -> None:
        self._archive, self._limit = archive, cache_bytes
        self._kept: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._n_bytes = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(cores(), "batchcodec-view")  # of all requests: memory holds a few groups at once

    def close(self) -> None:
        """What has not begun will not be done."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def of(self, indices: Sequence[int], side: int) -> list[Thumbnail]:
        """Pictures of at most `side` x `side` pixels; images that are smaller are as they are.

        Args:
            indices: places of items in the dataset, all within it.
            side: in pixels.
        """
        made: dict[int, Thumbnail] = {}
        groups: defaultdict[int, list[int]] = defaultdict(list)
        missing = []
        with self._lock:
            for index in dict.fromkeys(indices):
                if (index, side) in self._kept:
                    self._kept.move_to_end((index, side))
                    made[index] = Thumbnail(self._kept[index, side])
                else:
                    missing.append(index)
        for index, group in zip(missing, self._archive.groups_of(missing).tolist(), strict=True):
            groups[group].append(index)
        for part in self._pool.map(lambda wanted: self._drawn(wanted, side), groups.values()):
            made |= part
        return [made[index] for index in indices]

    def _drawn(self, indices: list[int], side: int) -> dict[int, Thumbnail]:
        """Pictures of items of one group."""
        try:
            images = self._archive.read_each(indices)
        except BatchcodecError as exc:
            return {index: Thumbnail(b"", str(exc)) for index in indices}
        drawn = {}
        for index, pixels in zip(indices, images, strict=True):
            png = _small(pixels, side)
            self._keep((index, side), png)
            drawn[index] = Thumbnail(png)
        return drawn

    def _keep(self, key: tuple[int, int], png: bytes) -> None:
        with self._lock:
            self._n_bytes += len(png) - len(self._kept.pop(key, b""))
            self._kept[key] = png
            while self._n_bytes > self._limit and len(self._kept) > 1:
                self._n_bytes -= len(self._kept.popitem(last=False)[1])


def _small(pixels: Pixels, side: int) -> bytes:
    """An image as a PNG file of at most `side` x `side` pixels."""
    window = display.window_of(pixels)
    if pixels.dtype != np.uint8:  # made 8 bits before it is made small, so not all of a large one
        step = max(1, max(pixels.shape[:2]) // (4 * side))
        pixels = pixels[::step, ::step]
    return display.png(display.fitted(display.shown(pixels, window), side, side))
