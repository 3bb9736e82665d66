"""A group to what is written of it. Each payload is decoded again: its digest goes into the archive, its error into the report.

What was written is known to decode, and a codec that is lossless has proved it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xxhash

from batchcodec import metrics
from batchcodec.archive import digest
from batchcodec.archive.directory import Row
from batchcodec.archive.reader import NOTES
from batchcodec.archive.wire import GroupHead, parse_group
from batchcodec.codec import Codec
from batchcodec.errors import BatchcodecError, CodecError, UnfinishedError
from batchcodec.packing.grouping import Group
from batchcodec.partial import ANEW, GroupDone, Partial
from batchcodec.types import JSON, GroupSpec, Pixels

_SMALL_BYTES = 1 << 16
_NOTHING: Mapping[str, JSON] = {}


@dataclass(frozen=True)
class Coded:
    """One coded group, ready to be written.

    Attributes:
        items_check: XXH3-64 of what was packed: pixels, names, labels, attributes, places in the dataset.
        squared_error: of all its samples together, as a part of the peak's square.
        psnr_sum: of its images, dB.
        encode_seconds: in the codec.
        check_seconds: in decoding again and measuring.
    """

    codec: Codec
    head: GroupHead
    payload: bytes
    rows: list[Row]
    items_check: int
    squared_error: float
    psnr_sum: float
    encode_seconds: float = 0.0
    check_seconds: float = 0.0


def code(group: Group) -> Coded:
    """Encode a group, decode it again, and measure. Its items are taken out of it.

    Raises:
        CodecError: the codec fails, or does not hold what it promises.
    """
    codec, rows, images = group.codec, rows_of(group), taken_pixels(group)
    spec = GroupSpec.of(images)
    started = time.perf_counter()
    try:
        payload = codec.encode(images)
        encoded = time.perf_counter()
        decoded = codec.decode(payload, spec)
    except (BatchcodecError, MemoryError):
        raise
    except Exception as exc:  # a plugin's codec may let anything escape
        raise CodecError(f"codec {codec.codec_id} failed on {spec.image}: {type(exc).__name__}: {exc}") from exc
    if codec.lossless:
        if not np.array_equal(decoded, images):
            raise CodecError(f"codec {codec.codec_id} says that it is lossless and gave other pixels back: {spec.image}")
        squared_error, psnr_sum = 0.0, metrics.LOSSLESS_PSNR * spec.n_items
    else:
        error, peak = metrics.mse(images, decoded), float(np.iinfo(images.dtype).max)
        squared_error = float(error.sum()) / peak**2 * spec.image.height * spec.image.width * spec.image.channels
        psnr_sum = float(np.minimum(metrics.psnr_of_mse(error, peak), metrics.LOSSLESS_PSNR).sum())
    return Coded(
        codec=codec,
        head=GroupHead(0, spec, digest.digest(decoded), () if codec.exact else digest.sketch(decoded)),
        payload=payload,
        rows=rows,
        items_check=items_check(images, rows),
        squared_error=squared_error,
        psnr_sum=psnr_sum,
        encode_seconds=encoded - started,
        check_seconds=time.perf_counter() - encoded,
    )


def recall(group: Group, partial: Partial, number: int) -> Coded:
    """A group that an interrupted run has coded.

    Raises:
        UnfinishedError: it was of other images.
    """
    done: GroupDone = partial.done[number]
    rows = rows_of(group)
    if items_check(taken_pixels(group), rows) != done.items_check:
        what = f"{rows[0].name!r} to {rows[-1].name!r}" if len(rows) > 1 else repr(rows[0].name)
        raise UnfinishedError(partial.path, f"its group {number} was packed from other images than {what} are now; {ANEW}")
    body, n_items = partial.stored_group(number)
    head = parse_group(body, n_items)
    return Coded(group.codec, head, body[head.n_bytes :], rows, done.items_check, done.squared_error, done.psnr_sum)


def taken_pixels(group: Group) -> Pixels:
    """The pixels of a group as one array [N, H, W, C]. The items are dropped: no image is held twice while it is coded."""
    pixels = [item.pixels for item in group.items]
    group.items = []
    if group.spec.n_bytes <= _SMALL_BYTES and all(image.flags.c_contiguous for image in pixels):
        # NumPy would let other threads run for every image, and then wait for its turn: that costs more than the copies.
        return np.frombuffer(b"".join(image.data for image in pixels), pixels[0].dtype).reshape(len(pixels), *group.spec.shape)
    return np.stack(pixels)


def rows_of(group: Group) -> list[Row]:
    """What the directory says of the items."""
    rows = []
    for order, item in zip(group.orders, group.items, strict=True):
        attributes = item.attributes or _NOTHING
        if item.notes:
            attributes = {**attributes, NOTES: list(item.notes)}
        rows.append(Row(order, item.name, item.label, attributes))
    return rows


def items_check(images: Pixels, rows: list[Row]) -> int:
    """XXH3-64 of all that a group is made of."""
    state = xxhash.xxh3_64(np.ascontiguousarray(images).reshape(-1).view(np.uint8).data)
    columns = (
        [row.order for row in rows],
        [row.name for row in rows],
        [row.label for row in rows],
        {place: dict(row.attributes) for place, row in enumerate(rows) if row.attributes},
    )
    state.update(repr((images.shape, str(images.dtype), columns)).encode())
    return state.intdigest()
