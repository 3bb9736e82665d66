"""Targets: the `.cpack` file itself. A whole archive, its framing, its blocks, the table of a directory."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from archive.samples import body_of
from helpers import picture

from batchcodec.archive import columns, digest, directory, wire
from batchcodec.archive.blocks import BlockFile
from batchcodec.archive.directory import Row
from batchcodec.archive.index import parse_index
from batchcodec.archive.reader import Archive
from batchcodec.archive.wire import BlockType, CodecRecord, GroupHead
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.codec import Codec
from batchcodec.errors import ArchiveError, BatchcodecError
from batchcodec.registry import registry
from batchcodec.types import GroupSpec

from . import mutators
from .oracle import Target


@cache
def scratch() -> Path:
    """A folder for the files that targets read, gone with the process; in memory where that can be."""
    memory = Path("/dev/shm")
    holder = tempfile.TemporaryDirectory(prefix="batchcodec-fuzz-", dir=memory if memory.is_dir() else None)
    _holders.append(holder)
    return Path(holder.name)


_holders: list[tempfile.TemporaryDirectory[str]] = []


def file_with(data: bytes, name: str) -> Path:
    """A file of these bytes."""
    path = scratch() / name
    path.write_bytes(data)
    return path


# ---- whole archives


def sample(codecs: Iterable[tuple[str, dict[str, object]]], *, n: int = 2, channels: int = 1, dtype: str = "uint8") -> bytes:
    """An archive with one group for each codec, with labels, attributes and META."""
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    writer.add_meta({"created_by": "fuzz", "n_skipped": 1, "mean_psnr": 40.5, "source_bytes": 999})
    order = 0
    for codec_id, options in codecs:
        codec: Codec = registry().codec_class(codec_id)(**options)
        images = np.stack([picture((8, 9, channels), i, dtype) for i in range(n)])
        record = registry().record(codec)
        sketch = () if codec.exact else digest.sketch(_decoded(codec, images))
        head = GroupHead(writer.add_codec(record), GroupSpec.of(images), digest.digest(_decoded(codec, images)), sketch)
        rows = [Row(order + i, f"{codec_id}/{order + i}.png", "ab"[i % 2], {"k": [i], "s": "x"}) for i in range(n)]
        writer.add_group(head, codec.encode(images), rows)
        order += n
    writer.finish()
    return file.getvalue()


def _decoded(codec: Codec, images: np.ndarray) -> np.ndarray:
    return codec.decode(codec.encode(images), GroupSpec.of(images))


def _archives() -> Iterable[bytes]:
    yield sample([("store", {}), ("zstd", {}), ("png", {}), ("jpeg", {"quality": 50})])
    yield sample([("store", {}), ("bmp", {"mosaic": True})], channels=3)
    yield sample([("zstd", {"filter": "none"}), ("png", {})], dtype="uint16")
    yield sample([("png", {"mosaic": True}), ("webp", {"lossless": True, "method": 0})], channels=4, n=3)
    yield sample([])


def read_archive(data: bytes) -> None:
    """Open, describe and decode everything; each part fails on its own. Decoded samples are those that the head promises."""
    from batchcodec.report.info import describe

    path = file_with(data, "input.cpack")
    with Archive(path, registry().restore) as archive:
        for ask in (lambda: archive.meta, lambda: archive.codecs, lambda: describe(archive), lambda: "a" in archive):
            _suppressed(ask)
        for group in range(min(archive.n_groups, 16)):
            _suppressed(lambda group=group: _read_group(archive, group))
        items = list(archive)
        assert [item.name for item in items] == archive.names
        assert len(set(archive.names)) == len(items) or not _suppressed(lambda: archive[archive.names[0]])
        for group, pairs in enumerate(archive.groups(lambda group, error: None)):
            del group
            assert all(archive.names[index] == item.name for index, item in pairs)


def _read_group(archive: Archive, group: int) -> None:
    pixels, head = archive.decode_group(group), archive.group_head(group)
    if pixels.shape != head.spec.shape or str(pixels.dtype) != head.spec.image.dtype:
        raise AssertionError(f"group {group} is {pixels.dtype} {pixels.shape}")
    if archive.codecs[head.codec_ref].exact and digest.digest(pixels) != head.digest:
        raise AssertionError(f"group {group} of an exact codec has other pixels than its digest says")


def _suppressed(ask: object) -> bool:
    """Whether it went well."""
    try:
        ask()  # type: ignore[operator]
    except BatchcodecError:
        return False
    return True


ARCHIVE = Target("archive", read_archive, _archives, (BatchcodecError,), mutators.archive)


# ---- framing


def read_framing(data: bytes) -> None:
    """Header, trailer and index of a file; then the parts of it by themselves."""
    if len(data) >= 32:
        for parse in (wire.parse_header, wire.parse_trailer, wire.parse_block_header):
            with contextlib.suppress(wire.Malformed):
                parse(data[:32])
    with contextlib.suppress(wire.Malformed):
        parse_index(data[8:], int.from_bytes(data[:8], "little"))
    blocks = BlockFile(file_with(data, "framing.cpack"))
    try:
        covered = wire.HEADER.size + sum(wire.BLOCK.size + entry.n_bytes for entry in blocks.entries)
        assert covered + wire.BLOCK.size + blocks.index_bytes + wire.TRAILER.size == len(data)
    finally:
        blocks.close()


def _framings() -> Iterable[bytes]:
    whole = sample([("store", {})], n=1)
    yield whole
    yield whole[:32] + whole[-32:]
    index = body_of_index(whole)
    yield wire.parse_trailer(whole[-32:])[0].to_bytes(8, "little") + index


def body_of_index(data: bytes) -> bytes:
    """The body of the INDEX block."""
    at = wire.parse_trailer(data[-32:])[0]
    return data[at + wire.BLOCK.size : -wire.TRAILER.size]


FRAMING = Target(
    "framing", read_framing, _framings, (ArchiveError,), lambda data, change, seed: mutators.repaired(change(data))
)


# ---- bodies of blocks: the first byte is the type

_PARSERS = {
    BlockType.META: wire.parse_json,
    BlockType.MODEL: wire.parse_model,
    BlockType.CODEC: wire.parse_codec,
    BlockType.GROUP: lambda body: wire.parse_group(body, 3),
    BlockType.DIRECTORY: wire.parse_directory,
}


def read_block(data: bytes) -> None:
    """One body; what JSON was taken can be written."""
    if data and data[0] in _PARSERS:
        found = _PARSERS[BlockType(data[0])](data[1:])
        if data[0] == BlockType.META:
            assert wire.parse_json(wire.pack_json(found)) == found


def _bodies() -> Iterable[bytes]:
    whole = sample([("jpeg", {})])
    for kind in (BlockType.META, BlockType.CODEC, BlockType.GROUP, BlockType.DIRECTORY):
        yield bytes([kind]) + body_of(whole, kind)
    yield bytes([BlockType.MODEL]) + wire.pack_model(b"model " * 30)
    yield bytes([BlockType.CODEC]) + wire.pack_codec(CodecRecord("x", {"a": [1, {"b": None}]}, b"m", False, "d"))


def _body_changed(data: bytes, change: mutators.Change, seed: int) -> bytes:
    return data[:1] + mutators.body_change(data[0], data[1:], change) if data and data[0] in _PARSERS else change(data)


BLOCK = Target("block", read_block, _bodies, (wire.Malformed,), _body_changed)


# ---- the table of a directory


def read_table(data: bytes) -> None:
    """The rows of a table; what was taken is written and read again without change."""
    n_rows = directory.Cursor(data).varint()
    rows = columns.parse_table(data, n_rows)
    assert len(rows) == n_rows
    assert all(0 <= row.order < 1 << 63 and 1 <= len(row.name.encode()) <= directory.MAX_NAME_BYTES for row in rows)
    assert columns.parse_table(directory.pack_table(rows), n_rows) == rows


def _tables() -> Iterable[bytes]:
    yield directory.pack_table([])
    yield directory.pack_table([Row(i, f"a/{i:03}.png", None if i % 3 else "l") for i in range(20)])
    yield directory.pack_table(
        [Row(7, "z"), Row(3, "zz", "é", {"a": 1, "b": [None, {}]}), Row(1 << 62, "é" * 20, "", {"a": "x"})]
    )


TABLE = Target("directory", read_table, _tables, (wire.Malformed,))
