"""Frozen dataclasses that all parts share: what an item is, what a group is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
Pixels: TypeAlias = npt.NDArray[Any]
"""uint8 or uint16, [H, W, C] or [N, H, W, C]."""

CHANNEL_NAMES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
"""What the channels of an image mean, by their number."""


@lru_cache(16)
def _name_of(dtype: np.dtype[Any]) -> str:
    """Such as uint8; numpy takes ten microseconds to find it."""
    return str(dtype)


@dataclass(frozen=True, slots=True)
class Item:
    """One image with its name and attributes.

    Attributes:
        name: unique in its dataset; a relative path with `/`, such as `cats/0001.png`.
        pixels: uint8 or uint16 [H, W, C], C from 1 to 4: L, LA, RGB, RGBA.
        label: the class, where the dataset has classes.
        attributes: JSON values by key, kept in the archive (`mode`: the source's mode where it is not
            that of `pixels`, `exif_orientation`, `frames`, ...).
        notes: what reading changed, in a few words each ("P to RGB", "frame 1 of 42"); reports count them.
    """

    name: str
    pixels: Pixels
    label: str | None = None
    attributes: Mapping[str, JSON] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stack:
    """Items of one shape and dtype that follow each other, and their pixels as one array.

    Attributes:
        items: at least one.
        pixels: uint8 or uint16 [n, H, W, C].
    """

    items: Sequence[Item]
    pixels: Pixels


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """Shape and type of one image: items of equal spec may share a group."""

    height: int
    width: int
    channels: int
    dtype: str = "uint8"

    @classmethod
    def of(cls, pixels: Pixels) -> ImageSpec:
        """The spec of uint8 or uint16 [H, W, C]."""
        height, width, channels = pixels.shape
        return cls(height, width, channels, _name_of(pixels.dtype))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        return self.height, self.width, self.channels

    @property
    def n_bytes(self) -> int:
        """Bytes of one image without compression."""
        return self.height * self.width * self.channels * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        mode = CHANNEL_NAMES.get(self.channels, f"{self.channels} channels")
        bits = "" if self.dtype == "uint8" else f" {np.dtype(self.dtype).itemsize * 8}-bit"
        return f"{self.width}x{self.height} {mode}{bits}"


@dataclass(frozen=True, slots=True)
class ItemHead:
    """What a dataset knows of an item without decoding it.

    Attributes:
        spec: shape and type of its pixels.
        label: the class, where the dataset has classes.
        n_bytes: of the item's own file; None where it is part of an array.
    """

    spec: ImageSpec
    label: str | None = None
    n_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """Number, shape and type of the images of one group: `[n_items, height, width, channels]`."""

    n_items: int
    image: ImageSpec

    @classmethod
    def of(cls, images: Pixels) -> GroupSpec:
        """The spec of uint8 or uint16 [N, H, W, C]."""
        return cls(len(images), ImageSpec.of(images[0]))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, H, W, C)."""
        return (self.n_items, *self.image.shape)

    @property
    def n_bytes(self) -> int:
        """Bytes of all images without compression."""
        return self.n_items * self.image.n_bytes
