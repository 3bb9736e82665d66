"""Small archives for the tests, written with a codec of a few lines; no plugin is involved."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import xxhash

from batchcodec.archive import digest, wire
from batchcodec.archive.directory import Row
from batchcodec.archive.reader import Archive
from batchcodec.archive.wire import BlockType, CodecRecord, GroupHead
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.codec import Codec
from batchcodec.errors import PayloadError
from batchcodec.types import JSON, GroupSpec, Item, Pixels


class XorCodec(Codec):
    """Samples, each byte combined with a key from the config and the first byte of the model."""

    codec_id = "test-xor"
    dtypes = ("uint8", "uint16")
    channels = (1, 2, 3, 4)
    offset: ClassVar[int] = 0
    """Added to the first samples on decoding: what another machine might do."""

    def __init__(self, *, key: int = 0, model: bytes = b"") -> None:
        self.key, self.model = key, model

    def get_config(self) -> dict[str, JSON]:
        return {"key": self.key}

    def get_model(self) -> bytes:
        return self.model

    @classmethod
    def restore(cls, config: dict[str, JSON], model: bytes) -> Self:
        return cls(key=int(str(config["key"])), model=model)

    def _xor(self, data: bytes) -> Pixels:
        return np.frombuffer(data, np.uint8) ^ np.uint8(self.key ^ (self.model[0] if self.model else 0))

    def encode(self, images: Pixels) -> bytes:
        return self._xor(images.astype(images.dtype.newbyteorder("<")).tobytes()).tobytes()

    def decode(self, payload: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
        if len(payload) != spec.n_bytes:
            raise PayloadError(f"{len(payload)} bytes, expected {spec.n_bytes}")
        images = self._xor(payload).view(spec.image.dtype).reshape(spec.shape).copy()
        images.reshape(-1)[:5] += type(self).offset
        return images if items is None else images[list(items)]


def restore(record: CodecRecord) -> Codec:
    """What the reader is given in these tests."""
    return XorCodec.restore(record.config, record.model)


def image(number: int, height: int = 3, width: int = 4, channels: int = 1, dtype: str = "uint8") -> Pixels:
    """Random samples, the same on every call."""
    high = np.iinfo(dtype).max + 1
    return np.random.default_rng(number).integers(0, high, (height, width, channels), dtype)


def items(n: int = 5, **shape: Any) -> list[Item]:
    """Items `i/000.bin`, ... of one shape."""
    return [Item(f"i/{i:03}.bin", image(i, **shape)) for i in range(n)]


def add_group(writer: ArchiveWriter, group: Iterable[tuple[int, Item]], codec: XorCodec, *, exact: bool = True) -> None:
    """One group of items with their places in the dataset."""
    placed = list(group)
    pixels = np.stack([item.pixels for _, item in placed])
    record = CodecRecord(codec.codec_id, codec.get_config(), codec.get_model(), exact, "tests")
    head = GroupHead(
        writer.add_codec(record), GroupSpec.of(pixels), digest.digest(pixels), () if exact else digest.sketch(pixels)
    )
    for _, item in placed:
        writer.add_name(item.name, "test")
    rows = [Row(order, item.name, item.label, item.attributes) for order, item in placed]
    writer.add_group(head, codec.encode(pixels), rows)


def packed(
    dataset: Sequence[Item],
    *,
    group_items: int = 2,
    codec: XorCodec | None = None,
    exact: bool = True,
    meta: dict[str, JSON] | None = None,
) -> bytes:
    """An archive of items of any shapes; groups form as `pack` forms them, so that mixed shapes leave the dataset's order."""
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    writer.add_meta({"created_by": "tests"} if meta is None else meta)
    waiting: dict[tuple[Any, ...], list[tuple[int, Item]]] = {}
    for order, item in enumerate(dataset):
        group = waiting.setdefault((item.pixels.shape, item.pixels.dtype), [])
        group.append((order, item))
        if len(group) == group_items:
            add_group(writer, group, codec or XorCodec(key=7), exact=exact)
            group.clear()
    for group in waiting.values():
        if group:
            add_group(writer, group, codec or XorCodec(key=7), exact=exact)
    writer.finish()
    return file.getvalue()


def smallest() -> bytes:
    """The archive of the hex dump in the format text: one gray pixel of value 42, named `a`, codec `store`."""
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    writer.add_meta({"created_by": "hand"})
    reference = writer.add_codec(CodecRecord("store", {}, b"", True, "batchcodec"))
    pixels = np.full((1, 1, 1, 1), 42, np.uint8)
    writer.add_group(GroupHead(reference, GroupSpec.of(pixels), digest.digest(pixels)), b"*", [Row(0, "a")])
    writer.finish()
    return file.getvalue()


# ---- archives by hand, to break what the writer never breaks

Block = tuple[int, bytes, int, bool]
"""(type, body, items, required)."""


def blocks_of(data: bytes) -> list[Block]:
    """The blocks of an archive but the INDEX."""
    index_offset, _ = wire.parse_trailer(data[-wire.TRAILER.size :])
    blocks, position = [], wire.HEADER.size
    while position < index_offset:
        header = wire.parse_block_header(data[position : position + wire.BLOCK.size])
        position += wire.BLOCK.size
        blocks.append((header.type, data[position : position + header.n_bytes], header.n_items, header.required))
        position += header.n_bytes
    return blocks


def assembled(blocks: Iterable[Block], header: bytes | None = None) -> bytes:
    """A whole file, with index and trailer to fit, of any blocks."""
    out = bytearray(header or wire.pack_header())
    entries = []
    for kind, body, n_items, required in blocks:
        entries.append(wire.BlockEntry(kind, len(out), len(body), n_items))
        out += wire.pack_block_header(kind, body, n_items, required=required) + body  # type: ignore[arg-type]
    index_offset = len(out)
    index = wire.pack_index(entries)
    out += wire.pack_block_header(BlockType.INDEX, index) + index
    return bytes(out) + wire.pack_trailer(index_offset, len(out) + wire.TRAILER.size)


def replaced(data: bytes, kind: BlockType, body: bytes, n_items: int | None = None) -> bytes:
    """The archive with the body of its first block of this type replaced, all checksums right."""
    blocks = blocks_of(data)
    place = next(i for i, block in enumerate(blocks) if block[0] == kind)
    blocks[place] = (kind, body, blocks[place][2] if n_items is None else n_items, True)
    return assembled(blocks)


def body_of(data: bytes, kind: BlockType) -> bytes:
    """The body of the first block of this type."""
    return next(block[1] for block in blocks_of(data) if block[0] == kind)


def file_header(major: int = 1, minor: int = 0, flags: int = 0) -> bytes:
    """A header of any version, with its checksum."""
    start = struct.pack("<8sHHIQ", wire.MAGIC, major, minor, flags, 0)
    return start + struct.pack("<Q", xxhash.xxh3_64_intdigest(start))


def read_all(path: Path) -> list[Item]:
    """Everything that can be read of an archive."""
    with Archive(path, restore) as archive:
        found = list(archive)
        assert [item.name for item in found] == archive.names
        assert all(archive[item.name].pixels.shape == item.pixels.shape for item in found)
        return found


def same(a: Iterable[Item], b: Iterable[Item]) -> bool:
    """Whether items are equal in all that an archive keeps."""
    return [_key(item) for item in a] == [_key(item) for item in b]


def _key(item: Item) -> tuple[Any, ...]:
    attributes = dict(item.attributes)
    return item.name, item.label, attributes, item.notes, str(item.pixels.dtype), item.pixels.shape, item.pixels.tobytes()
