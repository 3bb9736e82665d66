"""Open an archive with the codecs of this environment."""

from __future__ import annotations

from pathlib import Path

from batchcodec.archive.reader import CACHE_BYTES, Archive
from batchcodec.registry import registry


def open_archive(path: Path | str, *, cache_bytes: int = CACHE_BYTES, strict: bool = False, workers: int = 0) -> Archive:
    """An archive as a sequence of items: `[5]`, `["a/b.png"]`, `[10:20]`, `len`, iteration; use it in a `with` block.

    Args:
        path: the `.cpack` file.
        cache_bytes: decoded pixels to keep in memory.
        strict: decode whole groups only: then every pixel was compared with the digest from packing, in this process.
        workers: threads that `read` decodes with; 0 is one for each core.

    Raises:
        ArchiveError: it cannot be read.
    """
    return Archive(path, registry().restore, cache_bytes=cache_bytes, strict=strict, workers=workers)
