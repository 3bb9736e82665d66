"""What an archive says of itself, without decoding a pixel."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from batchcodec.archive.reader import Archive
from batchcodec.archive.wire import CodecRecord
from batchcodec.archive.writer import ByteCount
from batchcodec.opening import open_archive
from batchcodec.types import JSON


@dataclass(frozen=True)
class CodecInfo:
    """One codec of an archive.

    Attributes:
        codec_id: names the byte format.
        n_items: coded with it.
        payload_bytes: of those items.
        exact: whether every machine decodes to the same pixels.
        config: as stored.
        model_bytes: weights and tables without compression.
        model_sha256: of those, in hex, also where the archive only names its model; None without a model.
        model_name: of a model that the archive names and does not hold; else None.
    """

    codec_id: str
    n_items: int
    payload_bytes: int
    exact: bool
    config: dict[str, JSON]
    model_bytes: int
    model_sha256: str | None
    model_name: str | None


@dataclass(frozen=True)
class ArchiveInfo:
    """Contents and sizes of an archive. Sizes in bytes; `meta` is what was recorded when it was packed.

    Attributes:
        n_bytes: length of the file; the sum of `bytes`.
        overhead_per_item: directory, index and framing (all but payload and weights), bytes for each item.
        directory_index_per_item: of these, directory and index.
        raw_bytes: of the pixels without compression.
        source_bytes: of the files that were packed, as recorded.
        bits_per_pixel: of the whole file, weights and index counted.
        bytes_per_item: of the whole file but weights.
    """

    path: str
    version: str
    n_items: int
    n_groups: int
    n_bytes: int
    bytes: ByteCount
    overhead_per_item: float
    directory_index_per_item: float
    bytes_per_item: float
    raw_bytes: int
    n_pixels: int
    source_bytes: int | None
    bits_per_pixel: float
    ratio_to_raw: float
    ratio_to_source: float | None
    exact: bool
    shapes: dict[str, int]
    labels: dict[str, int]
    codecs: list[CodecInfo]
    meta: dict[str, JSON]


def info(path: Path | str) -> ArchiveInfo:
    """Read the head of every group, and the directory.

    Raises:
        ArchiveError: the archive cannot be read.
    """
    with open_archive(path) as archive:
        return describe(archive)


def describe(archive: Archive) -> ArchiveInfo:
    """The info of an open archive."""
    n_items = len(archive)
    shapes: Counter[str] = Counter()
    items: Counter[int] = Counter()
    payloads: Counter[int] = Counter()
    raw_bytes = n_pixels = 0
    for group in range(archive.n_groups):
        head = archive.group_head(group)
        shapes[str(head.spec.image)] += head.spec.n_items
        items[head.codec_ref] += head.spec.n_items
        payloads[head.codec_ref] += archive.group_bytes(group) - head.n_bytes
        raw_bytes += head.spec.n_bytes
        n_pixels += head.spec.n_items * head.spec.image.height * head.spec.image.width
    codecs = [_codec_info(record, items[reference], payloads[reference]) for reference, record in archive.codecs.items()]
    count = archive.byte_count()
    source_bytes = archive.meta.get("source_bytes")
    source = source_bytes if type(source_bytes) is int and 0 <= source_bytes < 1 << 63 else None
    each = max(1, n_items)
    return ArchiveInfo(
        path=str(archive.path),
        version=".".join(map(str, archive.version)),
        n_items=n_items,
        n_groups=archive.n_groups,
        n_bytes=count.total,
        bytes=count,
        overhead_per_item=count.overhead / each,
        directory_index_per_item=(count.directory + count.index) / each,
        bytes_per_item=(count.total - count.model) / each,
        raw_bytes=raw_bytes,
        n_pixels=n_pixels,
        source_bytes=source,
        bits_per_pixel=8 * count.total / max(1, n_pixels),
        ratio_to_raw=raw_bytes / count.total,
        ratio_to_source=None if source is None else source / count.total,
        exact=all(codec.exact for codec in codecs),
        shapes=dict(shapes.most_common()),
        labels=dict(sorted(Counter(label for label in archive.labels if label is not None).items())),
        codecs=codecs,
        meta=archive.meta,
    )


def _codec_info(record: CodecRecord, n_items: int, payload_bytes: int) -> CodecInfo:
    sha256 = hashlib.sha256(record.model).hexdigest() if record.model else None
    name = None
    named = record.config.get("model")  # as `hyperprior-1` refers to a model that the archive does not hold
    if not record.model and isinstance(named, dict) and isinstance(named.get("sha256"), str):
        sha256, name = str(named["sha256"]), str(named.get("name", ""))
    return CodecInfo(
        codec_id=record.codec_id,
        n_items=n_items,
        payload_bytes=payload_bytes,
        exact=record.exact,
        config=record.config,
        model_bytes=len(record.model),
        model_sha256=sha256,
        model_name=name,
    )
