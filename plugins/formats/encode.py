"""Pixels to image files. The default is PNG, which holds all that an item can be.

`image_format` (a user's option) chooses the suffix:

- `png`: PNG.
- `keep`: the format that the name's suffix says; PNG where this cannot write it (see `_WRITERS`) or it cannot hold the pixels.
- `png`, `webp`, `bmp`, `tiff`, `tif`, `jpeg`, `jpg`: that format; PNG where it cannot hold the pixels.

WebP is lossless; JPEG is quality 95 without chroma subsampling. What is read back has the same pixels (but for JPEG),
channels and dtype, so mono never becomes WebP and alpha never JPEG. EXIF (orientation reset: the pixels are upright) and ICC
profile of `attributes["exif"]` and `["icc"]` are written where the format has a place for them.
"""

from __future__ import annotations

import base64
import binascii
import io
import struct
import zlib
from collections.abc import Generator, Iterable, Mapping
from typing import Any

import numpy as np

from batchcodec.errors import MissingDependencyError, OptionError
from batchcodec.parallel import in_order
from batchcodec.types import JSON, ImageSpec, Item, Pixels

from .names import split_suffix
from .quiet import quiet

# Suffix -> Pillow's name of the format.
_WRITERS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".pgm": "PPM",
    ".ppm": "PPM",
}
_CHOICES = ("png", "webp", "bmp", "tiff", "tif", "jpeg", "jpg")
_MAX_JPEG_EXIF = 65533 - 6  # one APP1 segment


def check_image_format(image_format: str) -> None:
    """Raise `OptionError` if the option has no meaning."""
    if image_format != "keep" and image_format not in _CHOICES:
        raise OptionError("image_format", image_format, f"keep or one of {', '.join(_CHOICES)}")


def output_suffix(item: Item, image_format: str) -> str:
    """The suffix of the file that `encode_image` makes of the item, as it is spelt in the name where that is kept.

    Raises:
        OptionError: there is no such image format.
    """
    check_image_format(image_format)
    suffix = split_suffix(item.name)[1] if image_format == "keep" else f".{image_format}"
    writer = _WRITERS.get(suffix.lower())
    return suffix if writer is not None and _holds(writer, suffix.lower(), item) else ".png"


def _holds(writer: str, suffix: str, item: Item) -> bool:
    """Whether a file of this kind gives back the item's channels and dtype."""
    spec = ImageSpec.of(item.pixels)
    longest = max(spec.height, spec.width)
    if spec.dtype != "uint8":
        return writer in ("PNG", "TIFF") or (suffix == ".pgm" and spec.channels == 1)
    if writer == "JPEG":
        return spec.channels in (1, 3) and longest <= 65500 and len(_exif(item.attributes)) <= _MAX_JPEG_EXIF
    if writer == "WEBP":
        return spec.channels in (3, 4) and longest <= 16383
    if writer == "BMP":
        return spec.channels in (1, 3)
    if writer == "PPM":
        return spec.channels == (1 if suffix == ".pgm" else 3)
    return True


def encoded(items: Iterable[Item], image_format: str, workers: int) -> Generator[tuple[Item, str, bytes], None, None]:
    """Each item in order, with the suffix of its image file and that file; several are made at once.

    Raises:
        OptionError: there is no such image format.
        MissingDependencyError: as `encode_image`.
    """

    def work(item: Item) -> tuple[Item, str, bytes]:
        suffix = output_suffix(item, image_format)
        return item, suffix, encode_image(item, suffix)

    return in_order(work, items, workers=workers if workers > 1 else 0, size=lambda item: item.pixels.nbytes, ahead=workers)


def encode_image(item: Item, suffix: str) -> bytes:
    """The item as an image file of a suffix from `output_suffix`.

    Raises:
        MissingDependencyError: 16-bit colour needs imagecodecs (PNG) or tifffile (TIFF).
    """
    pixels = item.pixels
    writer = _WRITERS[suffix.lower()]
    exif, icc = _exif(item.attributes), _binary(item.attributes, "icc")
    if pixels.dtype == np.uint16 and pixels.shape[2] > 1:
        return _deep_tiff(pixels, icc) if writer == "TIFF" else _deep_png(pixels, exif, icc)
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    options: dict[str, Any] = {}
    if writer == "JPEG":
        options.update(quality=95, subsampling=0)
    elif writer == "WEBP":
        # exact: the colour under transparent pixels is kept too
        options.update(lossless=True, exact=True)
    if writer in ("PNG", "JPEG", "WEBP", "TIFF"):
        options.update({key: value for key, value in (("exif", exif), ("icc_profile", icc)) if value})
    out = io.BytesIO()
    with quiet():
        image.save(out, writer, **options)
    return out.getvalue()


def _deep_png(pixels: Pixels, exif: bytes, icc: bytes) -> bytes:
    """16-bit LA, RGB or RGBA, which Pillow cannot write."""
    try:
        import imagecodecs
    except ImportError as exc:
        raise MissingDependencyError("writing 16-bit colour PNG", "imagecodecs", "imagecodecs") from exc
    data = bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels)))
    chunks = b""
    if icc:
        chunks += _chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc))
    if exif:
        chunks += _chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
    header_end = 8 + 25  # signature and IHDR
    return data[:header_end] + chunks + data[header_end:]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _deep_tiff(pixels: Pixels, icc: bytes) -> bytes:
    """16-bit LA, RGB or RGBA; EXIF has no place in what tifffile writes."""
    try:
        import tifffile
    except ImportError as exc:
        raise MissingDependencyError("writing 16-bit colour TIFF", "tifffile", "tiff") from exc
    out = io.BytesIO()
    channels = pixels.shape[2]
    tifffile.imwrite(
        out,
        np.ascontiguousarray(pixels),
        photometric="rgb" if channels >= 3 else "minisblack",
        planarconfig="contig",
        extrasamples=["unassalpha"] if channels in (2, 4) else None,
        iccprofile=icc or None,
        metadata=None,
        software=False,
    )
    return out.getvalue()


def _binary(attributes: Mapping[str, JSON], key: str) -> bytes:
    """Base64 in an attribute; b"" if it is something else (attributes may come from anybody's JSON)."""
    text = attributes.get(key)
    if not isinstance(text, str):
        return b""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _exif(attributes: Mapping[str, JSON]) -> bytes:
    """EXIF with its orientation removed; b"" if there is none or it cannot be parsed."""
    raw = _binary(attributes, "exif")
    if not raw:
        return b""
    from PIL import Image

    try:
        with quiet():
            exif = Image.Exif()
            exif.load(raw)
            if 274 not in exif:
                return raw
            del exif[274]
            return exif.tobytes() if len(exif) else b""
    except Exception:  # struct.error, SyntaxError, KeyError, ...: what cannot be parsed must not reach other readers
        return b""
