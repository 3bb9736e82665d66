"""The picture codecs jpeg, jpeg2000, webp and avif: lossy, and all but the first lossless on demand.

Each picture is one file, of JPEG 2000 one raw codestream. Encoders run on one thread: libaom gives other bytes for other
numbers of threads or AV1 tiles.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from batchcodec.errors import PayloadError
from batchcodec.types import ImageSpec, Pixels

from .options import Option
from .picture import LOSSLESS, MOSAIC, import_imagecodecs
from .pillow import PillowCodec

SUBSAMPLINGS = ("4:4:4", "4:2:2", "4:2:0")


class JpegCodec(PillowCodec):
    """JPEG with optimised Huffman tables: baseline or progressive scans, whichever come out smaller.

    Progressive saves some percent of a photograph, and costs a tile of 64 by 64 a third more in headers.
    """

    codec_id = "jpeg"
    summary = "JPEG, lossy, 8 bits without alpha"
    option_table = (
        Option("quality", 75, "libjpeg's quality", 1, 100),
        Option("subsampling", "4:2:0", "chroma subsampling", choices=SUBSAMPLINGS),
        MOSAIC,
    )
    max_side = 65_500  # JPEG_MAX_DIMENSION of libjpeg
    small = 100**2
    encodes_alone = True
    file_format = "JPEG"
    file_class = ("PIL.JpegImagePlugin", "JpegImageFile")
    feature = "jpg"

    def save_parameters(self, channels: int) -> dict[str, Any]:
        """Quality and tables; gray has no chroma to subsample."""
        chroma = {} if channels == 1 else {"subsampling": self.options["subsampling"]}
        return {"quality": self.options["quality"], "optimize": True, **chroma}

    def encode_picture(self, pixels: Pixels) -> bytes:
        """One JPEG file."""
        from PIL import ImageFile

        # Optimised tables need the whole file in one buffer, and Pillow's guess of it is too small for noise at high
        # quality. Its one way to ask for more is this constant; raising it harms nobody, and 2 bytes per sample suffice.
        ImageFile.MAXBLOCK = max(ImageFile.MAXBLOCK, 2 * pixels.size + 4096)
        return min((self.save_picture(pixels, progressive=scans) for scans in (False, True)), key=len)


class Jpeg2000Codec(PillowCodec):
    """JPEG 2000 codestream: reversible 5/3 wavelet, or irreversible 9/7 cut at a PSNR."""

    codec_id = "jpeg2000"
    summary = "JPEG 2000, lossy at a given PSNR, or lossless with 16 bits and alpha"
    dtypes = ("uint8", "uint16")
    channels = (1, 2, 3, 4)
    option_table = (
        Option("psnr", 38.0, "PSNR of each picture in dB, all channels together, if not lossless", 10, 100),
        LOSSLESS,
        MOSAIC,
    )
    max_side = 1_000_000
    colour_multiple = 1  # the wavelet has no blocks and the chroma is not subsampled
    file_format = "JPEG2000"
    file_class = ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile")
    feature = "jpg_2000"

    def save_parameters(self, channels: int) -> dict[str, Any]:
        """One tile, one quality layer, the colour transform for RGB."""
        rate = {} if self.lossless else {"quality_mode": "dB", "quality_layers": [self.options["psnr"]]}
        return {"no_jp2": True, "mct": int(channels >= 3), "irreversible": not self.lossless, **rate}

    def encode_picture(self, pixels: Pixels) -> bytes:
        """One codestream."""
        if pixels.dtype == np.uint16 and pixels.shape[2] > 1:
            imagecodecs = import_imagecodecs("codec jpeg2000 with 16 bits and several channels")
            return bytes(imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k", reversible=True, numthreads=1))
        return super().encode_picture(pixels)

    def decode_picture(self, data: memoryview, spec: ImageSpec) -> Pixels:
        """The pixels of a codestream."""
        if bytes(data[:4]) != b"\xff\x4f\xff\x51":  # a JP2 file states its size twice, and they could differ
            raise PayloadError("codec jpeg2000: not a codestream", codec=self.codec_id)
        if spec.dtype == "uint16" and spec.channels > 1:
            imagecodecs = import_imagecodecs("codec jpeg2000 with 16 bits and several channels")
            self.open_picture(data, spec)
            pixels: Pixels = imagecodecs.jpeg2k_decode(data, numthreads=1, out=np.empty(spec.shape, np.uint16))
            return pixels
        return super().decode_picture(data, spec)


class WebpCodec(PillowCodec):
    """WebP: VP8 with lossless alpha, or VP8L."""

    codec_id = "webp"
    summary = "WebP, lossy or lossless, 8 bits, alpha"
    channels = (1, 2, 3, 4)
    option_table = (
        Option("quality", 75, "libwebp's quality; with lossless its effort", 0, 100),
        LOSSLESS,
        Option("method", 4, "libwebp's method: 6 is the slowest and best", 0, 6),
        MOSAIC,
    )
    max_side = 16_383
    small = 80**2
    file_format = "WEBP"
    file_class = ("PIL.WebPImagePlugin", "WebPImageFile")
    feature = "webp"

    def save_parameters(self, channels: int) -> dict[str, Any]:
        """With `exact`: the colour under transparent pixels is kept."""
        return {name: self.options[name] for name in ("quality", "lossless", "method")} | {"exact": True}


class AvifCodec(PillowCodec):
    """AVIF: AV1 intra frames, monochrome for gray; lossless with identity matrix for colour."""

    codec_id = "avif"
    summary = "AVIF, the smallest lossy one; mosaic=true is hard to beat"
    channels = (1, 2, 3, 4)
    option_table = (
        Option("quality", 60, "libavif's quality", 0, 100),
        Option("speed", 6, "libavif's speed: 0 is the slowest and best", 0, 10),
        Option("subsampling", "4:4:4", "chroma subsampling", choices=SUBSAMPLINGS),
        Option(
            "tune", "auto", "what libaom optimises; auto is the library's choice, for the eye", choices=("auto", "psnr", "ssim")
        ),
        LOSSLESS,
        MOSAIC,
    )
    max_side = 32_768  # libavif decodes no more
    max_area = 1 << 28
    file_format = "AVIF"
    file_class = ("PIL.AvifImagePlugin", "AvifImageFile")
    feature = "avif"

    def save_parameters(self, channels: int) -> dict[str, Any]:
        """Monochrome for L and LA, one thread and one AV1 tile; quality 100 is lossless where there is no colour."""
        tune = {} if self.lossless or self.options["tune"] == "auto" else {"advanced": {"tune": self.options["tune"]}}
        return {
            "quality": 100 if self.lossless else self.options["quality"],
            "speed": self.options["speed"],
            "subsampling": "4:0:0" if channels < 3 else self.options["subsampling"],
            "max_threads": 1,
            "autotiling": False,
            **tune,
        }

    def encode_picture(self, pixels: Pixels) -> bytes:
        """One AVIF file."""
        if self.lossless and pixels.shape[2] >= 3:  # Pillow has only the BT.601 matrix, whose rounding loses bits
            imagecodecs = import_imagecodecs("codec avif with lossless=true and colour")
            encoded = imagecodecs.avif_encode(
                pixels,
                level=100,
                speed=self.options["speed"],
                pixelformat="444",
                matrix=imagecodecs.AVIF.MATRIX_COEFFICIENTS.IDENTITY,
                numthreads=1,
            )
            return bytes(encoded)
        return super().encode_picture(pixels)
