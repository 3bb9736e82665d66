"""The `npy` format: one NumPy array of images.

What the axes mean is decided by one rule, and what would have to be guessed is refused:

| shape | read as |
|---|---|
| [N, H, W, C], C from 1 to 4 | N images |
| [N, C, H, W], C 1, 3 or 4, where the last axis is longer than 4 | N images, with the note "NCHW to NHWC" |
| [N, H, W] | N mono images; refused if W is 4 or less, since [H, W, C] would look the same |
| [H, W] | one mono image |

uint8 and uint16 are kept, bool becomes 0 and 255 (note "bool to L"), every other dtype is refused. Names are `000000.png`,
`000001.png`, ...; the format has no place for names, labels or attributes. Written is [N, H, W, C], or
[N, H, W] for gray images that are wider than 4.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, ClassVar

import numpy as np

from batchcodec.dataset import Format, stacks_of
from batchcodec.errors import EmptyDatasetError, InputError, ItemError
from batchcodec.types import ImageSpec, Item, ItemHead, Pixels

from .arrays import ItemArray, WindowedArray
from .lazy import LazyItems, name_digits, numbered_name
from .output import PixelStream, new_file
from .quiet import quiet

MAX_CHANNELS = 4
_HEADER_BYTES = 128  # room for any shape, and what NumPy itself writes
IMAGE_DTYPES = ("uint8", "uint16", "bool")


class NpyFormat(Format):
    """A `.npy` file."""

    format_id: ClassVar[str] = "npy"
    suffixes: ClassVar[tuple[str, ...]] = (".npy",)
    summary: ClassVar[str] = "a NumPy array [N, H, W, C] or [N, H, W] of uint8 or uint16"
    keeps_names: ClassVar[bool] = False
    keeps_labels: ClassVar[bool] = False

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether it is a file called `*.npy`."""
        return is_file_with_suffix(path, cls.suffixes)

    def read(self, path: Path) -> LazyItems:
        """The images of the array. Raises `InputError` if it is damaged or not an array of images."""
        path = Path(path)
        try:
            with path.open("rb") as file:
                shape, dtype, offset = read_header(path, file)
        except OSError as exc:
            raise InputError(path, f"cannot be read: {exc.strerror or exc}") from exc
        layout = Layout(path, "the array", shape, dtype)
        return ArrayItems(path, layout, WindowedArray(path, offset, layout.stored_shape, dtype))

    def write(self, path: Path, items: Iterable[Item]) -> None:
        """Write the pixels as [N, H, W, C] or [N, H, W]; items of several shapes or dtypes raise `InputError`."""
        path = Path(path)
        with new_file(path) as file:
            file.write(bytes(_HEADER_BYTES))
            stream = PixelStream(path, file, self.format_id)
            for stack in stacks_of(items):
                stream.append(stack)
            header = pixel_header(path, stream)
            file.seek(0)
            file.write(header)


def is_file_with_suffix(path: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether the path is a file, or a link to one, with one of these suffixes in any case. Never raises."""
    try:
        return Path(path).name.lower().endswith(suffixes) and Path(path).is_file()
    except (OSError, ValueError):
        return False


def array_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """The header of a `.npy` file of version 1.0, padded to 128 bytes (the next multiple of 64 if that is too short)."""
    descr = np.lib.format.dtype_to_descr(dtype)
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode("latin1")
    n_bytes = max(_HEADER_BYTES, -(-(10 + len(text) + 1) // 64) * 64)
    padded = text.ljust(n_bytes - 10 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


def pixel_header(path: Path, stream: PixelStream) -> bytes:
    """The header for all that was appended to a stream. Raises `EmptyDatasetError` if that is nothing."""
    if stream.image is None:
        raise EmptyDatasetError(path, "there is no image to write")
    return header_of(stream.image, stream.n_items)


def header_of(image: ImageSpec, n_items: int) -> bytes:
    """The header for so many images."""
    dtype = np.dtype(image.dtype).newbyteorder("<")
    height, width, channels = image.shape
    # Gray arrays have three axes everywhere; only where the last could be read as channels is it spelled out.
    shape = (height, width) if channels == 1 and width > MAX_CHANNELS else (height, width, channels)
    return array_header((n_items, *shape), dtype)


def read_header(path: Path, stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, dtype and offset of the data of a `.npy` stream at its beginning.

    Raises:
        InputError: it is damaged, holds Python objects, or is in Fortran order.
    """
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        with quiet():
            version = np.lib.format.read_magic(stream)
            found = readers[version](stream) if version in readers else None
    except OSError:
        raise
    except Exception as exc:  # the header is a Python literal: its parser raises nearly everything
        raise InputError(path, f"not a .npy array, or a damaged one: {exc}") from exc
    if found is None:
        raise InputError(path, f"version {version} of the .npy format is not supported")
    shape, fortran, dtype = found
    if dtype.hasobject:
        raise InputError(path, "the array holds Python objects, which are never unpickled; save it with a numeric dtype")
    if any(length < 0 for length in shape):
        raise InputError(path, f"damaged header: shape {shape}")
    # Fortran order differs from C order only if two axes are longer than 1.
    if fortran and sum(length > 1 for length in shape) > 1:
        raise InputError(path, "the array is in Fortran order; save np.ascontiguousarray(array)")
    return tuple(shape), dtype, stream.tell()


class Layout:
    """What the axes of an array mean: see the module's table.

    Attributes:
        stored_shape: the shape with N first: [H, W] has become [1, H, W].
        note: what reading changes, or None.

    Raises:
        InputError: the array is not one of images, or its axes are ambiguous.
    """

    def __init__(self, path: Path, what: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        if dtype.name not in IMAGE_DTYPES:
            raise InputError(path, f"{what} is {dtype}; images must be uint8 or uint16 (scale floats first)")
        self.note: str | None = "bool to L" if dtype.name == "bool" else None
        self.stored_shape = shape
        self._is_deep = dtype.name == "uint16"
        self._channels_first = False
        if len(shape) == 2:
            self.stored_shape = (1, *shape)
        elif len(shape) == 3:
            if 1 <= shape[2] <= MAX_CHANNELS:
                raise InputError(
                    path,
                    f"{what} of shape {list(shape)} may be one image [H, W, C] or {shape[0]} images [N, H, W]: "
                    "save array[None] for the first, array[..., None] for the second",
                )
        elif len(shape) == 4 and not 1 <= shape[3] <= MAX_CHANNELS and shape[1] in (1, 3, 4):
            self._channels_first = True
            self.note = "NCHW to NHWC" if self.note is None else f"NCHW to NHWC, {self.note}"
        elif len(shape) != 4 or not 1 <= shape[3] <= MAX_CHANNELS:
            raise InputError(
                path, f"{what} has the shape {list(shape)}; images are [N, H, W, C] with C from 1 to 4, or [N, H, W]"
            )
        if self.stored_shape[0] and 0 in self.stored_shape[1:]:
            raise InputError(path, f"{what} has the shape {list(shape)}: its images have no pixels")

    @property
    def spec(self) -> ImageSpec:
        """Shape and type of the pixels of each item."""
        height, width, channels = (*self.stored_shape[1:], 1)[:3]
        if self._channels_first:
            channels, height, width = self.stored_shape[1:]
        return ImageSpec(height, width, channels, "uint16" if self._is_deep else "uint8")

    def pixels(self, stored: Any) -> Pixels:
        """One item of the array as uint8 or uint16 [H, W, C]."""
        image = stored[..., None] if stored.ndim == 2 else stored
        if self._channels_first:
            image = np.moveaxis(image, 0, -1)
        if image.dtype == np.bool_:
            image = np.where(image, np.uint8(255), np.uint8(0))
        pixels: Pixels = np.ascontiguousarray(image)
        return pixels


class ArrayItems(LazyItems):
    """The images of one array, with the names and labels of other arrays where there are such."""

    def __init__(
        self, path: Path, layout: Layout, images: ItemArray, labels: ItemArray | None = None, names: ItemArray | None = None
    ) -> None:
        self._path = path
        self._layout = layout
        self._images = images
        self._labels = labels
        self._names = names
        self._digits = name_digits(len(images))
        self._notes = () if layout.note is None else (layout.note,)
        self.parallel_reads = all(array.parallel_reads for array in (images, labels, names) if array is not None)

    def __len__(self) -> int:
        return len(self._images)

    def _read(self, index: int) -> Item:
        name = numbered_name(index, self._digits)
        try:
            if self._names is not None:
                name = _text(self._names[index])
            pixels = self._layout.pixels(self._images[index])
            label = None if self._labels is None else _text(self._labels[index]) or None
        except ItemError:
            raise
        except InputError as exc:
            raise ItemError(self._path, name, exc.fields["reason"]) from exc
        except (SystemError, ValueError) as exc:  # by NumPy, for characters beyond Unicode
            raise ItemError(self._path, name, f"its name or label is not valid Unicode: {exc}") from exc
        return Item(name, pixels, label, notes=self._notes)

    def head(self, index: int) -> ItemHead | None:
        """Every item has the shape of the array."""
        try:
            label = None if self._labels is None else _text(self._labels[index]) or None
        except (InputError, SystemError, ValueError):
            return None
        return ItemHead(self._layout.spec, label)


def _text(value: Any) -> str:
    """A label or name as text: 3 -> "3", b"cat" -> "cat"."""
    scalar = value.reshape(())[()]
    return scalar.decode("utf-8", "replace") if isinstance(scalar, bytes) else str(scalar)
