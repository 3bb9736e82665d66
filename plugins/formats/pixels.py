"""Image files to pixels, by one rule.

| source | pixels |
|---|---|
| L, LA, RGB, RGBA of 8 bits | uint8, kept |
| L, LA, RGB, RGBA of 16 bits (PNG, TIFF, PPM, JPEG 2000) | uint16, kept (see `deep.py`) |
| 1-bit | L, 0 or 255 |
| P, PA | RGB, or RGBA with transparency |
| L or RGB with a colour key (PNG tRNS) | LA or RGBA; alpha is 0 where the colour is the key |
| CMYK, YCbCr, HSV, LAB | RGB; LAB by colour management to sRGB |
| 32-bit integers | uint16 if all values fit, else refused |
| float | refused |

EXIF orientation is applied. The content tells the format, not the suffix. Of an animated or multi-page file one frame is
read. What is changed is said in `notes`, in a fixed wording that reports can count, and the source's mode is kept in
`attributes["mode"]` where it is not that of the pixels. Pillow's limit on the number of pixels holds; sizes up to it are
silent. Every failure is an `ItemError` with the item's name.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from batchcodec.errors import ItemError
from batchcodec.types import CHANNEL_NAMES, JSON, ImageSpec, Pixels

from .deep import TIFF_MAGIC, Unreadable, deep_samples, netpbm_maxval, read_tiff_page
from .quiet import quiet, quiet_log

if TYPE_CHECKING:
    from PIL import Image

# Formats with one plain raster. Left out on purpose: those that run a program or a script (EPS, WMF) and containers.
PILLOW_FORMATS = ("PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP", "DIB", "PPM", "JPEG2000", "AVIF", "ICO", "PCX", "QOI", "TGA")

_HEADER_CHANNELS = {
    **{("JPEG", mode): channels for mode, channels in (("L", 1), ("RGB", 3), ("CMYK", 3))},
    **{("PNG", mode): channels for mode, channels in (("1", 1), ("L", 1), ("LA", 2), ("P", 3), ("RGB", 3), ("RGBA", 4))},
    **{("WEBP", mode): channels for mode, channels in (("RGB", 3), ("RGBA", 4))},
    **{("BMP", mode): channels for mode, channels in (("1", 1), ("L", 1), ("P", 3), ("RGB", 3))},
}
"""Channels of the pixels, by Pillow's format and mode, where nothing else in the file decides over them."""
_ORIENTATION_TAG = 274
# Tags of a TIFF that describe its own layout and are wrong in any other file.
_LAYOUT_TAGS = frozenset((*range(254, 267), 273, *range(277, 282), 284, *range(288, 294), 317, 318, 319, *range(320, 334)))
_LAYOUT_TAGS |= frozenset((338, 339, 340, 341, 347, *range(512, 533), 34675))


@dataclass(frozen=True, slots=True)
class Decoded:
    """The pixels of one frame (uint8 or uint16 [H, W, C]) and what is known of their source."""

    pixels: Pixels
    attributes: dict[str, JSON]
    notes: tuple[str, ...]


def read_image(path: Path, name: str, stream: BinaryIO, *, frame: int | None = None, metadata: bool = False) -> Decoded:
    """Decode one frame of an image file.

    Args:
        path: the dataset, for messages.
        name: the item's name, for messages.
        stream: the file, seekable.
        frame: its number from 0; None for the first with a note if there are more.
        metadata: keep EXIF and ICC profile as base64 in `attributes["exif"]` and `["icc"]`.

    Raises:
        ItemError: the image cannot be read, with Pillow's reason.
    """
    try:
        with quiet():
            return _decode(stream, frame, metadata)
    except Exception as exc:  # on damaged files decoders raise nearly everything: SyntaxError, struct.error, MemoryError, ...
        raise ItemError(path, name, _reason(exc)) from exc


def image_spec(stream: BinaryIO) -> ImageSpec | None:
    """Shape and type that `read_image` would give, by the header alone; None where it takes more to know them."""
    try:
        with quiet(), _open(stream) as image:
            channels = _HEADER_CHANNELS.get((image.format or "", image.mode))
            tile: Any = next(iter(getattr(image, "tile", ())), None)
            raw = image.mode if tile is None else tile[3]
            deep = "16" in str(raw) or (image.format == "PNG" and not isinstance(raw, str))
            if channels is None or deep or "transparency" in image.info or getattr(image, "is_animated", False):
                return None
            # Asking a PNG for its EXIF would load the pixels; there it is rare, and mostly before them.
            turned = image.format != "PNG" and _orientation(image) in (5, 6, 7, 8)
            width, height = image.size[::-1] if turned else image.size
            return ImageSpec(height, width, channels)
    except Exception:
        return None  # reading it says why


def count_frames(stream: BinaryIO) -> int:
    """Number of frames of an image file; 1 if they cannot be counted (reading tells why)."""
    try:
        with quiet(), _open(stream) as image:
            return _n_frames(image) or 1
    except Exception:
        return 1


def _reason(exc: Exception) -> str:
    from PIL import UnidentifiedImageError

    if isinstance(exc, UnidentifiedImageError):  # its own message has the address of the stream in memory
        return "not an image in a known format, or its header is damaged"
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return str(exc) or type(exc).__name__


def _open(stream: BinaryIO) -> Image.Image:
    from PIL import Image

    quiet_log("PIL")
    stream.seek(0)
    return Image.open(stream, formats=PILLOW_FORMATS)


def _decode(stream: BinaryIO, frame: int | None, metadata: bool) -> Decoded:
    stream.seek(0)
    magic = stream.read(4)
    if not magic:
        raise Unreadable("the file is empty")
    try:
        return _decode_with_pillow(stream, frame, metadata)
    except (OSError, ValueError) as exc:
        # TIFF is wider than Pillow: pixel layouts that it does not know go to tifffile, damage does not.
        unknown = type(exc).__name__ == "UnidentifiedImageError" or "wrong mode" in str(exc)
        if magic not in TIFF_MAGIC or not unknown:
            raise
        samples, orientation, n_frames, notes = read_tiff_page(stream, frame or 0)
    changes = _Changes(list(notes), {})
    changes.frames(frame, n_frames)
    pixels = changes.oriented(samples, orientation, orientation)
    return Decoded(pixels, changes.attributes, tuple(changes.notes))


def _decode_with_pillow(stream: BinaryIO, frame: int | None, metadata: bool) -> Decoded:
    changes = _Changes([], {})
    image = _open(stream)
    n_frames = _n_frames(image)
    if n_frames is None:  # counting has moved it, and where to is unknown
        image = _open(stream)
    with image:
        changes.frames(frame, n_frames)
        if frame:
            image.seek(frame)
        source_mode = image.mode
        key_scale = _key_scale(image)
        orientation = _orientation(image)
        samples: Any
        deep = deep_samples(stream, image, frame or 0)
        if deep is not None:
            samples, notes = deep
            changes.notes += notes
            remaining = orientation
        else:
            maxval = netpbm_maxval(image)
            if maxval not in (None, 255):
                changes.notes.append(f"maxval {maxval} scaled to 255")
            samples = _samples(image, changes, key_scale)
            remaining = _orientation(image)  # Pillow applies a TIFF's by itself and removes the tag
        pixels = changes.oriented(samples, orientation, remaining)
        if metadata:
            changes.attributes.update(_metadata(image, same_colours=source_mode not in ("CMYK", "YCbCr", "LAB", "HSV")))
    return Decoded(pixels, changes.attributes, tuple(changes.notes))


@dataclass(slots=True)
class _Changes:
    """Collects what reading changes."""

    notes: list[str]
    attributes: dict[str, JSON]

    def mode(self, source: str, target: str) -> None:
        self.notes.append(f"{'1-bit' if source == '1' else source} to {target}")
        self.attributes["mode"] = source

    def frames(self, frame: int | None, n_frames: int | None) -> None:
        if n_frames is None:
            self.notes.append("frame 1, further frames unreadable")
        elif n_frames > 1:
            self.attributes["frames"] = n_frames
            if frame is None:
                self.notes.append(f"frame 1 of {n_frames}")
            else:
                self.attributes["frame"] = frame

    def oriented(self, samples: Any, orientation: int, remaining: int) -> Pixels:
        """Apply what remains of the orientation to [H, W, C], and record the whole."""
        if not samples.size:
            raise Unreadable("the image has no pixels")
        if orientation != 1:
            self.notes.append(f"EXIF orientation {orientation} applied")
            self.attributes["exif_orientation"] = orientation
        if remaining in (5, 6, 7, 8):
            samples = samples.swapaxes(0, 1)
        if remaining in (3, 4, 7, 8):
            samples = samples[::-1]
        if remaining in (2, 3, 6, 7):
            samples = samples[:, ::-1]
        pixels: Pixels = np.ascontiguousarray(samples)
        return pixels


def _n_frames(image: Image.Image) -> int | None:
    """Number of frames; None if a later frame is damaged or of an unknown kind."""
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:
        return None


def _orientation(image: Image.Image) -> int:
    """EXIF orientation from 1 to 8; 1 if there is none or it cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:
        if image.format == "PNG":  # loads the pixels, to reach a chunk behind them: these may be what is damaged
            raise
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _samples(image: Image.Image, changes: _Changes, key_scale: int) -> Any:
    """Load and convert: uint8 or uint16 [H, W, C]."""
    image.load()
    mode = image.mode
    key = image.info.get("transparency")
    if mode in ("LA", "RGBA"):
        return np.asarray(image)
    if mode in ("1", "L", "RGB") or mode.startswith("I;16"):
        return _with_colour_key(image, key, changes, key_scale)
    if mode == "I":
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable(f"32-bit integers from {values.min()} to {values.max()} do not fit 16 bits")
        if image.format != "PPM":  # Pillow's mode for 16-bit PGM, which changes nothing
            changes.mode("I", "16-bit L")
        return values.astype(np.uint16)[..., None]
    if mode == "F":
        raise Unreadable("float images are not supported; scale the values to 8 or 16 bits first")
    if mode == "LAB":
        from PIL import ImageCms

        to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        converted = ImageCms.applyTransform(image, to_srgb)
        if converted is None:
            raise Unreadable("LAB cannot be converted")
        changes.mode(mode, "RGB")
        return np.asarray(converted)
    if mode in ("P", "PA"):
        palette_alpha = image.palette is not None and image.palette.mode.endswith("A")
        target = "RGBA" if mode == "PA" or key is not None or palette_alpha else "RGB"
    elif mode in ("CMYK", "YCbCr", "HSV", "RGBX", "RGBa", "La"):
        target = {"RGBa": "RGBA", "La": "LA"}.get(mode, "RGB")
    else:
        raise Unreadable(f"images of mode {mode} are not supported")
    changes.mode(mode, target)
    return np.asarray(image.convert(target))


def _with_colour_key(image: Image.Image, key: Any, changes: _Changes, key_scale: int) -> Any:
    """Samples of modes 1, L, I;16 and RGB, with alpha if one colour is marked as transparent."""
    samples = np.asarray(image)
    if samples.dtype == np.bool_:
        samples = np.where(samples, np.uint8(255), np.uint8(0))
    if samples.ndim == 2:
        samples = samples[..., None]
    samples = samples.astype(samples.dtype.newbyteorder("="))  # I;16B is big-endian
    channels = samples.shape[2]
    name = CHANNEL_NAMES[channels]
    colour: Any = None
    if isinstance(key, int) and channels == 1:
        colour = key * key_scale
    elif isinstance(key, tuple) and len(key) == channels:
        colour = np.array(key) & (65535 if samples.dtype == np.uint16 else 255)
    if image.mode == "1":
        changes.mode("1", "L" if colour is None else "LA")
    if colour is None:
        return samples
    if image.mode != "1":
        changes.notes.append(f"{name} with colour key to {name}A")
        changes.attributes["mode"] = image.mode
    opaque = (samples != colour).any(axis=2, keepdims=True)  # [H, W, 1]
    alpha = np.where(opaque, np.iinfo(samples.dtype).max, 0).astype(samples.dtype)
    return np.concatenate([samples, alpha], axis=2)


def _key_scale(image: Image.Image) -> int:
    """Factor of a grey colour key: Pillow widens 2- and 4-bit samples of a PNG to 8 bits, but not their key."""
    tile: Any = next(iter(getattr(image, "tile", ())), None)
    return {"L;2": 85, "L;4": 17}.get(tile[3], 1) if tile is not None and isinstance(tile[3], str) else 1


def _metadata(image: Image.Image, *, same_colours: bool) -> dict[str, JSON]:
    """EXIF and ICC profile as base64; the profile only if it still describes the pixels."""
    found: dict[str, JSON] = {}
    try:
        exif = image.info.get("exif") or _exif_of_tags(image)
    except Exception:  # EXIF that cannot be parsed is dropped: the pixels are what counts
        exif = b""
    if isinstance(exif, bytes) and exif:
        found["exif"] = base64.b64encode(exif).decode()
    icc = image.info.get("icc_profile")
    if isinstance(icc, bytes) and icc and same_colours:
        found["icc"] = base64.b64encode(icc).decode()
    return found


def _exif_of_tags(image: Image.Image) -> bytes:
    exif = image.getexif()
    for tag in _LAYOUT_TAGS & set(exif):
        del exif[tag]
    return exif.tobytes() if len(exif) else b""
