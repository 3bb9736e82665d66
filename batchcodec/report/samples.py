"""Items to look at: original, reconstruction and difference, as pictures that a page can hold.

A picture shows each pixel as it is. Of a large image it shows the square of side `side` in which the squared error is largest;
without an original, its middle.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batchcodec.archive.reader import Archive
from batchcodec.opening import open_archive
from batchcodec.registry import Registry, registry
from batchcodec.report.measured import ItemQuality, ItemTable
from batchcodec.report.originals import Originals
from batchcodec.types import Item, Pixels

MAX_GAIN = 64
"""A difference is shown at most so many times as large as it is."""
KINDS = ("worst", "median", "best")


@dataclass(frozen=True)
class Sample:
    """One item to look at.

    Attributes:
        kind: one of `KINDS`, or "some" without originals.
        name: of the item; untrusted.
        label: of the item; untrusted.
        quality: what was measured; None without an original.
        width: of the pictures, in pixels.
        height: of the pictures.
        full: width and height of the image.
        place: (x, y) of the pictures' corner in it.
        decoded: picture as a `data:` address.
        original: the same; None without one.
        difference: the same, of absolute differences times `gain`.
        gain: power of two.
        window: (lowest, highest) sample that is shown from black to white, for 16 bits; None for 8.
    """

    kind: str
    name: str
    label: str | None
    quality: ItemQuality | None
    width: int
    height: int
    full: tuple[int, int]
    place: tuple[int, int]
    decoded: str
    original: str | None
    difference: str | None
    gain: int
    window: tuple[int, int] | None

    @property
    def n_bytes(self) -> int:
        """Of its pictures, as they stand in a page."""
        return sum(len(picture or "") for picture in (self.decoded, self.original, self.difference))


def measured_samples(
    path: Path | str,
    against: Path | str,
    items: ItemTable,
    *,
    n_each: int = 4,
    side: int = 160,
    format_id: str | None = None,
    plugins: Registry | None = None,
) -> list[Sample]:
    """The items of lowest, of median and of highest PSNR, `n_each` of each kind, none twice.

    Raises:
        ArchiveError, CodecError, InputError: as `report`.
    """
    rows = items.worst_first()
    middle = max(0, (len(rows) - n_each) // 2)
    chosen: dict[int, str] = {}
    for kind, part in zip(KINDS, (rows[:n_each], rows[middle : middle + n_each], rows[::-1][:n_each]), strict=True):
        for row in part.tolist():
            chosen.setdefault(row, kind)
    with open_archive(path) as archive:
        originals = Originals(archive, Path(against), format_id, plugins or registry())
        found = []
        for row, item in zip(chosen, archive.take([int(items.indices[row]) for row in chosen]), strict=True):
            original = originals.find(int(items.indices[row]), item.name)
            if original is not None and original.pixels.shape == item.pixels.shape:
                found.append(_sample(chosen[row], item, items[row], original.pixels, side))
        return found


def decoded_samples(path: Path | str, *, n: int = 12, side: int = 160) -> list[Sample]:
    """Items at equal distances through the dataset, as they are decoded.

    Raises:
        ArchiveError, CodecError: they cannot be decoded.
    """
    with open_archive(path) as archive:
        return [_sample("some", item, None, None, side) for item in archive.take(_spread(archive, n))]


def _spread(archive: Archive, n: int) -> list[int]:
    places = np.linspace(0, len(archive) - 1, min(n, len(archive))).round().astype(int)
    return [int(place) for place in np.unique(places)]


def _sample(kind: str, item: Item, quality: ItemQuality | None, original: Pixels | None, side: int) -> Sample:
    decoded = item.pixels
    height, width = decoded.shape[:2]
    tall, wide = min(height, side), min(width, side)
    if original is None:
        top, left = (height - tall) // 2, (width - wide) // 2
    else:
        top, left = worst_place(original, decoded, tall, wide)
    part = np.s_[top : top + tall, left : left + wide]
    window = None
    to_8_bits: Callable[[Pixels], Pixels] = lambda pixels: pixels  # noqa: E731
    if decoded.dtype == np.uint16:
        shown = decoded[part] if original is None else original[part]
        window = int(shown.min()), int(shown.max())
        to_8_bits = _windowed(*window)
    gain, difference = 1, None
    if original is not None:
        gain, difference = _difference(to_8_bits(original[part]), to_8_bits(decoded[part]))
    return Sample(
        kind=kind,
        name=item.name,
        label=item.label,
        quality=quality,
        width=wide,
        height=tall,
        full=(width, height),
        place=(left, top),
        decoded=data_address(to_8_bits(decoded[part])),
        original=None if original is None else data_address(to_8_bits(original[part])),
        difference=None if difference is None else data_address(difference),
        gain=gain,
        window=window,
    )


def worst_place(original: Pixels, decoded: Pixels, tall: int, wide: int) -> tuple[int, int]:
    """(top, left) of the window `tall` by `wide` with the largest squared error, by a table of sums."""
    height, width = original.shape[:2]
    if (tall, wide) == (height, width):
        return 0, 0
    error = np.square(original.astype(np.float64) - decoded).sum(axis=2)
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = error.cumsum(axis=0).cumsum(axis=1)
    inside = sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide] + sums[:-tall, :-wide]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(top), int(left)


def _windowed(low: int, high: int) -> Callable[[Pixels], Pixels]:
    """16 bits to 8, so that `low` is black and `high` white."""
    scale = 255 / max(1, high - low)

    def shown(pixels: Pixels) -> Pixels:
        values: npt.NDArray[np.float64] = (pixels.astype(np.float64) - low) * scale
        return np.clip(values.round(), 0, 255).astype(np.uint8)

    return shown


def _difference(original: Pixels, decoded: Pixels) -> tuple[int, Pixels]:
    """The largest gain that clips at most a thousandth of the samples, and the difference with it, uint8 gray or RGB.

    Of images with alpha, the largest difference of all channels is shown in gray.
    """
    difference = np.abs(original.astype(np.int16) - decoded)
    if difference.shape[2] in (2, 4):
        difference = difference.max(axis=2, keepdims=True)
    high = float(np.quantile(difference, 0.999))
    gain = 1
    while gain < MAX_GAIN and 2 * gain * high <= 255:
        gain *= 2
    return gain, np.minimum(difference * gain, 255).astype(np.uint8)


def data_address(pixels: Pixels) -> str:
    """uint8 [H, W, C] as a PNG in a `data:` address."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def within(samples: Sequence[Sample], n_bytes: int) -> list[Sample]:
    """Of the samples those that have room, kinds by turns, in the order that they were in."""
    kept, held = set(), 0
    ranks = {kind: iter(range(len(samples))) for kind in (*KINDS, "some")}
    turns = sorted(range(len(samples)), key=[next(ranks[s.kind]) for s in samples].__getitem__)
    for i in turns:
        if held + samples[i].n_bytes <= n_bytes:
            kept.add(i)
            held += samples[i].n_bytes
    return [sample for i, sample in enumerate(samples) if i in kept]
