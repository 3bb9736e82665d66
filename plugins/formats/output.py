"""Writing files that are new, and streams of pixels whose number is known only at the end."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

import numpy as np

from batchcodec.errors import InputError, OutputError
from batchcodec.types import ImageSpec, Item, Stack

BUFFER = 1 << 18
"""Bytes: images of a few kilobytes are written some dozens at once. What is longer is not copied; most stacks are."""


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A new file to write and read. If the block fails, the file is removed.

    Raises:
        OutputError: the path exists or cannot be written, or the disk is full.
    """
    try:
        stream = path.open("x+b", BUFFER)
    except OSError as exc:
        raise OutputError(path, exc.strerror or str(exc)) from exc
    try:
        with stream:
            yield stream
    except BaseException as exc:
        path.unlink(missing_ok=True)
        if isinstance(exc, OSError):
            raise OutputError(path, exc.strerror or str(exc)) from exc
        raise


@contextmanager
def waiting_file(path: Path) -> Iterator[IO[bytes]]:
    """A nameless temporary file in the folder of `path`, for data that can be written there only at the end."""
    try:
        stream = tempfile.TemporaryFile(dir=path.parent, buffering=BUFFER)  # noqa: SIM115  (entered below; only opening is guarded here)
    except OSError as exc:
        raise OutputError(path, exc.strerror or str(exc)) from exc
    with stream:
        yield stream


class PixelStream:
    """Appends the pixels of items of one shape and dtype to a file, little-endian, in C order.

    Attributes:
        n_items: how many were appended.
        image: their common spec; None before the first.
    """

    def __init__(self, path: Path, stream: IO[bytes], format_id: str) -> None:
        self.n_items = 0
        self.image: ImageSpec | None = None
        self._path = path
        self._stream = stream
        self._format_id = format_id
        self._first_name = ""
        self._kind: tuple[tuple[int, ...], np.dtype[np.generic]] | None = None

    def append(self, stack: Stack) -> None:
        """Append the pixels of some items. Raises `InputError` naming one if they are not like the first of all."""
        kind = stack.pixels.shape[1:], stack.pixels.dtype
        if kind != self._kind:  # asked first, as to make an `ImageSpec` takes longer than to write a small image
            self._check(stack.items[0])
            self._kind = kind
        pixels = np.ascontiguousarray(stack.pixels, dtype=stack.pixels.dtype.newbyteorder("<"))
        self._stream.write(pixels.data)
        self.n_items += len(stack.items)

    def _check(self, item: Item) -> None:
        """Note the spec of the first item; refuse one of another."""
        image = ImageSpec.of(item.pixels)
        if self.image is None:
            self.image, self._first_name = image, item.name
        elif image != self.image:
            raise InputError(
                self._path,
                f"{self._format_id} holds images of one kind only: {item.name!r} is {image}, "
                f"the first item {self._first_name!r} is {self.image}; unpack to a folder instead",
                item=item.name,
            )
