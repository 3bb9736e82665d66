"""The classical codecs: each codes a group as pictures of a well-known format, or as raw samples.

    store, zstd                      raw samples                                  `raw`
    png, bmp                         lossless pictures                            `lossless`
    jpeg                             lossy pictures                               `lossy`
    jpeg2000, webp, avif, jxl        lossy pictures, or lossless=true             `lossy`, `jxl`

Every picture codec has two layouts: one picture per image, which gives random access to single images, and `mosaic=true`,
the whole group as one picture, which is far smaller for small images (`layout`).

Are the decoded pixels the same on every machine (`exact`)? Lossless ones are. Of the lossy ones none is called exact:

- jpeg: the standard allows inverse DCTs that differ by rounding; libjpeg-turbo's SIMD equals its C code for the default
  (slow, integer) one, other libraries differ by 1, and chroma upsampling and YCbCr to RGB by more.
- webp, avif: the YUV samples are normative to the bit, but chroma upsampling and the conversion to RGB are the decoder
  library's business. libavif does it in libyuv or in its own code by build and version. Gray AVIF is full-range luma and
  has no conversion; it is held to the same conservative rule.
- jpeg2000: the irreversible 9/7 wavelet is computed in floats, jxl: VarDCT and its colour transform too.

The same library build gives the same pixels. Another build is usually within 1 per sample, but at sharp chroma edges of
4:2:0 pictures it can be far more. An archive finds either by its digests.
"""

from __future__ import annotations

from collections.abc import Iterable

from batchcodec.codec import Codec
from batchcodec.hookspecs import hookimpl

from .jxl import JxlCodec
from .lossless import BmpCodec, PngCodec
from .lossy import AvifCodec, Jpeg2000Codec, JpegCodec, WebpCodec
from .raw import StoreCodec, ZstdCodec


@hookimpl
def register_codecs() -> Iterable[type[Codec]]:
    """The classical codecs."""
    return StoreCodec, ZstdCodec, PngCodec, BmpCodec, JpegCodec, Jpeg2000Codec, WebpCodec, AvifCodec, JxlCodec
