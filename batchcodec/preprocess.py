"""What may be done to images before they are coded: mode and size, as the source paper does it for Fashion-MNIST.

Nothing happens by default (`--size native --mode keep`). What happens is recorded in the archive and counted in the report.

- `mode`: `gray` and `rgb` put alpha over white first. Gray is ITU-R 601 luma, as Pillow has it: 0.299 R + 0.587 G + 0.114 B.
- `fit` (`--aspect`): how an image meets a size of another aspect ratio. `stretch` resizes both sides on their own; `crop` cuts
  the largest middle part of the wanted aspect ratio out, then resizes it; `pad` resizes until it fits and fills up with black
  around it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from batchcodec.errors import OptionError
from batchcodec.types import CHANNEL_NAMES, JSON, ImageSpec, Item, Pixels

if TYPE_CHECKING:
    from PIL import Image

Resample = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
Fit = Literal["stretch", "crop", "pad"]
Mode = Literal["keep", "gray", "rgb"]

MAX_SIDE = 65535
MAX_PIXELS = 1 << 28


def parse_size(text: str) -> tuple[int, int] | None:
    """`native` to None, `64` to (64, 64), `64x48` (width x height) to (64, 48)."""
    if text == "native":
        return None
    match = re.fullmatch(r"([0-9]{1,5})(?:x([0-9]{1,5}))?", text)
    width, height = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise OptionError("size", text, f"native, N or WIDTHxHEIGHT with sides from 1 to {MAX_SIDE}")
    return width, height


def _one_of(name: str, value: str, kind: object) -> None:
    if value not in get_args(kind):
        raise OptionError(name, value, "one of " + ", ".join(get_args(kind)))


@dataclass(frozen=True, slots=True)
class Preprocess:
    """Settings, checked when made; call it on an item to get the item that is coded.

    Attributes:
        size: (width, height) in pixels, or None for native.
        resample: Pillow's filter for resizing.
        fit: how another aspect ratio is met.
        mode: which channels are kept.
    """

    size: tuple[int, int] | None = None
    resample: Resample = "bicubic"
    fit: Fit = "stretch"
    mode: Mode = "keep"

    def __post_init__(self) -> None:
        _one_of("resample", self.resample, Resample)
        _one_of("aspect", self.fit, Fit)
        _one_of("mode", self.mode, Mode)
        if self.size is not None and self.size[0] * self.size[1] > MAX_PIXELS:
            raise OptionError("size", f"{self.size[0]}x{self.size[1]}", f"at most {MAX_PIXELS} pixels")

    @property
    def changes_pixels(self) -> bool:
        """Whether there is anything to do."""
        return self.size is not None or self.mode != "keep"

    def to_json(self) -> dict[str, JSON]:
        """As recorded in the archive."""
        size = "native" if self.size is None else f"{self.size[0]}x{self.size[1]}"
        return {"size": size, "resample": self.resample, "fit": self.fit, "mode": self.mode}

    def spec_of(self, spec: ImageSpec) -> ImageSpec:
        """Shape and type of the item that is coded, of one of this shape and type."""
        width, height = self.size or (spec.width, spec.height)
        channels = {"keep": spec.channels, "gray": 1, "rgb": 3}[self.mode]
        return ImageSpec(height, width, channels, spec.dtype)

    def __call__(self, item: Item) -> Item:
        """The item as it is coded, with what was changed in its notes."""
        pixels, notes = item.pixels, list(item.notes)
        if self.mode != "keep":
            target = 1 if self.mode == "gray" else 3
            if pixels.shape[2] != target:
                notes.append(f"{CHANNEL_NAMES[pixels.shape[2]]} to {CHANNEL_NAMES[target]}")
                pixels = to_channels(pixels, target)
        if self.size is not None and (pixels.shape[1], pixels.shape[0]) != self.size:
            notes.append(f"resized to {self.size[0]}x{self.size[1]}")
            pixels = resize(pixels, self.size, self.resample, self.fit)
        if pixels is item.pixels:
            return item
        return replace(item, pixels=pixels, notes=tuple(notes))


def to_channels(pixels: Pixels, target: int) -> Pixels:
    """uint8 or uint16 [H, W, C] to 1 (gray) or 3 (RGB) channels; alpha is put over white."""
    peak = int(np.iinfo(pixels.dtype).max)
    values: npt.NDArray[np.int64] = pixels.astype(np.int64)
    if values.shape[2] in (2, 4):
        alpha = values[:, :, -1:]
        values = (values[:, :, :-1] * alpha + peak * (peak - alpha) + peak // 2) // peak
    if values.shape[2] == 1 and target == 3:
        values = np.repeat(values, 3, axis=2)
    elif values.shape[2] == 3 and target == 1:
        # Pillow's integer weights: 16 bits of fraction, rounded.
        values = (values @ np.array([[19595], [38470], [7471]]) + (1 << 15)) >> 16
    return values.astype(pixels.dtype)


def resize(pixels: Pixels, size: tuple[int, int], resample: Resample, fit: Fit) -> Pixels:
    """uint8 or uint16 [H, W, C] to [size[1], size[0], C]."""
    from PIL import Image

    method = Image.Resampling[resample.upper()]
    height, width = pixels.shape[:2]
    ratios = size[0] / width, size[1] / height
    if fit == "stretch":
        return _resampled(pixels, size, method)
    scale = max(ratios) if fit == "crop" else min(ratios)
    if fit == "crop":
        # The middle is cut out first: the whole of a very long image, resized, might not fit the memory.
        left, top = (width - size[0] / scale) / 2, (height - size[1] / scale) / 2
        box = (max(0.0, left), max(0.0, top), min(width, width - left), min(height, height - top))
        return _resampled(pixels, size, method, box)
    inner = (max(1, min(size[0], round(width * scale))), max(1, min(size[1], round(height * scale))))
    canvas = np.zeros((size[1], size[0], pixels.shape[2]), pixels.dtype)
    left, top = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    canvas[top : top + inner[1], left : left + inner[0]] = _resampled(pixels, inner, method)
    return canvas


def _resampled(
    pixels: Pixels, size: tuple[int, int], method: Image.Resampling, box: tuple[float, float, float, float] | None = None
) -> Pixels:
    """The part `box` (left, top, right, bottom; all of it by default) resized to `size`."""
    from PIL import Image

    if pixels.dtype == np.uint8:
        flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
        resized: Pixels = np.asarray(Image.fromarray(flat).resize(size, method, box))
        return resized.reshape(size[1], size[0], pixels.shape[2])
    # Pillow has no 16-bit colour: each channel is resized in float32, which holds 16 bits exactly. Colour is weighted by
    # alpha on the way, as Pillow does for 8 bits: what is transparent must not shine through.
    values = pixels.astype(np.float32)
    alpha = values[:, :, -1:] / 65535 if pixels.shape[2] in (2, 4) else None
    if alpha is not None:
        values[:, :, :-1] *= alpha
    planes = [np.asarray(Image.fromarray(values[:, :, c]).resize(size, method)) for c in range(pixels.shape[2])]
    mixed = np.stack(planes, axis=2)
    if alpha is not None:
        cover = mixed[:, :, -1:] / 65535
        mixed[:, :, :-1] = np.divide(mixed[:, :, :-1], cover, out=np.zeros_like(mixed[:, :, :-1]), where=cover > 0)
    rounded: Pixels = np.clip(np.rint(mixed), 0, 65535).astype(np.uint16)
    return rounded
