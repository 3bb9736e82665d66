"""`.cpack` bytes to dataclasses and back: pure functions, all limits checked here. The law is `docs/cpack-format.md`.

A file is a header, blocks one after the other, and a trailer, with nothing between them and nothing left over. All integers are
little-endian. Every function that parses raises `Malformed` for bytes that the format text does not allow, and nothing else.
"""

from __future__ import annotations

import enum
import hashlib
import io
import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
import zstandard

from batchcodec.types import JSON, GroupSpec, ImageSpec

MAGIC = b"\x89CPK\r\n\x1a\n"
END_MAGIC = b"\x89CPKEND\n"
MAJOR, MINOR = 1, 1
"""The newest version; a file without parity is written as 1.0, which has all that it uses."""

HEADER = struct.Struct("<8sHHIQQ")  # magic, major, minor, flags, reserved, check
BLOCK = struct.Struct("<4sBBHIIQQ")  # sync, type, flags, reserved, items, check, body length, body checksum
TRAILER = struct.Struct("<QQQ8s")  # index offset, file length, check, end magic
GROUP = struct.Struct("<QQIIBBH")  # codec reference, pixel digest, height, width, channels, dtype, sketch length
MODEL = struct.Struct("<32sQ")  # SHA-256, length without compression
COUNTED = struct.Struct("<IQ")  # count, length without compression (directory)

SYNC = b"\xb1BLK"
REQUIRED = 1

MAX_BODY = 1 << 40
MAX_JSON = 1 << 24
MAX_JSON_DEPTH = 100
"""Levels of objects and lists: whatever prints or writes JSON recurses."""
MAX_MODEL = 1 << 30
"""Of one model, and of all models of an archive together."""
MAX_DIRECTORY = 1 << 29
MAX_ROWS = 1 << 21
MAX_SIDE = (1 << 24) - 1
MAX_GROUP_ITEMS = 1 << 20
MAX_GROUP_BYTES = 1 << 32
MAX_SKETCH = 64

DTYPES = {1: "uint8", 2: "uint16"}
_DTYPE_CODES = {name: code for code, name in DTYPES.items()}


class Malformed(ValueError):  # noqa: N818 (the reader turns it into CorruptArchiveError, which has the path)
    """Bytes that break the format."""


class UnknownVersion(Malformed):
    """A major version, flag or required block type of a later format."""


class BlockType(enum.IntEnum):
    """What a block holds."""

    META = 1
    MODEL = 2
    CODEC = 3
    GROUP = 4
    DIRECTORY = 5
    INDEX = 6
    PARITY = 7


def checksum(data: bytes | memoryview) -> int:
    """XXH3-64 with seed 0."""
    return xxhash.xxh3_64_intdigest(data)


# ---- header and trailer


def pack_header(minor: int = 0) -> bytes:
    """The first 32 bytes of a file of version 1.minor."""
    start = HEADER.pack(MAGIC, MAJOR, minor, 0, 0, 0)[:-8]
    return start + struct.pack("<Q", checksum(start))


def parse_header(data: bytes) -> tuple[int, int]:
    """(major, minor) of 32 bytes whose magic was found to be right."""
    _magic, major, minor, flags, reserved, check = HEADER.unpack(data)
    if checksum(data[:-8]) != check:
        raise Malformed("the header's checksum is wrong")
    if major != MAJOR:
        raise UnknownVersion(f"format version {major}.{minor}; this batchcodec reads {MAJOR}.x")
    if flags or reserved:
        raise UnknownVersion(f"header flags {flags:#x} that this batchcodec does not know")
    return major, minor


def pack_trailer(index_offset: int, file_length: int) -> bytes:
    """The last 32 bytes."""
    start = struct.pack("<QQ", index_offset, file_length)
    return start + struct.pack("<Q", checksum(start)) + END_MAGIC


def parse_trailer(data: bytes) -> tuple[int, int]:
    """(offset of the INDEX block, length of the file)."""
    index_offset, file_length, check, magic = TRAILER.unpack(data)
    if magic != END_MAGIC:
        raise Malformed("it does not end with a trailer")
    if checksum(data[:16]) != check:
        raise Malformed("the trailer's checksum is wrong")
    return index_offset, file_length


# ---- blocks


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """The 32 bytes before each body."""

    type: int
    required: bool
    n_items: int
    n_bytes: int
    body_check: int


def pack_block_header(kind: BlockType, body: bytes, n_items: int = 0, *, required: bool = True) -> bytes:
    """The header of a block with this body."""
    header = bytearray(
        BLOCK.pack(SYNC, kind, REQUIRED if required else 0, 0, n_items, 0, len(body), checksum(body)),
    )
    struct.pack_into("<I", header, 12, checksum(bytes(header)) & 0xFFFFFFFF)
    return bytes(header)


def parse_block_header(data: bytes) -> BlockHeader:
    """32 bytes to a block header."""
    sync, kind, flags, reserved, n_items, check, n_bytes, body_check = BLOCK.unpack(data)
    if sync != SYNC:
        raise Malformed("no block starts here")
    if checksum(data[:12] + bytes(4) + data[16:]) & 0xFFFFFFFF != check:
        raise Malformed("the block header's checksum is wrong")
    if flags & ~REQUIRED or reserved:
        raise UnknownVersion(f"block flags {flags:#x}/{reserved:#x} that this batchcodec does not know")
    if n_bytes > MAX_BODY:
        raise Malformed(f"a block of {n_bytes} bytes, over the limit of {MAX_BODY}")
    if kind not in BlockType.__members__.values() and flags & REQUIRED:
        raise UnknownVersion(f"block type {kind}, which is required for reading and unknown to this batchcodec")
    return BlockHeader(kind, bool(flags & REQUIRED), n_items, n_bytes, body_check)


# ---- JSON bodies: META and CODEC


def pack_json(value: JSON) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8."""
    _check_depth(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse_json(data: bytes, limit: int = MAX_JSON) -> dict[str, Any]:
    """A JSON object: all of what it holds can be written again."""
    if len(data) > limit:
        raise Malformed(f"JSON of {len(data)} bytes, over the limit of {limit}")
    try:
        # `loads` guesses the encoding of bytes, and takes NaN, infinities, equal keys and halves of surrogate pairs.
        value = json.loads(data.decode(), parse_float=_finite, parse_constant=_finite, object_pairs_hook=_distinct)
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as exc:
        raise Malformed(f"not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise Malformed("a JSON object was expected")
    _check_depth(value)
    return value


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:20]}")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("two equal keys in one object")
    return value


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_JSON_DEPTH):
        inside = (node.values() if isinstance(node, dict) else node for node in level)
        level = [child for children in inside for child in children if isinstance(child, (dict, list, tuple))]
        if not level:
            return
    raise Malformed(f"JSON of more than {MAX_JSON_DEPTH} levels")


@dataclass(frozen=True, slots=True)
class CodecRecord:
    """What it takes to decode the groups that refer to it.

    Attributes:
        codec_id: names the byte format of the payloads.
        config: plain JSON for `Codec.restore`.
        model: weights and tables, maybe none.
        exact: whether every machine decodes to the same pixels.
        distribution: the package that provided the codec, for the message when it is missing.
    """

    codec_id: str
    config: dict[str, JSON]
    model: bytes
    exact: bool
    distribution: str | None = None


def pack_codec(record: CodecRecord) -> bytes:
    """The body of a CODEC block; its checksum is how groups refer to it."""
    return pack_json(
        {
            "id": record.codec_id,
            "config": record.config,
            "model": hashlib.sha256(record.model).hexdigest() if record.model else None,
            "exact": record.exact,
            "distribution": record.distribution,
        }
    )


def parse_codec(body: bytes) -> tuple[CodecRecord, bytes | None]:
    """The record, still without its model, and the model's SHA-256 (None: it needs none)."""
    value = parse_json(body)
    codec_id, config, model = value.get("id"), value.get("config"), value.get("model")
    exact, distribution = value.get("exact"), value.get("distribution")
    if not (isinstance(codec_id, str) and isinstance(config, dict) and isinstance(exact, bool)):
        raise Malformed("a CODEC block without id, config or exact")
    if not isinstance(distribution, str | None):
        raise Malformed("the distribution of a CODEC block is not a string")
    sha256 = None
    if model is not None:
        try:
            sha256 = bytes.fromhex(model)
        except (ValueError, TypeError) as exc:
            raise Malformed("the model of a CODEC block is not a SHA-256 in hex") from exc
        if len(sha256) != 32:
            raise Malformed("the model of a CODEC block is not a SHA-256 in hex")
    return CodecRecord(codec_id, config, b"", exact, distribution), sha256


# ---- compressed bodies: MODEL and DIRECTORY


def _compress(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=19, write_content_size=False, write_checksum=False).compress(data)


def _decompress(data: bytes | memoryview, n_bytes: int, limit: int) -> bytes:
    """One zstd frame of exactly `n_bytes` bytes, allocating no more than that."""
    if n_bytes > limit:
        raise Malformed(f"{n_bytes} bytes after decompression, over the limit of {limit}")
    try:
        # A window of 8 MiB is what level 19 uses at most; a frame that asks for more is not ours.
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 23).stream_reader(data)
        # A stream may not deliver at once all that it has; a missing byte shows in the length.
        out = io.BytesIO()
        while out.tell() <= n_bytes and (part := reader.read(min(1 << 20, n_bytes + 1 - out.tell()))):
            out.write(part)
    except zstandard.ZstdError as exc:
        raise Malformed(f"zstd: {exc}") from exc
    if out.tell() != n_bytes:
        raise Malformed(f"zstd data of other length than the {n_bytes} bytes stated")
    return out.getvalue()  # without a copy


def pack_model(model: bytes) -> bytes:
    """The body of a MODEL block."""
    return MODEL.pack(hashlib.sha256(model).digest(), len(model)) + _compress(model)


def parse_model(body: bytes, limit: int = MAX_MODEL) -> tuple[bytes, bytes]:
    """(SHA-256, model); `limit` is what is left for models of up to `MAX_MODEL` bytes in all."""
    if len(body) < MODEL.size:
        raise Malformed("a MODEL block that is too short")
    sha256, n_bytes = MODEL.unpack_from(body)
    model = _decompress(memoryview(body)[MODEL.size :], n_bytes, limit)
    if hashlib.sha256(model).digest() != sha256:
        raise Malformed("the model's SHA-256 is wrong")
    return sha256, model


def pack_directory(table: bytes, n_groups: int) -> bytes:
    """The body of a DIRECTORY block from the table that `directory.pack_table` made."""
    return COUNTED.pack(n_groups, len(table)) + _compress(table)


def parse_directory(body: bytes) -> tuple[int, bytes]:
    """(number of groups that it covers, table)."""
    if len(body) < COUNTED.size:
        raise Malformed("a DIRECTORY block that is too short")
    n_groups, n_bytes = COUNTED.unpack_from(body)
    return n_groups, _decompress(memoryview(body)[COUNTED.size :], n_bytes, MAX_DIRECTORY)


# ---- GROUP


@dataclass(frozen=True, slots=True)
class GroupHead:
    """The fields of a GROUP body before the payload.

    Attributes:
        codec_ref: checksum of the CODEC body.
        spec: number, shape and dtype of the images.
        digest: XXH3-64 of the decoded pixels.
        sketch: two sums of the decoded samples over each of some equal runs (see `digest`); empty for exact codecs.
    """

    codec_ref: int
    spec: GroupSpec
    digest: int
    sketch: tuple[int, ...] = ()

    @property
    def n_bytes(self) -> int:
        """Bytes of the head; the payload follows."""
        return GROUP.size + 8 * len(self.sketch)


def pack_group(head: GroupHead, payload: bytes) -> bytes:
    """The body of a GROUP block; the number of items stands in the block header."""
    image = head.spec.image
    code = _DTYPE_CODES[image.dtype]
    _check_spec(head.spec)
    fixed = GROUP.pack(head.codec_ref, head.digest, image.height, image.width, image.channels, code, len(head.sketch))
    return fixed + struct.pack(f"<{len(head.sketch)}Q", *head.sketch) + payload


def parse_group(body: bytes, n_items: int) -> GroupHead:
    """The head of a GROUP body (or of its first bytes, enough to hold the head)."""
    if len(body) < GROUP.size:
        raise Malformed("a GROUP block that is too short")
    codec_ref, digest, height, width, channels, code, n_sketch = GROUP.unpack_from(body)
    if code not in DTYPES:
        raise Malformed(f"dtype code {code}")
    if n_sketch > MAX_SKETCH or len(body) < GROUP.size + 8 * n_sketch:
        raise Malformed(f"a sketch of {n_sketch} sums")
    spec = GroupSpec(n_items, ImageSpec(height, width, channels, DTYPES[code]))
    _check_spec(spec)
    sketch = struct.unpack_from(f"<{n_sketch}Q", body, GROUP.size)
    return GroupHead(codec_ref, spec, digest, sketch)


def _check_spec(spec: GroupSpec) -> None:
    image = spec.image
    sane = 1 <= image.height <= MAX_SIDE and 1 <= image.width <= MAX_SIDE and 1 <= image.channels <= 255
    if not sane or not 1 <= spec.n_items <= MAX_GROUP_ITEMS or spec.n_bytes > MAX_GROUP_BYTES:
        raise Malformed(f"a group of shape {spec.shape} {image.dtype}")


# ---- INDEX; `index` parses it


@dataclass(frozen=True, slots=True)
class BlockEntry:
    """Where a block is."""

    type: int
    offset: int
    n_bytes: int
    n_items: int


ITEM_LIMITS: dict[int, tuple[int, int]] = {
    BlockType.META: (0, 0),
    BlockType.MODEL: (0, 0),
    BlockType.CODEC: (0, 0),
    BlockType.GROUP: (1, MAX_GROUP_ITEMS),
    BlockType.DIRECTORY: (1, MAX_ROWS),
    BlockType.PARITY: (0, 0),
}
INDEX_DTYPE = np.dtype([("type", "<u1"), ("offset", "<u8"), ("n_bytes", "<u8"), ("n_items", "<u4")])


def pack_index(entries: Sequence[BlockEntry]) -> bytes:
    """The body of the INDEX block: one row for each block before it."""
    rows = [(e.type, e.offset, e.n_bytes, e.n_items) for e in entries]
    return np.array(rows, INDEX_DTYPE).tobytes()
