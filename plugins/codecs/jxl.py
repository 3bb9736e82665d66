"""JPEG XL through imagecodecs (libjxl): each picture is a bare codestream.

Lossless pictures are `modular` and hold 8 or 16 bits and alpha. Lossy ones are `VarDCT` at the distance that libjxl itself
assigns to a quality; they take no alpha, since libjxl then replaces the colour under transparent pixels and imagecodecs has
no switch against it. imagecodecs is BSD-3-Clause, libjxl BSD-3-Clause with a patent grant; the package is optional and
imported only when a picture is coded.
"""

from __future__ import annotations

import numpy as np

from batchcodec.types import ImageSpec, Pixels

from .options import Option
from .picture import LOSSLESS, MOSAIC, PictureCodec, import_imagecodecs


class JxlCodec(PictureCodec):
    """JPEG XL."""

    codec_id = "jxl"
    summary = "JPEG XL, the smallest lossless one, 16 bits and alpha; lossy without (needs imagecodecs)"
    dtypes = ("uint8", "uint16")
    channels = (1, 2, 3, 4)
    lossy_channels = (1, 3)
    option_table = (
        Option("quality", 85.0, "as in cjxl: 90 is distance 1, visually lossless", 1, 99.9),
        LOSSLESS,
        Option("effort", 7, "libjxl's effort: 9 is the slowest and best", 1, 9),
        MOSAIC,
    )
    max_side = 1 << 18

    def encode_picture(self, pixels: Pixels) -> bytes:
        """One codestream."""
        imagecodecs = import_imagecodecs("codec jxl")
        mode = {"lossless": True} if self.lossless else {"distance": distance_of(self.options["quality"])}
        encoded = imagecodecs.jpegxl_encode(
            pixels[..., 0] if pixels.shape[2] == 1 else pixels,
            effort=self.options["effort"],
            usecontainer=False,
            numthreads=1,
            **mode,
        )
        return bytes(encoded)

    def decode_picture(self, data: memoryview, spec: ImageSpec) -> Pixels:
        """The pixels of a codestream. imagecodecs compares size and type with `out` before it decodes."""
        imagecodecs = import_imagecodecs("codec jxl")
        shape = spec.shape[:2] if spec.channels == 1 else spec.shape
        pixels: Pixels = imagecodecs.jpegxl_decode(data, numthreads=1, out=np.empty(shape, spec.dtype))
        return pixels.reshape(spec.shape)


def distance_of(quality: float) -> float:
    """The Butteraugli distance of a quality under 100 (libjxl, `JxlEncoderDistanceFromQuality`)."""
    if quality >= 30:
        return 0.1 + (100 - quality) * 0.09
    return 53 / 3000 * quality**2 - 23 / 20 * quality + 25
