"""Parity: what it restores, byte for byte; what it cannot, and says so; and PARITY blocks that somebody forged."""

from __future__ import annotations

import contextlib
import io
import itertools
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import reference_reader
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.archive import parity, reed_solomon, wire
from batchcodec.archive.blocks import BlockFile
from batchcodec.archive.healing import Healing, heal
from batchcodec.archive.overlay import Overlay
from batchcodec.archive.parity import Geometry
from batchcodec.archive.wire import BlockType, Malformed
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.errors import CorruptArchiveError, OptionError, OutputError

from .samples import XorCodec, add_group, assembled, blocks_of, items, packed, read_all, same


class Memory:
    """A file in memory, some of whose bytes may be unreadable."""

    def __init__(self, data: bytes, broken: tuple[int, int] = (0, 0)) -> None:
        self.data, self.n_bytes, self.broken = data, len(data), broken
        self.n_read = 0

    def read(self, offset: int, n_bytes: int) -> bytes:
        assert 0 <= offset <= offset + n_bytes <= self.n_bytes
        assert n_bytes > 0
        self.n_read += n_bytes
        if offset < self.broken[1] and self.broken[0] < offset + n_bytes:
            raise CorruptArchiveError("broken", f"byte {offset}: Input/output error")
        return self.data[offset : offset + n_bytes]


def protected(n_items: int, fraction: float = 0.05, *, side: int = 8, channels: int = 1, group_items: int = 2) -> bytes:
    """An archive of noise with parity."""
    file = io.BytesIO()
    writer = ArchiveWriter(file, parity=True)
    writer.add_meta({"created_by": "tests"})
    placed = list(enumerate(items(n_items, height=side, width=side, channels=channels)))
    for start in range(0, n_items, group_items):
        add_group(writer, placed[start : start + group_items], XorCodec(key=7))
    writer.add_parity(lambda n_covered: parity.parity_blocks(Memory(file.getvalue()).read, n_covered, fraction))
    count = writer.finish()
    assert count.total == len(file.getvalue())
    assert count.parity > 0
    return file.getvalue()


@cache
def sample() -> bytes:
    """About 1 MB: one batch with several chunks in a row."""
    return protected(100, side=100)


@cache
def large() -> bytes:
    """About 20 MB: two batches, the second one smaller."""
    return protected(100, fraction=0.02, side=260, channels=3, group_items=1)


def healed(data: bytes | bytearray) -> tuple[Healing, bytes]:
    """What was found, and the bytes of the overlay."""
    found = heal(Memory(bytes(data)))
    with found.file as file:
        return found, file.read(0, file.n_bytes)


def geometry_of(data: bytes) -> Geometry:
    geometry = healed(data)[0].geometry
    assert geometry is not None
    return geometry


# ---- what is written


def test_an_archive_with_parity_is_read_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "a.cpack"
    data = protected(10)
    path.write_bytes(data)
    assert same(read_all(path), items(10, height=8, width=8))
    assert [row[0] for row in reference_reader.blocks(data)].count(BlockType.PARITY) == 2
    file = BlockFile(path)
    assert file.version == (1, 1)
    assert [e.type for e in file.entries][-2:] == [BlockType.PARITY] * 2
    assert not any(required for kind, _, _, required in blocks_of(data) if kind == BlockType.PARITY)
    file.close()


def test_the_bytes_are_the_same_every_time() -> None:
    assert protected(10) == protected(10)
    assert protected(10) != protected(10, 0.25)


def test_a_writer_keeps_its_word_about_parity() -> None:
    plain = ArchiveWriter(io.BytesIO())
    plain.add_parity(lambda n_covered: [b""])
    with pytest.raises(ValueError, match="only in a writer that was told so"):
        plain.finish()
    with pytest.raises(ValueError, match="add_parity must come last"):
        ArchiveWriter(io.BytesIO(), parity=True).finish()
    late = ArchiveWriter(io.BytesIO(), parity=True)
    late.add_parity(lambda n_covered: [b""])
    late.add_meta({})
    with pytest.raises(ValueError, match="add_parity must come last"):
        late.finish()


@given(st.integers(1, 1 << 45), st.floats(0, 0.25, exclude_min=True))
def test_a_plan_is_one_that_a_reader_accepts(n_covered: int, fraction: float) -> None:
    geometry = parity.plan(n_covered, fraction)
    assert geometry.n_data + geometry.n_parity <= 256
    assert geometry.n_data * geometry.row_bytes >= n_covered
    assert geometry.width * geometry.chunk * geometry.n_data <= 1 << 24
    # A burst of that fraction, across the last data and the first parity, leaves blocks enough for the table of checksums.
    touched = int(fraction * (geometry.n_data + geometry.n_parity)) + 2
    assert touched <= geometry.n_parity - geometry.n_pieces or n_covered < 1 << 16


@pytest.mark.parametrize("fraction", [0, -0.1, 0.26, 1, float("nan"), float("inf")])
def test_a_bad_fraction(fraction: float) -> None:
    with pytest.raises(OptionError, match="up to 25%"):
        parity.plan(1000, fraction)
    with pytest.raises(OptionError):
        parity.parity_blocks(Memory(bytes(1000)).read, 1000, fraction)


def _multiply(a: int, b: int) -> int:
    """In GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, as the format text has it."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = a << 1 ^ (0x11D if a & 0x80 else 0)
        b >>= 1
    return product


def _power(a: int, n: int) -> int:
    return 1 if n == 0 else _multiply(a, _power(a, n - 1))


def test_the_code_is_that_of_the_format_text() -> None:
    """The byte of row i is the value at x_i of the polynomial that has the values of the data; x_0 = 0, x_i = 2^(i - 1)."""
    rows = [bytes([value]) for value in (17, 0, 255, 3, 90)]
    points = [0, *(_power(2, i) for i in range(8))]
    for number, (found,) in enumerate(reed_solomon.extend(rows, 4), len(rows)):
        expected = 0
        for i, (value,) in enumerate(rows):
            for j in range(len(rows)):
                if i != j:
                    value = _multiply(value, points[number] ^ points[j])
                    value = _multiply(value, _power(points[i] ^ points[j], 254))  # its inverse
            expected ^= value
        assert found == expected


@pytest.mark.parametrize(("n_data", "n_parity"), [(1, 2), (5, 4), (221, 35), (254, 2), (165, 91)])
def test_the_code_is_that_of_zfec(n_data: int, n_parity: int) -> None:
    """An independent implementation."""
    zfec = pytest.importorskip("zfec")
    rng = np.random.default_rng(n_data)
    rows = [rng.bytes(300) for _ in range(n_data)]
    made = reed_solomon.extend(rows, n_parity)
    encoder = zfec.Encoder(n_data, n_data + n_parity)
    assert made == list(encoder.encode(tuple(rows), tuple(range(n_data, n_data + n_parity))))
    every = rows + made
    for n_kept in (n_data, min(n_data + 1, len(every))):
        kept = rng.permutation(len(every))[:n_kept].tolist()
        assert reed_solomon.restore({i: every[i] for i in kept}, n_data, len(every)) == rows


def test_the_limits_are_those_of_the_format_text() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cpack-format.md").read_text(encoding="utf-8")
    assert f"S is 1 to {parity.MAX_CHUNK}, and at least {parity.MIN_CHUNK} if C > 1" in text
    assert (parity.MIN_RUN, parity.MAX_RUN, parity.HEAD.size) == (1 << 16, 1 << 18, 40)
    assert "W S is 1 to 2^18, and at least 2^16 if C > W" in text
    assert "r = ceil(256 f + 5 sqrt(256 f) + 4)" in text
    assert [parity.plan(10**9, f).n_parity for f in (0.01, 0.02, 0.05, 0.1, 0.2)] == [15, 21, 35, 55, 91]


def test_blocks_lie_where_the_format_text_says() -> None:
    data = large()
    geometry = geometry_of(data)
    assert geometry.n_batches == 2
    assert geometry.chunk == 1024
    position = geometry.n_covered
    rows = parity.read_rows(Memory(data).read, geometry, 1)
    for row, batch in itertools.product(range(geometry.n_parity), range(2)):
        assert geometry.offset(row, batch) == position
        n_chunks = min(64, geometry.columns - 64 * batch)
        header = wire.parse_block_header(data[position : position + 32])
        body = data[position + 32 : position + 32 + header.n_bytes]
        fields = struct.unpack_from("<QQIIIIBBBBI", body)
        shape = geometry.n_covered, 1024, geometry.columns, 64, batch, geometry.n_data, geometry.n_parity, row, 0, 0
        assert fields[1:] == shape
        head = len(body) - n_chunks * 1024
        assert fields[0] == wire.checksum(body[8:head])
        sums = [wire.checksum(body[start : start + 1024]) & 0xFFFFFFFF for start in range(head, len(body), 1024)]
        assert sums == list(struct.unpack_from(f"<{n_chunks}I", body, 40))
        if batch == 1 and row == 0:  # the first share of the table of checksums is its start
            piece = body[40 + 4 * n_chunks : head]
            assert piece[:4] == struct.pack("<I", wire.checksum(rows[0][:1024]) & 0xFFFFFFFF)
        position += 32 + header.n_bytes
    assert position == geometry.end


# ---- what is restored


def test_nothing_is_done_where_nothing_is_damaged() -> None:
    for data in (sample(), protected(1)):
        found, file = healed(data)
        assert file == data
        assert found.whole
        assert (found.n_damaged, found.n_restored, found.n_damaged_parity) == (0, 0, 0)
        assert (found.restored, found.lost, found.unknown, found.ignored) == ([], [], [], [])


def test_an_archive_without_parity() -> None:
    data = packed(items(5))
    found, file = healed(data)
    assert file == data
    assert found.geometry is None
    assert not found.whole


def _flips(data: bytearray, draw: Callable[[int], int], budget: int) -> None:
    for _ in range(1 + draw(3)):
        data[draw(len(data))] ^= 1 << draw(8)


def _zeros(data: bytearray, draw: Callable[[int], int], budget: int) -> None:
    start = draw(len(data) - budget)
    data[start : start + budget] = bytes(budget)


def _noise(data: bytearray, draw: Callable[[int], int], budget: int) -> None:
    start = draw(len(data) - budget)
    data[start : start + budget] = np.random.default_rng(draw(1 << 20)).bytes(budget)


def _cut(data: bytearray, draw: Callable[[int], int], budget: int) -> None:
    del data[len(data) - budget :]


def _cut_and_flip(data: bytearray, draw: Callable[[int], int], budget: int) -> None:
    _cut(data, draw, budget // 2)
    _flips(data, draw, budget)


def _appended(data: bytearray, draw: Callable[[int], int], budget: int) -> None:
    data += bytes(budget)


DAMAGE = [_flips, _zeros, _noise, _cut, _cut_and_flip, _appended]


@settings(max_examples=60)
@given(st.integers(1, 150), st.sampled_from([0.01, 0.05, 0.25]), st.sampled_from(DAMAGE), st.data())
def test_damage_within_the_fraction(n_items: int, fraction: float, damage: Callable[..., None], data: st.DataObject) -> None:
    original = protected(n_items, fraction, side=12)
    damaged = bytearray(original)
    damage(damaged, lambda n: data.draw(st.integers(0, n - 1)), max(1, int(fraction * len(original))))
    found, file = healed(damaged)
    if not found.whole:
        # A small archive has few rows: maybe too few for what comes in several pieces, or for its last data and parity.
        geometry = found.geometry or parity.plan(len(original), fraction)
        assert geometry.n_parity - geometry.n_pieces - fraction * (geometry.n_data + geometry.n_parity) < 4
        no_wrong_byte(found, file, damaged, original)
        return
    assert file == original
    assert found.n_restored == found.n_damaged
    assert (found.lost, found.unknown) == ([], [])


def no_wrong_byte(found: Healing, file: bytes, damaged: bytes | bytearray, original: bytes) -> None:
    """What was restored is as it was written, and nothing else was touched."""
    expected = bytearray(damaged)
    for start, stop in found.restored:
        if start < len(expected):
            expected[start:stop] = original[start : min(stop, len(expected))]
    assert file == expected


@pytest.mark.parametrize("seed", range(4))
def test_lost_blocks(seed: int) -> None:
    """Any twentieth of the blocks, PARITY blocks among them, and all of each: header and body."""
    original = sample()
    damaged, position, places = bytearray(original), wire.HEADER.size, []
    for _, body, *_ in blocks_of(original):
        places.append((position, position + wire.BLOCK.size + len(body)))
        position = places[-1][1]
    rng = np.random.default_rng(seed)
    for i in rng.choice(len(places), len(places) // 20, replace=False):
        start, stop = places[i]
        damaged[start:stop] = rng.bytes(stop - start)
    found, file = healed(damaged)
    assert file == original
    assert found.whole
    assert found.restored


@pytest.mark.parametrize("place", ["start", "middle", "last data and first parity", "parity", "end"])
def test_bursts(place: str) -> None:
    original = sample()
    geometry = geometry_of(original)
    size = 50_000
    if place in ("start", "middle"):  # what the format text promises of the covered bytes
        size = geometry.n_parity * geometry.row_bytes - geometry.chunk
    start = {
        "start": 0,
        "middle": 123_457,
        "last data and first parity": geometry.n_covered - 20_000,
        "parity": geometry.n_covered,
        "end": len(original) - size,
    }[place]
    damaged = bytearray(original)
    damaged[start : start + size] = b"\xff" * size
    found, file = healed(damaged)
    assert file == original
    assert found.whole
    (burst,) = found.restored
    assert burst[0] <= start
    assert burst[1] >= start + size


def test_two_batches() -> None:
    original = large()
    geometry = geometry_of(original)
    rng = np.random.default_rng(0)
    damaged = bytearray(original)
    for start in rng.integers(0, len(original) - 512, 200).tolist():
        damaged[start : start + 512] = rng.bytes(512)
    middle = geometry.row_bytes * 7 + 64 * 1024  # across both batches
    damaged[middle - 30_000 : middle + 30_000] = bytes(60_000)
    found, file = healed(damaged)
    assert file == original
    assert found.whole
    assert found.n_damaged_parity > 3


@pytest.mark.parametrize("seed", range(3))
def test_too_much_damage(seed: int) -> None:
    original = sample()
    geometry = geometry_of(original)
    rng = np.random.default_rng(seed)
    damaged = bytearray(original)
    for column, n_rows in ((0, geometry.n_parity + 1), (2, geometry.n_parity)):  # one too many, and as many as can be
        for row in rng.choice(geometry.n_data - 1, n_rows, replace=False).tolist():
            damaged[row * geometry.row_bytes + column * geometry.chunk + rng.integers(geometry.chunk)] ^= 1
    found, file = healed(damaged)
    assert not found.whole
    assert (found.n_damaged, found.n_restored) == (2 * geometry.n_parity + 1, geometry.n_parity)
    assert len(found.restored) == geometry.n_parity
    assert len(found.lost) == geometry.n_parity + 1
    no_wrong_byte(found, file, damaged, original)
    wrong = np.flatnonzero(np.frombuffer(file, np.uint8) != np.frombuffer(original, np.uint8)).tolist()
    assert wrong
    assert all(any(start <= place < stop for start, stop in found.lost) for place in wrong)


def test_no_checksums_left() -> None:
    """More than two thirds of the heads of a batch are damaged: nothing is said of its data, and nothing is done."""
    original = sample()
    geometry = geometry_of(original)
    damaged = bytearray(original)
    for row in range(geometry.n_parity - geometry.n_pieces + 1):
        damaged[geometry.offset(row, 0) + 32 + 40] ^= 1
    damaged[100] ^= 1
    found, file = healed(damaged)
    assert file == damaged
    assert found.unknown == [(0, geometry.n_covered)]
    assert (found.n_damaged, found.lost, found.whole) == (0, [], False)
    damaged[geometry.offset(0, 0) + 32 + 40] ^= 1  # one head more is enough
    found, file = healed(damaged)
    assert file == original


def test_a_disk_that_cannot_be_read() -> None:
    original = sample()
    found = heal(Memory(original, (70_000, 80_001)))
    assert found.whole
    with found.file as file:
        assert file.read(0, file.n_bytes) == original
    assert found.restored[0][0] <= 70_000 < 80_001 <= found.restored[0][1]


def test_what_a_later_version_put_after_the_parity_stays() -> None:
    data = assembled([*blocks_of(sample()), (99, b"later", 0, False)], header=sample()[:32])
    found, file = healed(data)
    assert file == data
    assert not found.whole
    damaged = bytearray(data)
    damaged[200_000] ^= 1
    assert healed(damaged)[1] == data


def test_an_overlay_reads_any_part() -> None:
    base = bytes(range(256)) * 4
    with Overlay(Memory(base, (300, 310))) as overlay:
        expected = bytearray(base)
        for start, data in ((300, b"x" * 10), (20, b"y" * 5), (25, b"z"), (1020, b"w" * 4)):
            overlay.lay(start, data)
            expected[start : start + len(data)] = data
        for start, stop in itertools.product((0, 19, 20, 22, 26, 299, 305, 1023), (1, 21, 25, 300, 310, 1024)):
            if start < stop:
                assert overlay.read(start, stop - start) == expected[start:stop]


# ---- what is missing


def test_no_room_for_what_waits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(parity, "SPOOL_BYTES", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(OutputError, match="TMPDIR"):
        list(parity.parity_blocks(Memory(bytes(1000)).read, 1000, 0.05))


def test_the_spool_may_be_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    original = sample()
    monkeypatch.setattr(parity, "SPOOL_BYTES", 1)
    assert protected(100, side=100) == original
    assert healed(original[:5000] + bytes(3000) + original[8000:])[1] == original


# ---- forged blocks


def forged(**changes: int) -> bytes:
    """An archive whose only PARITY block stands in its right place, with all checks right and these fields for its own."""
    blocks = [block for block in blocks_of(protected(10)) if block[0] != BlockType.PARITY]
    n_covered = 32 + sum(32 + len(body) for _, body, *_ in blocks)
    fields = {"n_covered": n_covered, "chunk": 256, "columns": 1, "width": 64, "batch": 0}
    fields |= {"n_data": -(-n_covered // 256), "n_parity": 3, "row": 0, "reserved": 0, "reserved_too": 0} | changes
    head = parity.HEAD.pack(0, *fields.values())[8:]
    n_sums = n_row = 0
    with contextlib.suppress(Malformed):
        geometry = Geometry(*(fields[name] for name in Geometry.__slots__))
        n_sums, n_row = geometry.head_bytes(0) - parity.HEAD.size, geometry.body_bytes(0) - geometry.head_bytes(0)
    head += bytes(n_sums)
    body = struct.pack("<Q", wire.checksum(head)) + head + bytes(n_row)
    return assembled([*blocks, (BlockType.PARITY, body, 0, False)])


def test_a_forged_block_that_only_lies_about_content() -> None:
    """All checks are right, and the checksums of all chunks are zero: all is damaged, nothing can be done, nothing is done."""
    data = forged(n_parity=4)
    found, file = healed(data)
    assert found.unknown  # one block of four has not all of the table
    assert file == data
    data = forged(n_parity=1)
    found, file = healed(data)
    assert file == data
    assert found.n_damaged == found.n_chunks
    assert found.n_restored == 0
    assert found.lost
    assert found.ignored == []


@pytest.mark.parametrize(
    "changes",
    [
        {"n_data": 0},
        {"n_parity": 0},
        {"n_parity": 255},
        {"n_data": 255, "n_parity": 255},
        {"columns": 0},
        {"columns": 2},
        {"columns": 0xFFFFFFFF},
        {"columns": 0xFFFFFFFF, "n_data": 1},
        {"columns": 0xFFFFFFFF, "n_data": 1, "chunk": 4096},
        {"columns": 1 << 20, "chunk": 1, "n_data": 1},
        {"chunk": 0},
        {"chunk": 4097},
        {"chunk": 0xFFFFFFFF},
        {"width": 0},
        {"width": 1, "columns": 2, "chunk": 128},
        {"columns": 5, "chunk": 51},
        {"width": 0xFFFFFFFF},
        {"n_covered": 0},
        {"n_covered": 31},
        {"n_covered": 1 << 63},
        {"n_covered": (1 << 64) - 1, "columns": 0xFFFFFFFF, "chunk": 4096, "n_data": 255, "n_parity": 1},
        {"batch": 1},
        {"batch": 0xFFFFFFFF},
        {"row": 3},
        {"row": 1},
        {"reserved": 1},
        {"reserved_too": 1},
    ],
    ids=str,
)
def test_a_forged_block_is_ignored_with_a_reason(changes: dict[str, int]) -> None:
    file = Memory(forged(**changes))
    tracemalloc.start()
    found = heal(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.geometry is None
    assert len(found.ignored) == 1
    with found.file as overlay:
        assert overlay.read(0, file.n_bytes) == file.data
    assert peak < 1 << 20
    assert file.n_read < 4 * file.n_bytes


def test_a_covered_length_that_lies_by_little() -> None:
    found, _ = healed(forged(n_covered=geometry_of(protected(10)).n_covered - 1))
    assert found.geometry is None
    assert "belongs at byte" in found.ignored[0]


def test_the_same_block_twice_and_a_whole_archive_inside() -> None:
    """A PARITY block counts only where it says that it stands."""
    blocks = blocks_of(protected(10))
    twice = assembled([*blocks, blocks[-1]], header=protected(10)[:32])
    found, file = healed(twice)
    assert file == twice
    assert any("belongs at byte" in reason for reason in found.ignored)
    inside = assembled([*blocks_of(packed(items(4))), (99, protected(10), 0, False)])
    found, file = healed(inside)
    assert file == inside
    assert found.geometry is None
    assert found.ignored


def test_a_file_made_of_what_looks_like_parity() -> None:
    header = wire.pack_block_header(BlockType.PARITY, b"", required=False)
    for pattern in (header, header[:12]):
        file = Memory(wire.pack_header() + pattern * ((1 << 21) // len(pattern)))
        found = heal(file)
        found.file.close()
        assert found.geometry is None
        assert "the search ended" in found.ignored[-1]
        assert len(found.ignored) == 11
        assert file.n_read < 3 * file.n_bytes


def test_a_geometry_of_very_many_batches_costs_no_more_than_the_file() -> None:
    """The least batches and chunks that are allowed, and one PARITY block of the 255 of each batch."""
    n_covered = 2_000_000
    geometry = Geometry(n_covered, 64, -(-n_covered // 64), 1024, 1, 255)
    head = parity.HEAD.pack(0, n_covered, 64, geometry.columns, 1024, 0, 1, 255, 0, 0, 0)[8:]
    head += bytes(geometry.head_bytes(0) - parity.HEAD.size)
    body = struct.pack("<Q", wire.checksum(head)) + head + bytes(1 << 16)
    file = Memory(bytes(n_covered) + wire.pack_block_header(BlockType.PARITY, body, required=False) + body)
    found = heal(file)
    found.file.close()
    assert found.geometry == geometry
    assert geometry.n_batches == 31
    assert found.unknown == [(0, n_covered)]
    assert file.n_read < 3 * file.n_bytes


def test_memory_is_bounded() -> None:
    original = large()
    damaged = Memory(original[:1000] + bytes(200_000) + original[201_000:])
    tracemalloc.start()
    found = heal(damaged)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    found.file.close()
    assert found.whole
    assert peak < 64 << 20


def test_a_geometry_is_checked_where_it_is_made() -> None:
    geometry = geometry_of(sample())
    changed: list[dict[str, int]] = [{"n_data": geometry.n_data - 1}, {"columns": geometry.columns + 1}, {"width": 1 << 20}]
    for changes in changed:
        with pytest.raises(Malformed):
            replace(geometry, **changes)
    with pytest.raises(Malformed, match="too short"):
        parity.parse_place(b"?" * 39)
