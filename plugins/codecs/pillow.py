"""`PillowCodec`: the base of the codecs whose pictures Pillow reads and writes.

Each picture is one complete file of its format (JPEG 2000: a raw codestream), without metadata and without a time, so any
tool can read it once it is cut out. What Pillow lacks is done by imagecodecs where the subclass says so.
"""

from __future__ import annotations

import importlib
import io
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from batchcodec.errors import MissingDependencyError, PayloadError
from batchcodec.types import ImageSpec, Pixels

from .picture import PictureCodec

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

# (channels of the picture, channels wanted) -> indices into the picture's channels, -1 for opaque alpha. WebP has no gray and
# codes it as RGB, WebP and AVIF code LA as RGBA, and both drop an alpha that is 255 everywhere. Green is the channel that
# weighs most in luma.
CHANNEL_PICKS = {
    (3, 1): (1,),
    (4, 2): (1, 3),
    (3, 2): (1, -1),
    (1, 2): (0, -1),
    (3, 4): (0, 1, 2, -1),
}


class PillowCodec(PictureCodec):
    """A codec whose pictures are files of one of Pillow's formats.

    Attributes:
        file_format: Pillow's name of the format.
        file_class: module and class of Pillow that reads it. Used directly instead of `Image.open`: no other format is
            tried, and our own, stricter check of the size stands in for Pillow's limit on pixels.
        feature: the library that Pillow must have been built with.
    """

    file_format: ClassVar[str]
    file_class: ClassVar[tuple[str, str]]
    feature: ClassVar[str]

    def save_parameters(self, channels: int) -> dict[str, Any]:
        """What Pillow's `save` is told besides the format."""
        return {}

    def encode_picture(self, pixels: Pixels) -> bytes:
        """One file of the format from uint8 or uint16 [H, W, C]."""
        return self.save_picture(pixels)

    def save_picture(self, pixels: Pixels, **more: Any) -> bytes:
        """One file by Pillow, with `save_parameters` and more of the kind."""
        from PIL import Image

        self._need_feature()
        buffer = io.BytesIO()
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        image.save(buffer, self.file_format, **self.save_parameters(pixels.shape[2]), **more)
        return buffer.getvalue()

    def decode_picture(self, data: memoryview, spec: ImageSpec) -> Pixels:
        """The pixels [H, W, C] of a file of the format."""
        return _with_channels(np.asarray(self.open_picture(data, spec)), spec.channels)

    def open_picture(self, data: memoryview, spec: ImageSpec) -> ImageFile:
        """The file, its header read and found to be of this size, its pixels not yet decoded."""
        self._need_feature()
        module, name = self.file_class
        image: ImageFile = getattr(importlib.import_module(module), name)(io.BytesIO(data))
        if image.size != (spec.width, spec.height):
            raise PayloadError(
                f"codec {self.codec_id}: a picture of {image.width}x{image.height}, expected {spec.width}x{spec.height}",
                codec=self.codec_id,
            )
        return image

    def _need_feature(self) -> None:
        from PIL import features

        if not features.check(self.feature):
            raise MissingDependencyError(f"codec {self.codec_id}", f"pillow (built with {self.feature})", "all")


def _with_channels(pixels: Pixels, channels: int) -> Pixels:
    """A decoded picture [H, W] or [H, W, c] as [H, W, channels]; `PayloadError` if it has not what is needed."""
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    present = pixels.shape[2]
    if present == channels:
        return pixels
    picks = CHANNEL_PICKS.get((present, channels))
    if picks is None:
        raise PayloadError(f"a picture of {present} channels, expected {channels}")
    planes = [np.full_like(pixels[..., 0], 255) if pick < 0 else pixels[..., pick] for pick in picks]
    return np.stack(planes, axis=2)
