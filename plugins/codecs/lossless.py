"""The picture codecs that are always lossless: png and bmp. Each picture is one file."""

from __future__ import annotations

from typing import Any

import numpy as np

from batchcodec.types import ImageSpec, Pixels

from .options import Option
from .picture import MOSAIC, import_imagecodecs
from .pillow import PillowCodec


class BmpCodec(PillowCodec):
    """Windows bitmap."""

    codec_id = "bmp"
    summary = "BMP, uncompressed"
    option_table = (MOSAIC,)
    max_side = 1_000_000
    small = 256**2
    encodes_alone = True
    file_format = "BMP"
    file_class = ("PIL.BmpImagePlugin", "BmpImageFile")
    feature = "zlib"  # of every Pillow; BMP itself needs no library

    @property
    def lossless(self) -> bool:
        """Always."""
        return True


class PngCodec(PillowCodec):
    """Portable network graphics."""

    codec_id = "png"
    summary = "PNG, lossless, 8 and 16 bits, alpha"
    dtypes = ("uint8", "uint16")
    channels = (1, 2, 3, 4)
    option_table = (Option("level", 9, "zlib level", 0, 9), MOSAIC)
    max_side = 1_000_000  # the limit of libpng
    small = 48**2
    file_format = "PNG"
    file_class = ("PIL.PngImagePlugin", "PngImageFile")
    feature = "zlib"

    @property
    def lossless(self) -> bool:
        """Always."""
        return True

    def save_parameters(self, channels: int) -> dict[str, Any]:
        """The zlib level."""
        return {"compress_level": self.options["level"]}

    def encode_picture(self, pixels: Pixels) -> bytes:
        """One PNG file."""
        if pixels.dtype == np.uint16 and pixels.shape[2] > 1:
            imagecodecs = import_imagecodecs("codec png with 16 bits and several channels")
            return bytes(imagecodecs.png_encode(pixels, level=self.options["level"]))
        return super().encode_picture(pixels)

    def decode_picture(self, data: memoryview, spec: ImageSpec) -> Pixels:
        """The pixels of a PNG file."""
        if spec.dtype == "uint16" and spec.channels > 1:
            imagecodecs = import_imagecodecs("codec png with 16 bits and several channels")
            self.open_picture(data, spec)
            pixels: Pixels = imagecodecs.png_decode(data, out=np.empty(spec.shape, np.uint16))
            return pixels
        return super().decode_picture(data, spec)
