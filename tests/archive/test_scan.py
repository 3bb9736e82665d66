"""The scan: what it finds in whole, damaged, cut and hostile files, and that its work is linear."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.archive import wire
from batchcodec.archive.blocks import BlockFile, RawFile
from batchcodec.archive.found import Scan, State, block_header, header_bytes
from batchcodec.archive.scan import EFFORT, scan, sound_prefix
from batchcodec.archive.wire import BlockHeader, BlockType
from batchcodec.errors import NotAnArchiveError, TruncatedArchiveError
from batchcodec.types import Item

from .samples import XorCodec, assembled, blocks_of, file_header, items, packed


class Memory:
    """Bytes in memory, read by position, that count what is read of them."""

    def __init__(self, data: bytes) -> None:
        self.data, self.n_bytes, self.n_read = data, len(data), 0

    def read(self, offset: int, n_bytes: int) -> bytes:
        assert 0 <= offset <= offset + n_bytes <= self.n_bytes
        assert n_bytes <= 2 << 20
        self.n_read += n_bytes
        return self.data[offset : offset + n_bytes]


def scanned(data: bytes) -> Scan:
    return scan(Memory(data))


GOOD = packed(items(7), codec=XorCodec(key=3, model=b"weights"))
INDEX_AT = wire.parse_trailer(GOOD[-32:])[0]
KINDS = [kind for kind, *_ in blocks_of(GOOD)] + [BlockType.INDEX]
STARTS = [block.offset for block in scanned(GOOD).blocks]


def flipped(data: bytes, *places: int) -> bytes:
    out = bytearray(data)
    for place in places:
        out[place] ^= 0x55
    return bytes(out)


def without_index(data: bytes) -> bytes:
    """The same bytes with index and trailer zeroed."""
    at = wire.parse_trailer(data[-32:])[0]
    return data[:at] + bytes(len(data) - at)


def test_a_whole_archive() -> None:
    found = scanned(GOOD)
    assert found.whole
    assert found.by_index
    assert [block.type for block in found.blocks] == KINDS
    assert found.blocks[-1].end == len(GOOD) - 32
    assert not any(block.uncertain for block in found.blocks)


@pytest.mark.parametrize("cut", [1, 31, 32, 33, 40])
def test_the_walk_finds_what_the_index_says(cut: int) -> None:
    found = scanned(GOOD[:-cut])
    assert not found.whole
    assert [(block.type, block.offset) for block in found.blocks] == list(zip(KINDS, STARTS, strict=True))
    assert not found.gaps
    assert {block.state for block in found.blocks[:-1]} == {State.SOUND}
    assert found.by_index == (cut <= 32)


def test_block_headers_round_trip() -> None:
    for start in STARTS:
        data = GOOD[start : start + 32]
        header = block_header(data)
        assert header is not None
        assert header_bytes(header) == data
        for place in range(32):
            assert block_header(flipped(data, place)) is None
    assert block_header(GOOD[32:63]) is None


def test_unknown_types_are_blocks_and_reserved_bits_are_none() -> None:
    header = header_bytes(BlockHeader(200, True, 5, 7, 9))
    assert block_header(header) == BlockHeader(200, True, 5, 7, 9)
    assert block_header(header_bytes(BlockHeader(200, True, 5, wire.MAX_BODY + 1, 9))) is None


@settings(max_examples=150)
@given(st.data())
def test_a_flipped_byte_touches_its_block_alone(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(GOOD) - 1))
    for with_index in (True, False):
        bad = flipped(GOOD if with_index else without_index(GOOD), place)
        found = scanned(bad)
        assert not found.whole
        lost = [block for block in found.blocks[: len(STARTS) - 1] if not block.whole]
        hit = [start for start in STARTS if start <= place][-1:]
        assert {block.offset for block in lost} <= set(hit)
        kept = {block.offset for block in found.blocks if block.state == State.SOUND}
        assert kept >= set(STARTS[:-1]) - set(hit)
        for gap in found.gaps:
            assert gap.start <= place < gap.end or gap.start >= INDEX_AT


def test_with_an_index_a_damaged_block_header_is_known_again() -> None:
    for start in STARTS[:-1]:
        for place in range(start, start + 32):
            (block,) = (b for b in scanned(flipped(GOOD, place)).blocks if b.state != State.SOUND)
            assert (block.offset, block.state) == (start, State.REBUILT)
            assert header_bytes(block.header) == GOOD[start : start + 32]


def test_a_damaged_header_and_body_are_lost() -> None:
    start = STARTS[3]
    found = scanned(flipped(GOOD, start + 4, start + 40))
    assert [(b.offset, b.n_items) for b in found.blocks if b.state == State.LOST] == [(start, found.blocks[3].n_items)]


def test_an_index_that_contradicts_a_sound_block_is_not_used() -> None:
    entries = [wire.BlockEntry(b.type, b.offset, b.header.n_bytes, b.n_items) for b in scanned(GOOD).blocks[:-1]]
    entries[3] = dataclasses.replace(entries[3], n_items=entries[3].n_items + 1)
    body = wire.pack_index(entries)
    bad = GOOD[:INDEX_AT] + wire.pack_block_header(BlockType.INDEX, body) + body
    found = scanned(bad + wire.pack_trailer(INDEX_AT, len(bad) + 32))
    assert not found.by_index
    assert found.index_error
    assert [block.offset for block in found.blocks] == STARTS
    assert not found.gaps


def test_two_gaps_without_an_index() -> None:
    bad = flipped(without_index(GOOD), STARTS[3], STARTS[5])
    found = scanned(bad)
    assert [tuple(gap) for gap in found.gaps[:2]] == [(STARTS[3], STARTS[4]), (STARTS[5], STARTS[6])]
    assert [block.offset for block in found.blocks] == [s for i, s in enumerate(STARTS[:-1]) if i not in (3, 5)]
    assert [block.uncertain for block in found.blocks] == [False] * 3 + [True] * 3


def test_behind_a_gap_a_run_to_the_trailer_is_certain() -> None:
    found = scanned(flipped(GOOD, STARTS[3], INDEX_AT + 33))
    assert len(found.gaps) == 1
    assert not any(block.uncertain for block in found.blocks)


def test_bytes_put_in_and_taken_out() -> None:
    inside = STARTS[4] + 36
    for bad in (GOOD[:inside] + b"xyz" + GOOD[inside:], GOOD[:inside] + GOOD[inside + 3 :], b"junk" + GOOD):
        found = scanned(bad)
        assert not found.by_index
        assert len(found.gaps) == 1
        assert len(found.blocks) == len(STARTS) - (not bad.startswith(b"junk"))


def test_bytes_behind_the_trailer() -> None:
    found = scanned(GOOD + b"more")
    assert found.by_index
    assert found.trailer_error
    assert not found.gaps


# ---- an archive inside of a payload


def nested() -> bytes:
    """An archive whose second group is, sample by sample, an archive of its own: `store` keeps samples as they are."""
    inner = packed(items(3))
    holder = Item("inner", np.frombuffer(inner, np.uint8).reshape(1, -1, 1).copy())
    return packed([items(1)[0], holder, items(4)[3]], group_items=1, codec=XorCodec(key=0))


def test_an_archive_inside_of_a_payload_is_never_taken_for_blocks() -> None:
    data = nested()
    blocks = scanned(data).blocks
    offsets = [block.offset for block in blocks]
    group = next(block for block in blocks if block.header.n_bytes > 300)
    assert data[group.body : group.end].count(wire.MAGIC) == 1
    for base in (data, without_index(data)):
        for place in range(group.offset, group.end, 7):
            found = scanned(flipped(base, place))
            assert [b.offset for b in found.blocks if b.whole and b.offset not in offsets] == [], place
        both = scanned(flipped(base, group.offset + 8, group.body + 3))
        assert {b.offset for b in both.blocks if b.whole} >= set(offsets[:-1]) - {group.offset}


def test_a_cut_payload_that_holds_an_archive() -> None:
    data = nested()
    group = next(block for block in scanned(data).blocks if block.header.n_bytes > 300)
    found = scanned(data[: group.end - 1])
    assert all(block.uncertain for block in found.blocks if block.offset > group.offset)


# ---- cut


def test_cut_at_every_length() -> None:
    for length in range(len(GOOD)):
        found = scanned(GOOD[:length])
        whole = [b.offset for b in found.blocks if b.whole and b.type != BlockType.INDEX]
        ends = [*STARTS[1:], len(GOOD) - 32]
        assert whole == [start for start, end in zip(STARTS[:-1], ends[:-1], strict=True) if end <= length], length


def test_sound_prefix() -> None:
    ends = [*STARTS[1:], len(GOOD) - 32]
    for length in range(0, len(GOOD), 3):
        prefix = sound_prefix(Memory(GOOD[:length]))
        assert [block.end for block in prefix] == [end for end in ends if end <= length], length
    assert [b.offset for b in sound_prefix(Memory(flipped(GOOD, STARTS[3] + 40)))] == STARTS[:3]
    assert sound_prefix(Memory(flipped(GOOD, 12))) == []


def test_a_later_version_is_not_scanned() -> None:
    with pytest.raises(wire.UnknownVersion):
        scanned(assembled(blocks_of(GOOD), header=file_header(major=2)))
    assert scanned(assembled(blocks_of(GOOD), header=file_header(minor=3))).version == (1, 3)


# ---- hostile: the work is linear


def empty(check: int | None = None, n_bytes: int = 0) -> bytes:
    return header_bytes(BlockHeader(1, False, 0, n_bytes, wire.checksum(b"") if check is None else check))


HOSTILE: dict[str, Callable[[int], bytes]] = {
    "sync bytes": lambda n: wire.SYNC * (8 * n),
    "headers that claim half of the file": lambda n: empty(1, 16 * n + 1) * n,
    "headers that claim all that follows": lambda n: b"".join(empty(1, 32 * (n - i - 1) + 1) for i in range(n)) + b"x",
    "headers that lead to each other": lambda n: empty(1) * n,
    "a gap every few bytes": lambda n: (empty() + b"x") * n,
    "a gap every few bytes, and claims": lambda n: (empty() + empty(1, 16 * n + 1) + b"x") * (n // 2),
    "trailers": lambda n: wire.pack_trailer(32, 64) * n,
    "archives": lambda n: packed(items(1)) * (n // 20),
}


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE)
def test_the_work_is_linear(make: Callable[[int], bytes]) -> None:
    for n in (250, 4000):
        file = Memory(wire.pack_header() + make(n))
        found = scan(file)
        # Each block or gap may cost a first window; beyond that, only bodies that turn out wrong cost more than reading does.
        n_pieces = 1 + len(found.blocks) + len(found.gaps)
        assert file.n_read <= (EFFORT + 3) * file.n_bytes + n_pieces * 1400 + file.n_bytes // 32 * 64


def test_what_was_not_tried_is_counted() -> None:
    assert scanned(wire.pack_header() + HOSTILE["headers that claim half of the file"](4000)).passed_over > 1000


@settings(max_examples=60)
@given(
    st.lists(st.sampled_from([GOOD[:200], GOOD[100:400], empty(), empty(1, 9), b"x", wire.SYNC, GOOD, bytes(40)]), max_size=8)
)
def test_any_bytes_are_scanned_and_accounted_for(parts: list[bytes]) -> None:
    data = b"".join(parts)
    found = scanned(data)
    pieces = [(b.offset, min(b.end, len(data))) for b in found.blocks] + [tuple(gap) for gap in found.gaps]
    position = 32
    for start, end in sorted(pieces):
        assert start == position
        position = end
    assert position >= len(data) or found.by_index or len(data) - position == 32 or len(data) <= 32


# ---- files


def test_raw_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(GOOD)
    with RawFile(path) as file:
        assert (file.n_bytes, file.read(5, 9)) == (len(GOOD), GOOD[5:14])
        assert file.read(7, 0) == b""
        with pytest.raises(TruncatedArchiveError):
            file.read(len(GOOD) - 1, 2)
        assert scan(file).whole
    with pytest.raises(NotAnArchiveError):
        RawFile(tmp_path)
    with path.open("rb") as opened:
        BlockFile(path, opened).close()
        assert not opened.closed


def test_progress_ends_at_the_end() -> None:
    for data in (GOOD, GOOD[:-1], without_index(GOOD), bytes(100)):
        told: list[tuple[int, int]] = []
        scan(Memory(data), lambda done, total, told=told: told.append((done, total)))
        assert told[-1] == (len(data), len(data))
