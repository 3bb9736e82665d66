"""Open an archive with the codecs of this environment."""

from __future__ import annotations

from pathlib import Path

from batchcodec.archive.reader import CACHE_BYTES, Archive
from batchcodec.registry import registry


def open_archive(path: Path | str, *, cache_bytes: int = CACHE_BYTES) -> Archive:
    """An archive as a sequence of items: `[5]`, `["a/b.png"]`, `[10:20]`, `len`, iteration; use it in a `with` block.

    Args:
        path: the `.cpack` file.
        cache_bytes: decoded pixels to keep in memory.

    Raises:
        ArchiveError: it cannot be read.
    """
    return Archive(path, registry().restore, cache_bytes=cache_bytes)
