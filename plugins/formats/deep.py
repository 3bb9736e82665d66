"""Samples of more than 8 bits that Pillow would turn into 8 bits without saying so.

Pillow has no 16-bit colour: it opens a 16-bit RGB PNG, TIFF, PPM or JPEG 2000 file as 8-bit RGB. `deep_samples` finds these
by their headers and reads them truly, with imagecodecs (PNG, JPEG 2000), tifffile (TIFF) or here (PPM). The values are those
of the file: 12 bits stay 0..4095.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from batchcodec.errors import MissingDependencyError
from batchcodec.types import CHANNEL_NAMES

from .quiet import quiet_log

if TYPE_CHECKING:
    from PIL import Image

TIFF_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

Samples = np.ndarray[Any, np.dtype[np.uint16]]


class Unreadable(Exception):  # noqa: N818  (it is no failure by itself: it carries the reason of the `ItemError` to come)
    """Why an image cannot be used, before its name is known."""


def deep_samples(stream: BinaryIO, image: Image.Image, frame: int) -> tuple[Samples, tuple[str, ...]] | None:
    """The true samples of a frame, and notes; None if what Pillow reads is exact.

    The samples are uint16 [H, W, C]; the EXIF orientation is not applied.

    Args:
        stream: the file, seekable.
        image: what Pillow opened from it, at the frame, not loaded.
        frame: its number.

    Raises:
        Unreadable: the samples cannot be read exactly.
    """
    if image.format == "TIFF":
        return _tiff(stream, image, frame)
    reader = {"PNG": _png, "PPM": _ppm, "JPEG2000": _jpeg2k, "AVIF": _avif}.get(image.format or "")
    samples = reader(stream, image, frame) if reader else None
    return None if samples is None else (samples, ())


def read_tiff_page(stream: BinaryIO, frame: int) -> tuple[Any, int, int, tuple[str, ...]]:
    """Read one page with tifffile.

    Returns:
        uint8 or uint16 [H, W, C], the EXIF orientation (not applied), the number of pages, and notes.

    Raises:
        Unreadable: the page is damaged, too large, or not one of 8 or 16 bits and 1 to 4 channels.
    """
    tifffile = _optional("16-bit and multi-channel TIFF", "tifffile", "tiff")
    from PIL import Image

    stream.seek(0, 2)
    n_bytes = stream.tell()
    stream.seek(0)
    with tifffile.TiffFile(stream, name="image") as tiff:
        page = tiff.pages[frame]
        limit = Image.MAX_IMAGE_PIXELS
        if limit is not None and page.imagewidth * page.imagelength > 2 * limit:
            raise Unreadable(f"{page.imagewidth}x{page.imagelength} pixels are more than the limit of {2 * limit}")
        if page.dtype not in (np.dtype(np.uint8), np.dtype(np.uint16)):
            raise Unreadable(f"{page.dtype} samples are not supported; convert the image to 8 or 16 bits")
        # tifffile fills a missing strip with zeros; here that is a damaged file.
        segments = zip(page.dataoffsets, page.databytecounts, strict=False)
        if not page.dataoffsets or any(not count or offset + count > n_bytes for offset, count in segments):
            raise Unreadable("image file is truncated")
        if page.axes not in ("YX", "YXS", "SYX"):
            raise Unreadable(f"a TIFF page with the axes {page.axes} is not an image")
        channels = int(page.samplesperpixel)
        if channels > 4:
            raise Unreadable(f"{channels} channels are not supported; at most 4 are")
        samples = page.asarray()
        samples = samples[..., None] if page.axes == "YX" else np.moveaxis(samples, 0, -1) if page.axes == "SYX" else samples
        photometric = int(page.photometric)
        if photometric == 0:
            samples = ((1 << page.bitspersample) - 1) - samples
        notes = _band_notes(channels, photometric, tuple(map(int, page.extrasamples)))
        orientation = page.tags.valueof(274, 1)
        native = np.ascontiguousarray(samples, dtype=samples.dtype.newbyteorder("="))
        return native, int(orientation), len(tiff.pages), notes


def _band_notes(channels: int, photometric: int, extra: tuple[int, ...]) -> tuple[str, ...]:
    """What is assumed where a TIFF does not say that its bands are L, LA, RGB or RGBA."""
    n_colours = 3 if photometric == 2 else 1
    if channels == n_colours + 1 and extra == (1,):
        return ("premultiplied alpha kept",)
    if channels == n_colours or (channels == n_colours + 1 and extra == (2,)):
        return ()
    return (f"{channels} bands as {CHANNEL_NAMES[channels]}",)


def _optional(what: str, package: str, extra: str) -> Any:
    """Import an optional package, or say how to install it."""
    import importlib

    try:
        module = importlib.import_module(package)
    except ImportError as exc:
        raise Unreadable(MissingDependencyError(what, package, extra).message) from exc
    quiet_log(package)
    return module


def _png(stream: BinaryIO, image: Image.Image, frame: int) -> Samples | None:
    stream.seek(0)
    header = stream.read(26)
    depth, colour = header[24], header[25]
    if depth != 16 or colour == 0:  # Pillow keeps 16-bit grey
        return None
    if frame > 0:
        raise Unreadable("frames after the first of a 16-bit colour PNG cannot be read exactly")
    imagecodecs = _optional("16-bit colour PNG", "imagecodecs", "imagecodecs")
    stream.seek(0)
    return _as_uint16(imagecodecs.png_decode(stream.read()))


def _tiff(stream: BinaryIO, image: Image.Image, frame: int) -> tuple[Samples, tuple[str, ...]] | None:
    tags = image.tag_v2  # type: ignore[attr-defined]
    bits = tags.get(258, (1,))
    # White-is-zero of more than 8 bits is read by Pillow without the inversion.
    if max(bits) <= 8 or (tags.get(277, 1) == 1 and tags.get(262) != 0):
        return None
    samples, _, _, notes = read_tiff_page(stream, frame)
    return _as_uint16(samples), notes


def _ppm(stream: BinaryIO, image: Image.Image, frame: int) -> Samples | None:
    tile: Any = image.tile[0]  # type: ignore[attr-defined]
    maxval = netpbm_maxval(image)
    if maxval is None or maxval <= 255:
        return None
    width, height = image.size
    channels = 3 if image.mode == "RGB" else 1
    n_samples = width * height * channels
    stream.seek(tile[2])
    if tile[0] == "ppm_plain":
        samples = np.array(stream.read().split()[:n_samples], dtype=np.uint32)
    else:
        samples = np.frombuffer(stream.read(2 * n_samples), dtype=">u2")
    if len(samples) != n_samples:
        raise Unreadable("image file is truncated")
    if samples.max() > maxval:
        raise Unreadable(f"a sample is above the maximum of {maxval} that the header states")
    return samples.reshape(height, width, channels).astype(np.uint16)


def netpbm_maxval(image: Image.Image) -> int | None:
    """The largest sample by a PGM or PPM header where Pillow would scale to its own maximum, else None."""
    tile: Any = next(iter(getattr(image, "tile", ())), None)
    if image.format != "PPM" or tile is None or tile[0] not in ("ppm", "ppm_plain") or not isinstance(tile[3], tuple):
        return None
    return int(tile[3][1])


def _jpeg2k(stream: BinaryIO, image: Image.Image, frame: int) -> Samples | None:
    stream.seek(0)
    data = stream.read()
    start = data.find(b"\xff\x4f\xff\x51")  # SOC and SIZ: ISO/IEC 15444-1, A.5.1
    if start < 0:
        return None
    n_channels = int.from_bytes(data[start + 40 : start + 42], "big")
    sizes = data[start + 42 : start + 42 + 3 * n_channels : 3]
    if not sizes:
        raise Unreadable("image file is truncated")
    if max(sizes) & 0x80:
        raise Unreadable("signed JPEG 2000 samples are not supported")
    if max(sizes) + 1 <= 8:
        return None
    imagecodecs = _optional("JPEG 2000 of more than 8 bits", "imagecodecs", "imagecodecs")
    return _as_uint16(imagecodecs.jpeg2k_decode(data))


def _avif(stream: BinaryIO, image: Image.Image, frame: int) -> None:
    stream.seek(0)
    head = stream.read(1 << 16)
    box = head.find(b"av1C")  # AV1 ISO base media binding, 2.3.3: bit 6 of the third byte is high_bitdepth
    if box >= 0 and len(head) > box + 6 and head[box + 6] & 0x40:
        raise Unreadable("AVIF of more than 8 bits is not supported; convert it to 16-bit PNG")


def _as_uint16(samples: Any) -> Samples:
    array = np.asarray(samples)
    if array.dtype != np.uint16:
        raise Unreadable(f"{array.dtype} samples are not supported; convert the image to 8 or 16 bits")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4:
        raise Unreadable(f"an array of shape {array.shape} is not an image of 1 to 4 channels")
    return array
