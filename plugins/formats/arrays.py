"""Arrays on disk, read item by item within bounded memory.

`WindowedArray` holds a megabyte of a plain file at a time: a mapping of the whole file would count as resident memory
as it is read. `StreamedArray` does the same for a compressed stream, which can only be read forwards: going back further than
its window starts over, so read it in order. `ForwardReader` is the window over such a stream.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from batchcodec.errors import InputError

WINDOW_BYTES = 4 << 20
ARRAY_WINDOW_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18
_SMALL_BYTES = 1 << 16

Array = np.ndarray[Any, np.dtype[Any]]


class ItemArray(Protocol):
    """The items of an array of `shape`: `[i]` is item `i`, of shape `shape[1:]`."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    parallel_reads: bool
    """As in `batchcodec.dataset`."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Array: ...


class WindowedArray:
    """The items of a C-order array of `shape` and `dtype` that begins at byte `offset` of a file.

    `[i]` copies item `i` out as a native-endian array. Each thread that reads holds at most one window (1 MiB, or one item if
    that is larger).

    Raises:
        InputError: the file is too short for the array.
    """

    parallel_reads = True

    def __init__(self, path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.shape = shape
        self.dtype = dtype
        self._native = dtype.newbyteorder("=")
        self._path = path
        self._offset = offset
        self._item_bytes = math.prod(shape[1:]) * dtype.itemsize
        self._windows = _Windows()
        needed = offset + shape[0] * self._item_bytes
        found = path.stat().st_size
        if found < needed:
            raise InputError(path, f"truncated: {needed} bytes expected, {found} found")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Array:
        if not self._item_bytes:
            return np.zeros(self.shape[1:], self.dtype)
        windows = self._windows
        if not windows.first <= index < windows.end:
            self._read_window(index)
        start = (index - windows.first) * self._item_bytes
        data = windows.data[start : start + self._item_bytes]
        if self._item_bytes <= _SMALL_BYTES:
            # NumPy would let other threads run for every copy, and then wait for its turn: that costs more than the copy.
            item = np.frombuffer(bytearray(data), self.dtype).reshape(self.shape[1:])
            return item if self.dtype.isnative else item.astype(self._native)
        return np.frombuffer(data, self.dtype).reshape(self.shape[1:]).astype(self._native)

    def _read_window(self, index: int) -> None:
        """Read the window of an item, in the place of the one that this thread has."""
        per_window = max(1, ARRAY_WINDOW_BYTES // self._item_bytes)
        first = index - index % per_window
        count = min(per_window, self.shape[0] - first)
        windows = self._windows
        windows.first = windows.end = 0
        windows.data = memoryview(b"")  # the old one goes before the new one comes
        n_bytes = count * self._item_bytes
        try:
            data = np.fromfile(self._path, np.uint8, n_bytes, offset=self._offset + first * self._item_bytes)
        except OSError as exc:
            raise InputError(self._path, f"cannot be read: {exc}") from exc
        if len(data) < n_bytes:
            raise InputError(self._path, "it has become shorter since it was opened")
        windows.data = data.data
        windows.first, windows.end = first, first + count

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_windows"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _windows=_Windows())


class _Windows(threading.local):
    """Of each thread: the bytes of its window, and the numbers of its first item and of the one behind its last."""

    first = end = 0
    data = memoryview(b"")


class ForwardReader:
    """A read-only file over a stream that only goes forwards. Reads within the last 4 MiB are free; before that it starts over.

    It is safe with threads (`read_at`) and after a fork: a child process opens the stream anew.

    Args:
        opener: opens the stream at its beginning.
    """

    def __init__(self, opener: Callable[[], IO[bytes]]) -> None:
        self._opener = opener
        self._lock = threading.RLock()
        self._reset()

    def _reset(self) -> None:
        self._stream: IO[bytes] | None = None
        self._close: Callable[[], object] | None = None
        self._pid = 0
        self._buffer = bytearray()
        self._start = 0  # offset of the buffer's first byte
        self._position = 0  # of `read`

    def read_at(self, offset: int, n_bytes: int) -> bytes:
        """Bytes `[offset, offset + n_bytes)`, fewer at the end of the stream."""
        with self._lock:
            if self._stream is None or offset < self._start or self._pid != os.getpid():
                self._restart()
            while (end := self._start + len(self._buffer)) < offset + n_bytes:
                chunk = self._stream.read(_CHUNK_BYTES) if self._stream is not None else b""
                if not chunk:
                    break
                self._buffer += chunk
                surplus = len(self._buffer) - max(WINDOW_BYTES, end + len(chunk) - offset)
                if surplus > 0:
                    del self._buffer[:surplus]
                    self._start += surplus
            first = max(0, offset - self._start)
            return bytes(self._buffer[first : first + n_bytes])

    def _restart(self) -> None:
        self.close()
        self._stream = stream = self._opener()
        # A reader that is dropped without `close` must not leave an open file behind.
        self._close = weakref.finalize(self, stream.close)
        self._pid = os.getpid()
        self._buffer.clear()
        self._start = 0

    def close(self) -> None:
        """Close the stream; reading opens it again."""
        with self._lock:
            if self._close is not None:
                self._close()
            self._stream = self._close = None

    def read(self, n_bytes: int = -1) -> bytes:
        """Read on from the position of `seek`."""
        if n_bytes < 0:
            parts = []
            while part := self.read(_CHUNK_BYTES):
                parts.append(part)
            return b"".join(parts)
        data = self.read_at(self._position, n_bytes)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set the position of `read`, from the beginning or relative to where it is."""
        self._position = offset if whence == os.SEEK_SET else self._position + offset
        return self._position

    def tell(self) -> int:
        """The position of `read`."""
        return self._position

    def __getstate__(self) -> dict[str, Any]:
        return {"_opener": self._opener}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["_opener"])  # type: ignore[misc]


class StreamedArray:
    """The items of a C-order array that begins at byte `offset` of a forward-only stream. `[i]` as in `WindowedArray`.

    Raises:
        InputError: (by `[i]`) the stream is damaged or ends too early.
    """

    parallel_reads = False  # safe, but threads that are not in step would make each other start over

    def __init__(
        self, path: Path, opener: Callable[[], IO[bytes]], offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self.shape = shape
        self.dtype = dtype
        self._path = path
        self._offset = offset
        self._item_bytes = math.prod(shape[1:]) * dtype.itemsize
        self._reader = ForwardReader(opener)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Array:
        start = self._offset + index * self._item_bytes
        try:
            data = self._reader.read_at(start, self._item_bytes)
        except STREAM_ERRORS as exc:
            raise InputError(self._path, f"damaged compressed data: {exc}") from exc
        if len(data) < self._item_bytes:
            raise InputError(self._path, f"truncated: {start + self._item_bytes} bytes expected, {start + len(data)} found")
        return np.frombuffer(data, self.dtype).reshape(self.shape[1:]).astype(self.dtype.newbyteorder("="))


def _stream_errors() -> tuple[type[Exception], ...]:
    """What decompressors raise on damaged data."""
    import lzma
    import zipfile

    return (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError)


STREAM_ERRORS = _stream_errors()
