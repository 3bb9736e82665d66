"""Hostile and damaged archives: one test per error class, every prefix, every flipped byte."""

from __future__ import annotations

import contextlib
import io
import struct
from pathlib import Path

import numpy as np
import pytest

from batchcodec.archive import directory, wire
from batchcodec.archive.directory import Row
from batchcodec.archive.reader import Archive
from batchcodec.archive.wire import BlockType, GroupHead
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.errors import (
    ArchiveError,
    BatchcodecError,
    CodecError,
    CorruptArchiveError,
    CorruptGroupError,
    DriftError,
    NotAnArchiveError,
    TruncatedArchiveError,
    UnsupportedVersionError,
)
from batchcodec.types import GroupSpec, ImageSpec, Item

from .samples import (
    Block,
    XorCodec,
    add_group,
    assembled,
    blocks_of,
    body_of,
    file_header,
    image,
    items,
    packed,
    read_all,
    replaced,
    restore,
    same,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.cpack"


def refused(path: Path, data: bytes, error: type[BatchcodecError], match: str | None = None) -> None:
    """Opening the archive, or reading it all, raises exactly this class and names the file."""
    path.write_bytes(data)
    with pytest.raises(error, match=match) as raised:
        read_all(path)
    assert type(raised.value) is error
    assert str(path) in str(raised.value)


# ---- one test per class


@pytest.mark.parametrize("data", [b"", b"hello, I am a text", b"\x89PNG\r\n\x1a\n", bytes(100), b"PK\3\4"], ids=repr)
def test_not_an_archive(path: Path, data: bytes) -> None:
    refused(path, data, NotAnArchiveError)


def test_a_path_that_cannot_be_read_is_not_an_archive(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.cpack", tmp_path / ("x" * 300)):
        with pytest.raises(NotAnArchiveError):
            Archive(path, restore)


BLOCKS = blocks_of(packed(items(4)))


@pytest.mark.parametrize(
    "data",
    [
        assembled(BLOCKS, header=file_header(major=2)),
        assembled(BLOCKS, header=file_header(major=0)),
        assembled(BLOCKS, header=file_header(flags=1)),
        assembled([*BLOCKS, (8, b"", 0, True)]),
        assembled([(99, b"?", 0, True), *BLOCKS]),
    ],
)
def test_unsupported_version(path: Path, data: bytes) -> None:
    refused(path, data, UnsupportedVersionError)


def test_unknown_block_flags(path: Path) -> None:
    for kind in (BlockType.GROUP, BlockType.DIRECTORY, BlockType.INDEX):
        data = bytearray(packed(items(2)))
        place = 0
        while data[place + 4] != kind:
            place = data.index(wire.SYNC, place + 1)
        data[place + 5] |= 4
        data[place + 12 : place + 16] = bytes(4)
        check = wire.checksum(bytes(data[place : place + 32])) & 0xFFFFFFFF
        data[place + 12 : place + 16] = struct.pack("<I", check)
        refused(path, bytes(data), UnsupportedVersionError)


def test_truncated(path: Path) -> None:
    data = packed(items(4))
    for length in (4, 8, 31, 32, 63, 64, len(data) - 32, len(data) - 1):
        refused(path, data[:length], TruncatedArchiveError)


def trailer_of(data: bytes, *, offset: int = 0, length: int = 0) -> bytes:
    """The archive with other numbers in its trailer, whose check is right."""
    index_offset, stated = wire.parse_trailer(data[-32:])
    return data[:-32] + wire.pack_trailer((index_offset + offset) % 2**64, (stated + length) % 2**64)


GOOD = packed(items(4))
INDEX_AT = wire.parse_trailer(GOOD[-32:])[0]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (GOOD[:20] + b"\1" + GOOD[21:], "header's checksum"),
        (GOOD[:-20] + b"\1" + GOOD[-19:], "trailer's checksum"),
        (trailer_of(GOOD, length=1), "the trailer says"),
        (trailer_of(GOOD, offset=1), "no block starts here"),
        (trailer_of(GOOD, offset=2**63), "outside of the file"),
        (trailer_of(GOOD, offset=-INDEX_AT), "outside of the file"),
        (trailer_of(GOOD, offset=32 - INDEX_AT), "no INDEX block"),
        (GOOD[:INDEX_AT] + GOOD[INDEX_AT:-32] + b"\0" + wire.pack_trailer(INDEX_AT, len(GOOD) + 1), "between index and"),
    ],
)
def test_corrupt_framing(path: Path, data: bytes, match: str) -> None:
    refused(path, data, CorruptArchiveError, match)


def with_index(entries: bytes) -> bytes:
    """The good archive with another INDEX body."""
    head = GOOD[:INDEX_AT] + wire.pack_block_header(BlockType.INDEX, entries) + entries
    return head + wire.pack_trailer(INDEX_AT, len(head) + 32)


def index_with(place: int, **changes: int) -> bytes:
    body = body_index()
    fields = dict(zip(("type", "offset", "n_bytes", "n_items"), struct.unpack_from("<BQQI", body, 21 * place), strict=True))
    return with_index(body[: 21 * place] + struct.pack("<BQQI", *(fields | changes).values()) + body[21 * place + 21 :])


def body_index() -> bytes:
    return GOOD[INDEX_AT + 32 : -32]


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (with_index(b""), "does not end where"),
        (with_index(body_index()[:-1]), "odd length"),
        (with_index(body_index()[21:]), "gap or an overlap"),
        (with_index(body_index() * 2), "gap or an overlap"),
        (index_with(0, offset=33), "gap or an overlap"),
        (index_with(0, n_bytes=2**64 - 1), "gap or an overlap"),
        (index_with(2, n_items=2**32 - 1), "items"),
        (index_with(2, n_items=0), "items"),
        (index_with(0, type=6), "type 6"),
        (index_with(0, type=99), "not what the index says"),
        (index_with(2, n_items=3), "other items than the groups"),
        (index_with(4, n_items=2**21 + 1), "items"),
    ],
)
def test_a_corrupt_index(path: Path, data: bytes, match: str) -> None:
    refused(path, data, CorruptArchiveError, match)


def directory_block(rows: list[Row], n_groups: int) -> Block:
    return BlockType.DIRECTORY, wire.pack_directory(directory.pack_table(rows), n_groups), len(rows), True


ROWS = [Row(i, f"{i}") for i in range(4)]
NO_DIRECTORY = [block for block in BLOCKS if block[0] != BlockType.DIRECTORY]


@pytest.mark.parametrize(
    ("blocks", "match"),
    [
        ([], "other items than the groups"),
        ([directory_block(ROWS[:2], 1)], "other items than the groups"),
        ([directory_block(ROWS, 2), directory_block(ROWS[:2], 1)], "other items than the groups"),
        ([directory_block(ROWS, 1)], "not those of the groups"),
        ([directory_block(ROWS, 3)], "not those of the groups"),
        ([directory_block(ROWS[:2], 1), directory_block(ROWS[2:], 1)], "not those of the groups"),
        ([directory_block([*ROWS[:3], Row(3, "0")], 2)], "two items have one name"),
        ([directory_block([*ROWS[:3], Row(0, "3")], 2)], "one place in the dataset"),
        ([(BlockType.DIRECTORY, b"short", 4, True)], "too short"),
        ([(BlockType.DIRECTORY, struct.pack("<IQ", 2, 20) + b"not zstd", 4, True)], "zstd"),
    ],
)
def test_a_corrupt_directory(path: Path, blocks: list[Block], match: str) -> None:
    refused(path, assembled([*NO_DIRECTORY, *blocks]), CorruptArchiveError, match)


def test_a_good_directory_by_hand(path: Path) -> None:
    first, second = directory_block(ROWS[:2], 1), directory_block(ROWS[2:], 1)
    path.write_bytes(assembled([*NO_DIRECTORY[:-1], first, NO_DIRECTORY[-1], second]))
    assert [item.name for item in read_all(path)] == ["0", "1", "2", "3"]


def test_corrupt_meta_leaves_the_items(path: Path) -> None:
    path.write_bytes(replaced(GOOD, BlockType.META, b"{"))
    assert same(read_all(path), items(4))
    with Archive(path, restore) as archive, pytest.raises(CorruptArchiveError, match="META"):
        _ = archive.meta


@pytest.mark.parametrize("body", [b"{}", b"[" * 100_000, body_of(GOOD, BlockType.CODEC)[:-1]])
def test_a_corrupt_codec_block_leaves_the_names(path: Path, body: bytes) -> None:
    refused(path, replaced(GOOD, BlockType.CODEC, body), CorruptGroupError, "CODEC")
    with Archive(path, restore) as archive:
        assert len(archive.names) == 4


def test_a_codec_or_model_that_is_not_there(path: Path) -> None:
    refused(path, assembled([b for b in BLOCKS if b[0] != BlockType.CODEC]), CorruptGroupError, "is not in the archive")
    blocks = blocks_of(packed(items(2), codec=XorCodec(model=b"weights")))
    refused(path, assembled([b for b in blocks if b[0] != BlockType.MODEL]), CorruptGroupError, "no model")


@pytest.mark.parametrize("kind", [BlockType.CODEC, BlockType.MODEL])
def test_a_damaged_codec_or_model_loses_its_own_groups_alone(path: Path, kind: BlockType) -> None:
    file = io.BytesIO()
    made = ArchiveWriter(file)
    dataset = items(3)
    for i, codec in enumerate([XorCodec(model=b"weights"), XorCodec(key=2), XorCodec(model=b"others")]):
        add_group(made, [(i, dataset[i])], codec)
    made.finish()
    data = file.getvalue()
    place = data.index(wire.SYNC + bytes([kind])) + 32
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with Archive(path, restore) as archive:
        with pytest.raises(CorruptGroupError, match=kind.name):
            archive[0]
        assert same(archive[1:], dataset[1:])
        with pytest.raises(CorruptArchiveError, match=kind.name):
            _ = archive.codecs


def test_a_codec_block_twice_is_harmless(path: Path) -> None:
    blocks = blocks_of(packed(items(4), codec=XorCodec(key=3, model=b"weights")))
    path.write_bytes(assembled([b for block in blocks for b in ([block] * 2 if block[0] in (2, 3) else [block])]))
    assert same(read_all(path), items(4))


def test_models_beyond_the_limit_of_all_models(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = blocks_of(packed(items(2), codec=XorCodec(model=b"w" * 60)))
    more: Block = (BlockType.MODEL, wire.pack_model(b"v" * 60), 0, True)
    path.write_bytes(assembled([more, *blocks]))
    assert same(read_all(path), items(2))
    monkeypatch.setattr(wire, "MAX_MODEL", 100)
    refused(path, assembled([more, *blocks]), CorruptGroupError, "limit")


def damaged_group(data: bytes, group: int, at: int = -1) -> bytes:
    """One byte of a group's body flipped, its block header left as it was."""
    place = -1
    for _ in range(group + 1):
        place = data.index(wire.SYNC + bytes([BlockType.GROUP]), place + 1)
    length = struct.unpack_from("<Q", data, place + 16)[0]
    place += 32 + at % length
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_corrupt_group_leaves_the_others(path: Path) -> None:
    dataset = items(6)
    path.write_bytes(damaged_group(packed(dataset), 1))
    with Archive(path, restore) as archive:
        for i in (2, 3):
            with pytest.raises(CorruptGroupError) as raised:
                archive[i]
            assert raised.value.fields["group"] == 1
        assert same([archive[i] for i in (0, 1, 4, 5)], dataset[:2] + dataset[4:])
        with pytest.raises(CorruptGroupError):
            list(archive.groups())
        lost: list[tuple[int, BatchcodecError]] = []
        found = [place for group in archive.groups(lambda g, e: lost.append((g, e))) for place, _ in group]
        assert found == [0, 1, 4, 5]
        assert [(group, type(error)) for group, error in lost] == [(1, CorruptGroupError)]


@pytest.mark.parametrize("spec", [ImageSpec(3, 4, 2), ImageSpec(3, 4, 1, "uint16"), ImageSpec(16384, 16384, 4)])
def test_a_payload_that_is_not_of_the_group(path: Path, spec: ImageSpec) -> None:
    body = body_of(GOOD, BlockType.GROUP)
    head = wire.parse_group(body, 2)
    bad = wire.pack_group(GroupHead(head.codec_ref, GroupSpec(2, spec), head.digest), body[head.n_bytes :])
    refused(path, replaced(GOOD, BlockType.GROUP, bad), CorruptGroupError)


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), MemoryError(), KeyError("key")])
def test_a_codec_that_fails_in_a_foreign_way(path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    path.write_bytes(GOOD)
    for method in ("decode", "restore"):
        with monkeypatch.context() as patch:
            patch.setattr(XorCodec, method, fail)
            with pytest.raises(CodecError, match=f"group 0: its codec failed: {type(error).__name__}"):
                read_all(path)


def test_drift_of_an_exact_codec(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(GOOD)
    monkeypatch.setattr(XorCodec, "offset", 1)
    with pytest.raises(DriftError, match="group 0"):
        read_all(path)


def test_drift_of_an_inexact_codec(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = [Item(str(i), np.clip(image(i, 20, 20), 0, 50)) for i in range(2)]
    path.write_bytes(packed(dataset, exact=False))
    assert same(read_all(path), dataset)
    monkeypatch.setattr(XorCodec, "offset", 1)
    assert len(read_all(path)) == 2
    with Archive(path, restore) as archive:
        assert archive[0].pixels.max() <= 51
        assert archive.rounded_groups == {0}
    monkeypatch.setattr(XorCodec, "offset", 200)
    with pytest.raises(DriftError, match="more than rounding"):
        read_all(path)


def test_a_closed_archive(path: Path) -> None:
    path.write_bytes(GOOD)
    archive = Archive(path, restore)
    kept = archive[0]
    archive.close()
    archive.close()
    assert kept.pixels.shape == (3, 4, 1)
    with pytest.raises(ArchiveError, match="closed"):
        archive[3]


# ---- every prefix, every byte


def full() -> bytes:
    """A small archive with a model, labels, attributes, two shapes and a sketch."""
    dataset = [
        Item(f"é{i}", image(i, height=1 + i % 2, width=2), "ab"[i % 2] if i else None, {"k": i} if i % 2 else {})
        for i in range(4)
    ]
    return packed(dataset, codec=XorCodec(key=9, model=b"weights"), exact=False)


def test_an_archive_cut_at_any_byte(path: Path) -> None:
    data = full()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(NotAnArchiveError if length == 0 else TruncatedArchiveError):
            Archive(path, restore)


def test_an_archive_cut_at_any_byte_with_a_new_trailer(path: Path) -> None:
    data = full()
    index_offset = wire.parse_trailer(data[-32:])[0]
    for length in range(32, len(data) - 32):
        path.write_bytes(data[:length] + wire.pack_trailer(min(index_offset, length), length + 32))
        with pytest.raises(BatchcodecError):
            read_all(path)


def test_any_byte_flipped(path: Path) -> None:
    """Either an error of ours, or every item is as it was; then the damage is in META, and asking for META says so."""
    data = full()
    path.write_bytes(data)
    good = read_all(path)
    masks = np.random.default_rng(0).integers(1, 256, len(data)).tolist()
    unharmed = []
    for place, mask in enumerate(masks):
        path.write_bytes(data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
        try:
            found = read_all(path)
        except BatchcodecError:
            continue
        assert same(found, good), place
        with Archive(path, restore) as archive, pytest.raises(CorruptArchiveError):
            _ = archive.meta
        unharmed.append(place)
    meta_length = len(body_of(data, BlockType.META))
    assert unharmed == list(range(32, 32 + 32 + meta_length))


def test_any_byte_of_the_inner_tables_flipped_under_right_checksums(path: Path) -> None:
    """Checksums stop accidents; what they do not stop must be an error of ours too."""
    data = full()
    for kind in (BlockType.CODEC, BlockType.DIRECTORY, BlockType.GROUP, BlockType.MODEL):
        body = body_of(data, kind)
        masks = np.random.default_rng(kind).integers(1, 256, len(body)).tolist()
        for place, mask in enumerate(masks):
            path.write_bytes(replaced(data, kind, body[:place] + bytes([body[place] ^ mask]) + body[place + 1 :]))
            with contextlib.suppress(BatchcodecError):
                read_all(path)
