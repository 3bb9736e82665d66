"""A `.cpack` file as blocks: opened, its header, trailer and index checked, and its blocks read by position and checked.

What the blocks mean is `reader`'s business. Reading is thread-safe, and safe in a forked child, since nothing depends on a file
position. The file is not mapped into memory: a mapping saves the copy out of the page cache, 0.03 ms for a megabyte of payload
that takes milliseconds to decode, and a file that is cut or fails under a mapping ends the process with SIGBUS. Here it is an
error like any other.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from batchcodec.archive import wire
from batchcodec.archive.index import parse_index
from batchcodec.archive.wire import BlockEntry, BlockType
from batchcodec.errors import (
    ArchiveError,
    CorruptArchiveError,
    NotAnArchiveError,
    TruncatedArchiveError,
    UnsupportedVersionError,
)


class RawFile:
    """The bytes of a file, read by position; also of one that is no whole archive.

    Args:
        path: of the file.
        file: the file, open already; it is then not closed here.

    Attributes:
        path: of the file.
        n_bytes: its length.

    Raises:
        NotAnArchiveError: it cannot be read, or is no file.
    """

    def __init__(self, path: Path, file: BinaryIO | None = None) -> None:
        self.path = path
        self._owned = file is None
        try:
            if file is None and not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its other end
                raise NotAnArchiveError(path, "not a file")
            self._file = file or path.open("rb", buffering=0)
            self.n_bytes = os.fstat(self._file.fileno()).st_size
        except OSError as exc:
            raise NotAnArchiveError(path, exc.strerror or str(exc)) from exc

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Bytes at an offset; all of them or an error."""
        parts, got = [], 0
        try:
            while got < n_bytes:
                part = os.pread(self._file.fileno(), min(n_bytes - got, 1 << 30), offset + got)
                if not part:  # cut since it was opened
                    end = min(offset + got, os.fstat(self._file.fileno()).st_size)
                    raise TruncatedArchiveError(self.path, f"it ends at byte {end}", offset=end)
                parts.append(part)
                got += len(part)
        except (OSError, ValueError) as exc:
            if not self._file.closed:
                reason = exc.strerror if isinstance(exc, OSError) else str(exc)
                raise CorruptArchiveError(self.path, f"byte {offset}: {reason}", offset=offset) from exc
        if self._file.closed:  # maybe by another thread meanwhile, and its descriptor may be another file by now
            raise ArchiveError(self.path, "the archive was closed")
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the file, unless it was open before."""
        if self._owned:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class BlockFile(RawFile):
    """An open archive file.

    Args:
        path: of the file.
        file: the file, open already; it is then not closed here.

    Attributes:
        path: of the file.
        n_bytes: its length.
        version: major and minor.
        entries: all blocks but the INDEX, in their order; they cover the file without a gap.
        index_bytes: length of the body of the INDEX.
        index_check: its XXH3-64.

    Raises:
        NotAnArchiveError, UnsupportedVersionError, TruncatedArchiveError, CorruptArchiveError: as they say.
    """

    def __init__(self, path: Path, file: BinaryIO | None = None) -> None:
        super().__init__(path, file)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        start = self.read(0, min(wire.HEADER.size, self.n_bytes))
        magic = wire.MAGIC[: len(start)]
        if not start or not start.startswith(magic):
            raise NotAnArchiveError(self.path, f"not a .cpack archive (it starts with {start[:8].hex() or 'nothing'})")
        if self.n_bytes < wire.HEADER.size + wire.TRAILER.size:
            raise TruncatedArchiveError(self.path, f"only {self.n_bytes} bytes of an archive are there")
        with self.parsing("header", 0):
            self.version = wire.parse_header(start)
        end = self.read(self.n_bytes - wire.TRAILER.size, wire.TRAILER.size)
        if not end.endswith(wire.END_MAGIC):
            raise TruncatedArchiveError(self.path, "the end is missing: it was cut, or not finished")
        with self.parsing("trailer", self.n_bytes - wire.TRAILER.size):
            index_offset, stated = wire.parse_trailer(end)
            if stated != self.n_bytes:
                raise wire.Malformed(f"the trailer says {stated} bytes, the file has {self.n_bytes}")
            if not wire.HEADER.size <= index_offset <= self.n_bytes - wire.TRAILER.size - wire.BLOCK.size:
                raise wire.Malformed("the index lies outside of the file")
        header, body = self._block(index_offset, None)
        with self.parsing("index", index_offset):
            if header.type != BlockType.INDEX:
                raise wire.Malformed("no INDEX block where the trailer says")
            if index_offset + wire.BLOCK.size + header.n_bytes + wire.TRAILER.size != self.n_bytes:
                raise wire.Malformed("bytes between index and trailer")
            self.entries = parse_index(body, index_offset)
        for entry in self.entries.unknown():
            with self.parsing("block", entry.offset):
                self._header(entry.offset, entry)  # refuses one that is required
        self.index_bytes, self.index_check = header.n_bytes, header.body_check

    @contextlib.contextmanager
    def parsing(self, what: str, offset: int) -> Iterator[None]:
        """Turn `Malformed` into the error that has path and place."""
        try:
            yield
        except wire.UnknownVersion as exc:
            raise UnsupportedVersionError(self.path, f"{what} at byte {offset}: {exc}", offset=offset) from exc
        except wire.Malformed as exc:
            raise CorruptArchiveError(self.path, f"{what} at byte {offset}: {exc}", offset=offset) from exc

    def _header(self, offset: int, entry: BlockEntry | None) -> wire.BlockHeader:
        """The header of the block at an offset, checked against the index."""
        header = wire.parse_block_header(self.read(offset, wire.BLOCK.size))
        if offset + wire.BLOCK.size + header.n_bytes > self.n_bytes - wire.TRAILER.size:
            raise wire.Malformed("it reaches over the end of the file")
        if entry is not None and (header.type, header.n_bytes, header.n_items) != (entry.type, entry.n_bytes, entry.n_items):
            raise wire.Malformed("it is not what the index says")
        return header

    def _block(self, offset: int, entry: BlockEntry | None) -> tuple[wire.BlockHeader, bytes]:
        """Header and body of the block at an offset, both checked."""
        what = "block" if entry is None or entry.type not in BlockType.__members__.values() else BlockType(entry.type).name
        with self.parsing(what, offset):
            header = self._header(offset, entry)
            body = self.read(offset + wire.BLOCK.size, header.n_bytes)
            if wire.checksum(body) != header.body_check:
                raise wire.Malformed("its checksum is wrong: the file is damaged")
        return header, body

    def body(self, entry: BlockEntry) -> bytes:
        """The body of a block of the index, checked."""
        return self._block(entry.offset, entry)[1]

    def bodies(self, kind: BlockType) -> Iterator[tuple[BlockEntry, bytes]]:
        """Entries and bodies of all blocks of a type."""
        for entry in self.entries.of(kind):
            yield entry, self.body(entry)
