"""The `idx` format of MNIST and its relatives: `train-images-idx3-ubyte`, with or without `.gz`.

A file is a magic number (0x00000803: unsigned bytes, three axes), the lengths of the axes as big-endian 32-bit numbers, and
the bytes. [N, H, W] and [N, H, W, C] (0x00000804, C from 1 to 4) are read; [N, H, W] of mono uint8 is written. Names are
`000000.png`, ...

Labels are in a file beside it (0x00000801), which is used if it is there and must then be as long: `images` in the name becomes
`labels` and `idx3` becomes `idx1`, with or without `.gz`; for `digits.idx` it is `digits-labels.idx`. Attributes have no place.
"""

from __future__ import annotations

import gzip
import math
import re
import shutil
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, ClassVar

import numpy as np

from batchcodec.dataset import Format, stacks_of
from batchcodec.errors import EmptyDatasetError, InputError
from batchcodec.types import ImageSpec, Item

from .arrays import ItemArray, StreamedArray, WindowedArray
from .compressed import compression_of, compressor, opener
from .npy import ArrayItems, Layout
from .output import PixelStream, new_file, waiting_file

_UBYTE = 0x08
_SUFFIXES = (".idx", ".idx3", ".idx4", ".idx3-ubyte", ".idx4-ubyte", "-idx3-ubyte", "-idx4-ubyte")
_STREAM_ERRORS = (OSError, EOFError, zlib.error)


class IdxFormat(Format):
    """An IDX file of images, and the file of labels beside it."""

    format_id: ClassVar[str] = "idx"
    suffixes: ClassVar[tuple[str, ...]] = tuple(suffix + gz for suffix in _SUFFIXES for gz in ("", ".gz"))
    summary: ClassVar[str] = "MNIST's IDX images, with the labels beside them, plain or .gz"
    keeps_names: ClassVar[bool] = False

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether it is a file with one of the suffixes, or one without any suffix that begins like an IDX file of images."""
        try:
            path = Path(path)
            if not path.is_file():
                return False
            if path.name.lower().endswith(cls.suffixes):
                return True
            name = path.name.lower().removesuffix(".gz")
            if "." in name or "idx" not in name:
                return False
            with gzip.open(path, "rb") if compression_of(path) == "gz" else path.open("rb") as stream:
                return stream.read(4) in (b"\0\0\x08\x03", b"\0\0\x08\x04")
        except (*_STREAM_ERRORS, ValueError):
            return False

    def read(self, path: Path) -> ArrayItems:
        """The images, with their labels. Raises `InputError` if a file is damaged or the two do not fit."""
        path = Path(path)
        images = _read_array(path)
        if len(images.shape) not in (3, 4):
            what = "labels" if len(images.shape) == 1 else f"an array of {len(images.shape)} axes"
            raise InputError(path, f"holds {what}, not images; name the images file instead")
        shape = images.shape if len(images.shape) == 4 else (*images.shape, 1)
        if not 1 <= shape[3] <= 4:
            raise InputError(path, f"images of shape {list(shape[1:])} are not supported; the last axis is 1 to 4 channels")
        layout = Layout(path, "the array", shape, images.dtype)
        labels: ItemArray | None = None
        for beside in _label_paths(path):
            if beside.is_file():
                labels = _read_array(beside)
                if labels.shape != (len(images),):
                    raise InputError(beside, f"labels of shape {list(labels.shape)} for {len(images)} images in {path.name}")
                break
        return ArrayItems(path, layout, images, labels)

    def write(self, path: Path, items: Iterable[Item]) -> None:
        """Write the images and, if the items have labels, the file of labels beside them.

        Raises:
            InputError: an image is not mono uint8 of the first one's size, or a label is not an integer from 0 to 255.
        """
        path = Path(path)
        labels = bytearray()
        n_labelled = 0
        # The header tells the number of images, and a gzip stream cannot be patched: pixels wait beside the target.
        with waiting_file(path) as waiting, _output(path) as file:
            pixels = PixelStream(path, waiting, self.format_id)
            for stack in stacks_of(items):
                if stack.pixels.dtype != np.uint8 or stack.pixels.shape[3] != 1:
                    name, kind = stack.items[0].name, ImageSpec.of(stack.pixels[0])
                    raise InputError(path, f"idx holds 8-bit mono images only: {name!r} is {kind}", item=name)
                pixels.append(stack)
                for item in stack.items:
                    labels.append(0 if item.label is None else _label_byte(path, item.name, item.label))
                    n_labelled += item.label is not None
            if pixels.image is None:
                raise EmptyDatasetError(path, "there is no image to write")
            if n_labelled not in (0, pixels.n_items):
                raise InputError(path, f"{n_labelled} of {pixels.n_items} items have a label; idx has them for all or for none")
            file.write(_header((pixels.n_items, pixels.image.height, pixels.image.width)))
            waiting.seek(0)
            shutil.copyfileobj(waiting, file, 1 << 20)
        if n_labelled:
            with _output(_label_paths(path)[0]) as file:
                file.write(_header((len(labels),)) + labels)


def _label_byte(path: Path, name: str, label: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,2}", label) or int(label) > 255:
        raise InputError(path, f"idx holds labels from 0 to 255 only: {name!r} has {label!r}", item=name)
    return int(label)


def _label_paths(path: Path) -> list[Path]:
    """Where the labels of an images file may be; the first is where they are written."""
    name = path.name
    bare, gz = (name[:-3], name[-3:]) if name.lower().endswith(".gz") else (name, "")
    labels = bare.replace("images", "labels").replace("idx3", "idx1").replace("idx4", "idx1")
    if labels == bare:
        stem, dot, suffix = bare.rpartition(".")
        labels = f"{stem}-labels{dot}{suffix}" if dot else f"{bare}-labels"
    return [path.with_name(labels + gz), path.with_name(labels + ("" if gz else ".gz"))]


def _header(shape: tuple[int, ...]) -> bytes:
    return bytes((0, 0, _UBYTE, len(shape))) + b"".join(length.to_bytes(4, "big") for length in shape)


@contextmanager
def _output(path: Path) -> Iterator[IO[bytes]]:
    with new_file(path) as file:
        if path.name.lower().endswith(".gz"):
            with compressor(file, "gz") as packed:
                yield packed
        else:
            yield file


def _read_array(path: Path) -> WindowedArray | StreamedArray:
    """The array of an IDX file; its length is checked against the header. Raises `InputError`."""
    try:
        compressed = compression_of(path) == "gz"
        with gzip.open(path, "rb") if compressed else path.open("rb") as stream:
            magic = stream.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0":
                raise InputError(path, f"not an IDX file: it begins with {magic.hex(' ') or 'nothing'}, expected 00 00 08 03")
            if magic[2] != _UBYTE:
                raise InputError(path, f"IDX element type 0x{magic[2]:02x} is not supported; images are unsigned bytes (0x08)")
            lengths = stream.read(4 * magic[3])
            shape = tuple(int.from_bytes(lengths[at : at + 4], "big") for at in range(0, len(lengths), 4))
            offset = 4 + 4 * magic[3]
            expected = offset + math.prod(shape)
            found = _gzip_size(path, expected) if compressed else path.stat().st_size
    except _STREAM_ERRORS as exc:
        raise InputError(path, f"cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    if len(lengths) < 4 * magic[3] or not shape or found != expected:
        what = "truncated" if found < expected or not shape else "longer than its header says"
        raise InputError(path, f"{what}: {expected} bytes expected for {list(shape)}, {found} found")
    if compressed:
        return StreamedArray(path, opener(path, "gz"), offset, shape, np.dtype(np.uint8))
    return WindowedArray(path, offset, shape, np.dtype(np.uint8))


def _gzip_size(path: Path, expected: int) -> int:
    """Bytes that a gzip file decompresses to. Its last four bytes tell this; if they disagree with `expected`, count."""
    with path.open("rb") as file:
        file.seek(-4, 2)
        if int.from_bytes(file.read(4), "little") == expected % (1 << 32):
            return expected
    n_bytes = 0
    with gzip.open(path, "rb") as stream:
        try:
            while chunk := stream.read(1 << 20):
                n_bytes += len(chunk)
        except (EOFError, zlib.error):  # cut: what there is counts
            return n_bytes
    return n_bytes
