"""`PictureCodec`: the base of all codecs that code pictures of an image format, one per image or as mosaics.

A subclass says how one picture [H, W, C] becomes bytes and back (`encode_picture`, `decode_picture`); this class does the
layout (see `layout`), refuses what the format cannot hold, and turns every failure of a foreign library into one of ours.
`decode_picture` must refuse a picture of another size from its header, before any pixel is decoded.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np

from batchcodec.errors import BatchcodecError, CodecError, MissingDependencyError, PayloadError, UnsupportedImageError
from batchcodec.types import JSON, GroupSpec, ImageSpec, Pixels

from .layout import Grid, MosaicRule, join_pictures, split_pictures
from .options import Option, OptionsCodec, OptionValue, item_indices

MOSAIC = Option("mosaic", False, "code the group as one picture, a grid of its images")
LOSSLESS = Option("lossless", False, "give back the very pixels")


_turn = threading.Lock()
"""Held by the thread that decodes a group of small pictures, or encodes one where the encoder holds the interpreter's lock."""


def _after_fork() -> None:
    """The thread that held it is not there any more."""
    global _turn
    _turn = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class PictureCodec(OptionsCodec):
    """Codes groups as pictures of one image format.

    Attributes:
        max_side: longest side that the format or its library takes, pixels.
        max_area: largest area that it takes, pixels.
        lossy_dtypes, lossy_channels: what it takes when it is not lossless.
        colour_multiple: see `MosaicRule`; used when it is not lossless.
        mosaic_rule: how mosaics are laid out; None for one picture per image.
        small: pixels of a picture up to which one thread at a time decodes a group. Between two short calls into a library a
            thread wants the interpreter's lock, and waits for it longer than it works: two are slower than one.
        encodes_alone: likewise for encoding, pictures of all sizes: the library keeps the interpreter's lock.
    """

    max_side: ClassVar[int]
    max_area: ClassVar[int] = 1 << 40
    lossy_dtypes: ClassVar[tuple[str, ...]] = ("uint8",)
    lossy_channels: ClassVar[tuple[int, ...]] = (1, 2, 3, 4)
    colour_multiple: ClassVar[int] = 8
    small: ClassVar[int] = 0
    encodes_alone: ClassVar[bool] = False

    def __init__(self, **options: OptionValue) -> None:
        super().__init__(**options)
        multiple = 1 if self.lossless else self.colour_multiple
        self.mosaic_rule = MosaicRule(self.max_side, colour_multiple=multiple) if self.options["mosaic"] else None

    @abstractmethod
    def encode_picture(self, pixels: Pixels) -> bytes:
        """Code one picture [H, W, C], C-contiguous; it may raise anything."""

    @abstractmethod
    def decode_picture(self, data: memoryview, spec: ImageSpec) -> Pixels:
        """The picture [H, W, C] of this spec; it may raise anything, and must before decoding if the size is another."""

    @property
    def lossless(self) -> bool:
        """As the option says; a codec without it overrides this."""
        return bool(self.options.get("lossless", False))

    @property
    def partial(self) -> bool:
        """Unless the images of a group are one picture."""
        return self.mosaic_rule is None

    @property
    def exact(self) -> bool:
        """Lossless pictures are; for the others see the package's docstring."""
        return self.lossless

    def check(self, spec: ImageSpec) -> None:
        """Raise `UnsupportedImageError` if images of this spec cannot be encoded with these options."""
        super().check(spec)
        reason = None
        if not self.lossless and not (spec.dtype in self.lossy_dtypes and spec.channels in self.lossy_channels):
            reason = "them only with lossless=true"
        elif not 1 <= min(spec.height, spec.width) <= max(spec.height, spec.width) <= self.max_side:
            reason = f"sides from 1 to {self.max_side} pixels"
        elif spec.height * spec.width > self.max_area:
            reason = f"at most {self.max_area} pixels"
        if reason:
            raise UnsupportedImageError(
                f"codec {self.codec_id} cannot hold {spec} images; it takes {reason}", codec=self.codec_id, spec=str(spec)
            )

    def get_config(self) -> dict[str, JSON]:
        """The options, and under `layout` the rule of the mosaics."""
        layout = {} if self.mosaic_rule is None else {"layout": self.mosaic_rule.to_config()}
        return {**super().get_config(), **layout}

    @classmethod
    def restore(cls, config: dict[str, JSON], model: bytes) -> Self:
        """The decoder for this config; `PayloadError` or `ModelError` if it is not one of this codec."""
        codec = super().restore(config, model)
        if codec.mosaic_rule is not None:
            codec.mosaic_rule = MosaicRule.from_config(config.get("layout"))
        return codec

    def encode(self, images: Pixels) -> bytes:
        """Code uint8 or uint16 [N, H, W, C]."""
        spec = GroupSpec.of(images)
        self.check(spec.image)
        grid = Grid.of(spec, self.mosaic_rule)
        try:
            with _turn if self.encodes_alone else contextlib.nullcontext():
                return join_pictures([self.encode_picture(grid.compose(images, picture)) for picture in range(grid.n_pictures)])
        except BatchcodecError:
            raise
        except Exception as exc:
            raise CodecError(
                f"codec {self.codec_id} failed to encode {spec.n_items} {spec.image} images: {exc}", codec=self.codec_id
            ) from exc

    def decode(self, payload: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
        """The pixels [N, H, W, C], or those of the asked items; only the pictures that hold them are decoded."""
        self._check_payload_spec(spec)
        grid = Grid.of(spec, self.mosaic_rule)
        pictures = split_pictures(payload, grid.n_pictures)
        rows_of: dict[int, list[tuple[int, int]]] = {}
        wanted = item_indices(items, spec.n_items)
        for row, item in enumerate(wanted):
            rows_of.setdefault(item // grid.per_picture, []).append((row, item))
        decoded: Pixels | None = None
        with _turn if math.prod(grid.picture_size(0)) <= self.small else contextlib.nullcontext():
            for picture, rows in rows_of.items():
                height, width = grid.picture_size(picture)
                picture_spec = ImageSpec(height, width, spec.image.channels, spec.image.dtype)
                canvas = self._decode_checked(pictures[picture], picture_spec)
                if decoded is None:  # only now: a spec that is a lie has failed above
                    decoded = np.empty((len(wanted), *spec.image.shape), dtype=spec.image.dtype)
                for row, item in rows:
                    decoded[row] = grid.cut(canvas, item)
        return np.empty((0, *spec.image.shape), dtype=spec.image.dtype) if decoded is None else decoded

    def _decode_checked(self, data: memoryview, spec: ImageSpec) -> Pixels:
        try:
            pixels = self.decode_picture(data, spec)
        except BatchcodecError:
            raise
        except Exception as exc:
            raise PayloadError(f"codec {self.codec_id}: not a picture of {spec}: {exc}", codec=self.codec_id) from exc
        if pixels.shape != spec.shape or pixels.dtype != spec.dtype:
            raise PayloadError(
                f"codec {self.codec_id}: decoded {pixels.dtype} {pixels.shape}, expected {spec.dtype} {spec.shape}",
                codec=self.codec_id,
            )
        return pixels


def import_imagecodecs(what: str) -> Any:
    """The module imagecodecs, or `MissingDependencyError` saying what needs it.

    imagecodecs is BSD-3-Clause; the libraries in its wheels have terms of their own, permissive ones but for the GCC runtime
    libgomp (GPL with its linking exception). It is an optional dependency and no part of this package.
    """
    try:
        import imagecodecs
    except ImportError as exc:
        raise MissingDependencyError(what, "imagecodecs", "imagecodecs") from exc
    logger = logging.getLogger("imagecodecs")  # it logs what is odd in a picture, and Python prints what nobody handles
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    return imagecodecs
