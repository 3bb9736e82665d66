"""A file with other bytes laid over parts of it, such as those that parity restored. The file is not touched."""

from __future__ import annotations

import bisect
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from batchcodec.archive import parity
from batchcodec.archive.scan import RandomAccess


class Overlay:
    """A file with other bytes laid over parts of it. Close it, or use it in a `with` block.

    Reading is thread-safe if the file's is. Bytes that are laid over are not read from the file.

    Attributes:
        n_bytes: length of the whole.
    """

    def __init__(self, file: RandomAccess) -> None:
        self._file = file
        self.n_bytes = file.n_bytes
        self._spool = parity.spool()
        self._n_spooled = 0
        self._patches: list[tuple[int, int, int]] = []  # start and stop in the file, place in the spool
        self._sorted = True
        self._lock = threading.Lock()

    def lay(self, offset: int, data: bytes) -> None:
        """Lay bytes over the file, where none were laid before."""
        with self._lock, parity.spooling():
            self._spool.seek(self._n_spooled)
            self._spool.write(data)
            self._patches.append((offset, offset + len(data), self._n_spooled))
            self._n_spooled += len(data)
            self._sorted = False

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Bytes at an offset; all of them or an error."""
        parts, stop = [], offset + n_bytes
        for start, end, place in self._over(offset, stop):
            if offset < start:
                parts.append(self._file.read(offset, start - offset))
            first, last = max(offset, start), min(stop, end)
            with self._lock, parity.spooling():
                self._spool.seek(place + first - start)
                parts.append(self._spool.read(last - first))
            offset = last
        if offset < stop:
            parts.append(self._file.read(offset, stop - offset))
        return b"".join(parts)

    def _over(self, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
        """The patches that touch some bytes."""
        with self._lock:
            if not self._sorted:  # once, rather than at each of maybe a million
                self._patches.sort()
                self._sorted = True
        place = bisect.bisect_right(self._patches, start, key=lambda patch: patch[1])
        while place < len(self._patches) and self._patches[place][0] < stop:
            yield self._patches[place]
            place += 1

    def close(self) -> None:
        """Forget what was laid over. The file stays open."""
        self._spool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
