"""`wire` and `digest`: bytes to dataclasses and back, and every check on the way."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcodec.archive import digest, wire
from batchcodec.archive.index import parse_index
from batchcodec.archive.wire import BlockEntry, BlockType, CodecRecord, GroupHead, Malformed, UnknownVersion
from batchcodec.errors import DriftError
from batchcodec.types import GroupSpec, ImageSpec

U32 = st.integers(0, 2**32 - 1)
U64 = st.integers(0, 2**64 - 1)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(), JSONS, max_size=4)
CODEC_BODY: dict[str, Any] = {"id": "x", "config": {}, "model": None, "exact": True, "distribution": None}


def test_header() -> None:
    header = wire.pack_header()
    assert len(header) == 32
    assert wire.parse_header(header) == (1, 0)


@given(U64, U64)
def test_trailer(index_offset: int, length: int) -> None:
    assert wire.parse_trailer(wire.pack_trailer(index_offset, length)) == (index_offset, length)


@given(st.sampled_from(BlockType), st.binary(), U32, st.booleans())
def test_block_header(kind: BlockType, body: bytes, n_items: int, required: bool) -> None:
    header = wire.parse_block_header(wire.pack_block_header(kind, body, n_items, required=required))
    assert header == wire.BlockHeader(kind, required, n_items, len(body), wire.checksum(body))


@given(OBJECTS)
def test_json(value: dict[str, Any]) -> None:
    assert wire.parse_json(wire.pack_json(value)) == value


@given(st.text(), OBJECTS, st.binary(), st.booleans(), st.none() | st.text())
def test_codec(codec_id: str, config: dict[str, Any], model: bytes, exact: bool, distribution: str | None) -> None:
    record = CodecRecord(codec_id, config, model, exact, distribution)
    got, sha256 = wire.parse_codec(wire.pack_codec(record))
    assert got == CodecRecord(codec_id, config, b"", exact, distribution)
    assert sha256 == (hashlib.sha256(model).digest() if model else None)


@given(st.binary(max_size=3000))
def test_model_and_directory(data: bytes) -> None:
    assert wire.parse_model(wire.pack_model(data)) == (hashlib.sha256(data).digest(), data)
    assert wire.parse_directory(wire.pack_directory(data, 7)) == (7, data)


@given(
    U64,
    U64,
    st.integers(1, 64),
    st.integers(1, 255),
    st.integers(1, 255),
    st.integers(1, 255),
    st.sampled_from(["uint8", "uint16"]),
    st.lists(U64, max_size=wire.MAX_SKETCH),
    st.binary(),
)
def test_group(
    reference: int, pixels: int, n: int, height: int, width: int, channels: int, dtype: str, sums: list[int], payload: bytes
) -> None:
    head = GroupHead(reference, GroupSpec(n, ImageSpec(height, width, channels, dtype)), pixels, tuple(sums))
    body = wire.pack_group(head, payload)
    assert wire.parse_group(body, n) == head
    assert body[head.n_bytes :] == payload


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3, 4, 5, 9]), st.integers(0, 2**40)), max_size=8))
def test_index(blocks: list[tuple[int, int]]) -> None:
    entries, position = [], wire.HEADER.size
    for kind, n_bytes in blocks:
        entries.append(BlockEntry(kind, position, n_bytes, int(kind in (4, 5))))
        position += wire.BLOCK.size + n_bytes
    assert list(parse_index(wire.pack_index(entries), position)) == entries


def header_with(**changes: int) -> bytes:
    fields = {"kind": 1, "flags": 0, "reserved": 0, "n_items": 0, "n_bytes": 0} | changes
    body_check = 0
    header = bytearray(
        wire.BLOCK.pack(
            wire.SYNC, fields["kind"], fields["flags"], fields["reserved"], fields["n_items"], 0, fields["n_bytes"], body_check
        )
    )
    struct.pack_into("<I", header, 12, wire.checksum(bytes(header)) & 0xFFFFFFFF)
    return bytes(header)


@pytest.mark.parametrize(
    ("header", "error"),
    [
        (b"\0" * 32, Malformed),
        (header_with()[:-1] + b"\x01", Malformed),
        (header_with(n_bytes=(1 << 40) + 1), Malformed),
        (header_with(n_bytes=1 << 63), Malformed),
        (header_with(flags=2), UnknownVersion),
        (header_with(reserved=1), UnknownVersion),
        (header_with(kind=8, flags=1), UnknownVersion),
    ],
)
def test_a_bad_block_header(header: bytes, error: type[Malformed]) -> None:
    with pytest.raises(error):
        wire.parse_block_header(header)


def test_an_unknown_ignorable_block_header() -> None:
    assert wire.parse_block_header(header_with(kind=200)).type == 200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"\xff{}",
        b'{"a":"\xff"}',
        b'{"a":' + b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":' + b"9" * 10_000 + b"}",
        b" " * (wire.MAX_JSON + 1),
    ],
)
def test_bad_json(data: bytes) -> None:
    with pytest.raises(Malformed):
        wire.parse_json(data)


@pytest.mark.parametrize(
    "change",
    [
        {"id": 1},
        {"config": []},
        {"exact": 1},
        {"exact": None},
        {"model": 5},
        {"model": "xyz"},
        {"model": "00"},
        {"distribution": 3},
    ],
)
def test_a_bad_codec_block(change: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        wire.parse_codec(wire.pack_json(CODEC_BODY | change))


def test_keys_of_later_codec_blocks_are_passed_over() -> None:
    assert wire.parse_codec(wire.pack_json(CODEC_BODY | {"later": 1}))[0].codec_id == "x"


MODEL_BODY = wire.pack_model(b"weights" * 100)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        MODEL_BODY[:39],
        MODEL_BODY[:-3],
        bytes(32) + MODEL_BODY[32:],
        MODEL_BODY[:32] + struct.pack("<Q", 699) + MODEL_BODY[40:],
        MODEL_BODY[:32] + struct.pack("<Q", 701) + MODEL_BODY[40:],
        MODEL_BODY[:32] + struct.pack("<Q", wire.MAX_MODEL + 1) + MODEL_BODY[40:],
        MODEL_BODY + MODEL_BODY[40:],
        MODEL_BODY + b"not zstd",
        MODEL_BODY[:40] + b"not zstd",
    ],
)
def test_a_bad_model_block(body: bytes) -> None:
    with pytest.raises(Malformed):
        wire.parse_model(body)


def test_models_share_one_limit() -> None:
    with pytest.raises(Malformed, match="limit"):
        wire.parse_model(MODEL_BODY, limit=699)


def group_body(**changes: int) -> bytes:
    fields = {"height": 2, "width": 2, "channels": 1, "dtype": 1, "n_sketch": 0} | changes
    return wire.GROUP.pack(0, 0, *fields.values())


@pytest.mark.parametrize(
    ("body", "n_items"),
    [
        (b"", 1),
        (group_body()[:-1], 1),
        (group_body(), 0),
        (group_body(), wire.MAX_GROUP_ITEMS + 1),
        (group_body(height=0), 1),
        (group_body(width=0), 1),
        (group_body(channels=0), 1),
        (group_body(height=1 << 24), 1),
        (group_body(dtype=0), 1),
        (group_body(dtype=3), 1),
        (group_body(n_sketch=1), 1),
        (group_body(n_sketch=65), 1),
        (group_body(height=1 << 17, width=1 << 15), 2),
    ],
)
def test_a_bad_group(body: bytes, n_items: int) -> None:
    with pytest.raises(Malformed):
        wire.parse_group(body, n_items)


def test_the_writer_refuses_what_the_reader_would() -> None:
    with pytest.raises(Malformed):
        wire.pack_group(GroupHead(0, GroupSpec(1, ImageSpec(1 << 24, 1, 1)), 0), b"")


@pytest.mark.parametrize(
    "entries",
    [
        [BlockEntry(1, 33, 10, 0)],  # a gap
        [BlockEntry(1, 31, 10, 0)],  # an overlap
        [BlockEntry(1, 32, 10, 0), BlockEntry(1, 73, 0, 0)],
        [BlockEntry(1, 32, 2**64 - 1, 0)],  # beyond the end
        [BlockEntry(1, 32, 9, 0)],  # not to the end
        [BlockEntry(6, 32, 10, 0)],  # an index in the index
        [BlockEntry(1, 32, 10, 1)],
        [BlockEntry(4, 32, 10, 0)],
        [BlockEntry(4, 32, 10, wire.MAX_GROUP_ITEMS + 1)],
        [BlockEntry(5, 32, 10, wire.MAX_ROWS + 1)],
        [],
    ],
)
def test_a_bad_index(entries: list[BlockEntry]) -> None:
    with pytest.raises(Malformed):
        parse_index(wire.pack_index(entries), 74)


def test_an_index_of_odd_length() -> None:
    with pytest.raises(Malformed):
        parse_index(bytes(20), 32)


# ---- digest and sketch


def test_the_digest_is_of_little_endian_samples_in_c_order() -> None:
    pixels = np.arange(600, dtype=np.uint16).reshape(1, 20, 30, 1)
    want = wire.checksum(pixels.astype("<u2").tobytes())
    assert digest.digest(pixels) == digest.digest(pixels.astype(">u2")) == digest.digest(np.asfortranarray(pixels)) == want


def splitmix64(j: int) -> int:
    """The j-th output, in plain integers."""
    mask = (1 << 64) - 1
    z = (j + 1) * 0x9E3779B97F4A7C15 & mask
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
    return z ^ z >> 31


def test_splitmix64_is_the_published_one() -> None:
    """First outputs for seed 0, as other implementations give them."""
    assert [splitmix64(j) for j in range(3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


@given(st.integers(1, 200), st.integers(1, 64))
def test_the_sketch_is_as_the_format_text_says(n: int, k: int) -> None:
    samples = np.random.default_rng(n).integers(0, 65536, n, np.uint16)
    lengths = [n // k + (run < n % k) for run in range(k)]
    starts = np.cumsum([0, *lengths]).tolist()
    sign = [1 if splitmix64(i // 64) >> i % 64 & 1 else -1 for i in range(n)]
    want = []
    for r in range(k):
        part = range(starts[r], starts[r + 1])
        total, signed = sum(int(samples[i]) for i in part), sum(sign[i] * int(samples[i]) for i in part)
        want.append(total % 2**32 + (signed % 2**32 << 32))
    assert digest.sketch(samples.reshape(1, 1, n, 1), k) == tuple(want)


def drifted(by: Callable[[np.ndarray], np.ndarray], *, exact: bool = False, keep_sketch: bool = True) -> None:
    pixels = np.random.default_rng(0).integers(1, 255, (2, 5, 7, 3), dtype=np.uint8)
    other = by(pixels.astype(np.int64)).astype(np.uint8)
    sums = digest.sketch(pixels) if keep_sketch else ()
    digest.check(other, digest.digest(pixels), sums, exact=exact, where="here")


def test_within_one_step_is_no_drift() -> None:
    noise = np.random.default_rng(1).integers(-1, 2, (2, 5, 7, 3))
    drifted(lambda p: p)
    drifted(lambda p: p, exact=True)
    drifted(lambda p: p + noise)
    drifted(lambda p: p + 1)
    drifted(lambda p: p - 1)


def test_drift() -> None:
    noise = np.random.default_rng(1).integers(-1, 2, (2, 5, 7, 3))
    with pytest.raises(DriftError, match="digest"):
        drifted(lambda p: p + noise, exact=True)
    with pytest.raises(DriftError, match="digest"):
        drifted(lambda p: p + noise, keep_sketch=False)
    with pytest.raises(DriftError, match="more than rounding"):
        drifted(lambda p: np.minimum(p + 3, 255))


def test_drift_that_leaves_all_sums_alone_is_found() -> None:
    """20 steps up and down in turn, as a wrong model may be off without a change of brightness."""
    pixels = np.random.default_rng(0).integers(20, 235, (4, 64, 64, 1), dtype=np.uint8)
    other = pixels.copy()
    other.reshape(-1)[0::2] += 20
    other.reshape(-1)[1::2] -= 20
    with pytest.raises(DriftError, match="more than rounding"):
        digest.check(other, digest.digest(pixels), digest.sketch(pixels), exact=False, where="here")


@given(st.integers(0, 2**32), st.sampled_from([1, 2]))
def test_rounding_errors_pass(seed: int, size: int) -> None:
    pixels = np.random.default_rng(0).integers(2, 254, (4, 32, 32, 3), dtype=np.uint8)
    noise = np.random.default_rng(seed).integers(-size, size + 1, pixels.shape)
    other = (pixels + noise).astype(np.uint8)
    assert not digest.check(other, digest.digest(pixels), digest.sketch(pixels), exact=False, where="here") or not noise.any()
