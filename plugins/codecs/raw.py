"""Codecs of raw samples, without a picture format: `store` and `zstd`. Lossless, any number of channels from 1 to 4.

Payload of `store`: the samples [N, H, W, C] in C order, little-endian, nothing else.

Payload of `zstd`: one zstd frame that states its content size, of those bytes. With `filter=left` each sample but the first
of a row is stored as its difference from the sample of the same channel to its left, modulo 2^8 or 2^16. One item cannot be
had without decompressing the group.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchcodec.errors import PayloadError
from batchcodec.types import GroupSpec, Pixels

from .options import Option, OptionsCodec, item_indices


class StoreCodec(OptionsCodec):
    """Raw little-endian samples."""

    codec_id = "store"
    summary = "raw samples, no compression"
    dtypes = ("uint8", "uint16")
    channels = (1, 2, 3, 4)

    @property
    def lossless(self) -> bool:
        """Always."""
        return True

    @property
    def partial(self) -> bool:
        """All samples are read in any case."""
        return False

    def encode(self, images: Pixels) -> bytes:
        """Code uint8 or uint16 [N, H, W, C]."""
        self.check(GroupSpec.of(images).image)
        return self._pack(images)

    def decode(self, payload: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
        """The samples [N, H, W, C], or those of the asked items."""
        self._check_payload_spec(spec)
        images = self._unpack(payload, spec)
        if len(images) != spec.n_items:
            raise PayloadError(f"codec {self.codec_id}: {len(images)} items, expected {spec.n_items}", codec=self.codec_id)
        return images if items is None else images[np.asarray(item_indices(items, spec.n_items), dtype=np.intp)]

    def _pack(self, images: Pixels) -> bytes:
        return images.astype(images.dtype.newbyteorder("<"), copy=False).tobytes()

    def _unpack(self, payload: bytes, spec: GroupSpec) -> Pixels:
        if len(payload) != spec.n_bytes:
            raise PayloadError(
                f"codec {self.codec_id}: {len(payload)} bytes of samples, expected {spec.n_bytes}",
                codec=self.codec_id,
            )
        stored = np.frombuffer(payload, np.dtype(spec.image.dtype).newbyteorder("<"))
        images: Pixels = stored.astype(spec.image.dtype).reshape(spec.shape)
        return images


class ZstdCodec(StoreCodec):
    """Raw samples through zstd, maybe with a horizontal difference first."""

    codec_id = "zstd"
    summary = "raw samples through zstd, lossless and fast to decode"
    option_table = (
        Option("level", 19, "compression level", 1, 22),
        Option(
            "filter", "left", "code differences from the sample to the left, or the plain samples", choices=("none", "left")
        ),
    )

    def _pack(self, images: Pixels) -> bytes:
        import zstandard

        if self.options["filter"] == "left":
            images = np.diff(images, axis=2, prepend=np.zeros_like(images[:, :, :1]))  # unsigned: wraps
        # Threads would cut the frame by their number; the archive has its own digest of the pixels.
        compressor = zstandard.ZstdCompressor(level=self.options["level"], write_checksum=False, threads=0)
        return compressor.compress(super()._pack(images))

    def _unpack(self, payload: bytes, spec: GroupSpec) -> Pixels:
        import zstandard

        try:
            content_size = zstandard.get_frame_parameters(payload).content_size
            if content_size != spec.n_bytes:
                raise PayloadError(f"codec zstd: a frame of {content_size} bytes, expected {spec.n_bytes}", codec=self.codec_id)
            samples = zstandard.ZstdDecompressor().decompress(payload, max_output_size=spec.n_bytes, allow_extra_data=False)
        except (zstandard.ZstdError, MemoryError) as exc:
            raise PayloadError(f"codec zstd: {exc}", codec=self.codec_id) from exc
        images = super()._unpack(samples, spec)
        if self.options["filter"] == "left":
            np.cumsum(images, axis=2, dtype=images.dtype, out=images)
        return images
