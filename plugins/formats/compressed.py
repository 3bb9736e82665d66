"""Compressed streams, told by their first bytes: gzip, xz, bzip2, zstd."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, BinaryIO, cast

_MAGIC = {b"\x1f\x8b": "gz", b"\xfd7zXZ\x00": "xz", b"BZh": "bz2", b"\x28\xb5\x2f\xfd": "zst"}


def compression_of(path: Path) -> str | None:
    """`gz`, `xz`, `bz2` or `zst` by the file's first bytes; None if it is none of them."""
    with path.open("rb") as file:
        head = file.read(6)
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def opener(path: Path, kind: str) -> Callable[[], IO[bytes]]:
    """A picklable function that opens the decompressed stream at its beginning."""
    return partial(_open, path, kind)


def _open(path: Path, kind: str) -> IO[bytes]:
    if kind == "gz":
        import gzip

        return cast("IO[bytes]", gzip.open(path, "rb"))
    if kind == "xz":
        import lzma

        return lzma.open(path, "rb")
    if kind == "bz2":
        import bz2

        return bz2.open(path, "rb")
    return io.BufferedReader(_ZstdStream(path))


class _ZstdStream(io.RawIOBase):
    """A zstd file whose damage is an OSError, as with the other kinds."""

    def __init__(self, path: Path) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._file = path.open("rb")
        self._reader = zstandard.ZstdDecompressor().stream_reader(self._file, read_across_frames=True)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        try:
            data = self._reader.read(len(view))
        except self._error as exc:
            raise OSError(f"damaged zstd data: {exc}") from exc
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def compressor(stream: BinaryIO, kind: str) -> IO[bytes]:
    """A stream that compresses into another one; the bytes depend on the content only (no time, no name)."""
    if kind == "gz":
        import gzip

        return cast("IO[bytes]", gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=stream, mtime=0))
    if kind == "xz":
        import lzma

        return lzma.open(stream, "wb")
    if kind == "bz2":
        import bz2

        return bz2.open(stream, "wb")
    import zstandard

    return cast("IO[bytes]", zstandard.ZstdCompressor(level=9).stream_writer(stream, closefd=False))
