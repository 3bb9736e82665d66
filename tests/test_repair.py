"""Repair: whatever is damaged, all that is whole comes back, and what is lost is said."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from archive.samples import (
    XorCodec,
    add_group,
    assembled,
    blocks_of,
    file_header,
    image,
    items,
    packed,
    read_all,
    replaced,
    restore,
    same,
)

from batchcodec import disk
from batchcodec.archive import directory, wire
from batchcodec.archive.directory import Row
from batchcodec.archive.reader import Archive
from batchcodec.archive.scan import scan
from batchcodec.archive.wire import BlockType
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.checking.repair import RepairReport, repair
from batchcodec.checking.verify import verify
from batchcodec.errors import (
    CorruptArchiveError,
    NotAnArchiveError,
    OptionError,
    OutputError,
    TargetExistsError,
    TruncatedArchiveError,
    UnsupportedVersionError,
)
from batchcodec.types import Item


@pytest.fixture(autouse=True)
def _no_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests write thousands of small files; that repaired ones are flushed is a matter of `atomic_file`."""
    monkeypatch.setattr(disk, "sync", lambda _: None)
    monkeypatch.setattr(disk, "sync_directory", lambda _: None)


class Bench:
    """A damaged file and what repair makes of it."""

    def __init__(self, folder: Path) -> None:
        self.source, self.target = folder / "damaged.cpack", folder / "repaired.cpack"
        self.checked: set[bytes] = set()

    def repair(self, data: bytes) -> RepairReport:
        """Repair these bytes; the result is whole, and decodes to its digests."""
        self.source.write_bytes(data)
        report = repair(self.source, self.target, force=True)
        assert self.source.read_bytes() == data
        if self.target.read_bytes() not in self.checked:
            assert verify(self.target).verdict == "whole"
            assert report.identical == (not report.lost and not report.unnamed and not self.record())
            self.checked.add(self.target.read_bytes())
        return report

    def items(self) -> list[Item]:
        return read_all(self.target)

    def record(self) -> dict:
        with Archive(self.target, restore) as archive:
            return archive.meta.get("repaired", {})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


DATASET = [
    Item(f"é{i}", image(i, height=1 + i % 2, width=2), "ab"[i % 2] if i else None, {"k": i} if i % 2 else {}) for i in range(6)
]


def two_segments() -> bytes:
    """Six items in groups of two, four of them in a first directory; two codecs with a model each, and META at both ends."""
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    writer.add_meta({"created_by": "tests"})
    for k, (pair, codec) in enumerate([((0, 2), "a"), ((1, 3), "b"), ((4,), "a"), ((5,), "b")]):
        add_group(writer, [(i, DATASET[i]) for i in pair], XorCodec(key=k % 2, model=codec.encode() * 30), exact=k % 2 == 0)
        if k == 1:
            writer._end_segment()  # as a full segment does
    writer.add_meta({"notes": {}})
    writer.finish()
    return file.getvalue()


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.n_bytes = data, len(data)

    def read(self, offset: int, n_bytes: int) -> bytes:
        return self.data[offset : offset + n_bytes]


DATA = two_segments()
BLOCKS = scan(Bytes(DATA)).blocks
INDEX_AT = BLOCKS[-1].offset


def of(kind: BlockType) -> list:
    return [block for block in BLOCKS if block.type == kind]


def flipped(data: bytes, *places: int) -> bytes:
    out = bytearray(data)
    for place in places:
        out[place] ^= 0x55
    return bytes(out)


def without_index(data: bytes) -> bytes:
    return data[:INDEX_AT]


def pixels_of(found: list[Item]) -> set[bytes]:
    return {item.pixels.tobytes() for item in found}


# ---- nothing is lost


def test_a_whole_archive_stays_the_same(bench: Bench) -> None:
    later = assembled(blocks_of(packed(items(3))), header=file_header(minor=7))
    unknown = assembled([*blocks_of(packed(items(3))), (77, b"who knows", 3, False)])
    for data in (DATA, packed(items(3)), later, unknown, assembled([])):
        report = bench.repair(data)
        assert report.identical
        assert report.rebuilt == []
        assert bench.target.read_bytes() == data


@pytest.mark.parametrize("cut", [1, 31, 32])
def test_a_lost_trailer_is_made_anew(bench: Bench, cut: int) -> None:
    assert bench.repair(DATA[:-cut]).rebuilt == ["trailer"]
    assert bench.target.read_bytes() == DATA


def test_lost_index_header_and_foreign_bytes_at_the_end(bench: Bench) -> None:
    for data, rebuilt in (
        (flipped(DATA, INDEX_AT + 40), ["index"]),
        (flipped(DATA, INDEX_AT + 8), ["index"]),
        (flipped(DATA, INDEX_AT + 40, len(DATA) - 1), ["index", "trailer"]),
        (DATA[: INDEX_AT + 40], ["index", "trailer"]),
        (flipped(DATA, 9), ["file header"]),
        (DATA + b"more", ["trailer"]),
        (flipped(DATA, 3, BLOCKS[2].offset + 5, BLOCKS[4].offset + 30), ["file header", "block header"]),
    ):
        report = bench.repair(data)
        assert report.rebuilt == rebuilt
        assert bench.target.read_bytes() == DATA


# ---- every byte, every length


def test_any_byte_flipped(bench: Bench) -> None:
    """What is lost is the block that was hit and what depends on it, and all else comes back. (`make soak` flips all.)"""
    n_groups = len(of(BlockType.GROUP))
    for place in range(0, len(DATA), 7):
        report = bench.repair(flipped(DATA, place))
        hit = next((b for b in BLOCKS[:-1] if b.body <= place < b.end), None)
        if hit is None:  # headers, index, trailer
            assert bench.target.read_bytes() == DATA, place
            continue
        lost_groups = {BlockType.GROUP: 1, BlockType.CODEC: 2, BlockType.MODEL: 2}.get(hit.type, 0)
        assert report.n_groups == n_groups - lost_groups
        assert hit.offset in {lost.start for lost in report.lost}
        found = bench.items()
        if hit.type == BlockType.META:
            assert same(found, DATASET)
        elif hit.type == BlockType.DIRECTORY:
            assert pixels_of(found) == pixels_of(DATASET)
            assert report.n_unnamed_items == sum(item.name.startswith("lost/") for item in found) > 0
        else:
            names = {item.name for item in found}
            lost = {name for entry in report.lost for name in entry.items}
            assert names | lost == {item.name for item in DATASET}
            assert same(found, [item for item in DATASET if item.name in names])


def test_cut_at_any_length(bench: Bench) -> None:
    """Every group before the cut comes back; it has its names if its directory is there too. (`make soak` cuts everywhere.)"""
    groups, tables = of(BlockType.GROUP), of(BlockType.DIRECTORY)
    members = [(0, 2), (1, 3), (4,), (5,)]
    boundaries = {block.end + k for block in BLOCKS for k in (-1, 0, 1)}
    for length in sorted({*range(0, len(DATA), 5), *boundaries}):
        bench.source.write_bytes(DATA[:length])
        n_whole = sum(group.end <= length for group in groups)
        if not n_whole:
            with pytest.raises(NotAnArchiveError if length == 0 else TruncatedArchiveError):
                repair(bench.source, bench.target, force=True)
            continue
        report = bench.repair(DATA[:length])
        assert report.n_groups == n_whole, length
        found = bench.items()
        expected = [DATASET[i] for part in members[:n_whole] for i in part]
        assert pixels_of(found) == pixels_of(expected)
        n_named = 4 * (tables[0].end <= length) + 2 * (tables[1].end <= length)
        assert [item.name for item in found if not item.name.startswith("lost/")] == [x.name for x in DATASET[:n_named]]
        assert report.identical == (length >= INDEX_AT + 32)


def test_random_damage_of_a_larger_archive(bench: Bench) -> None:
    _random_damage(bench, 200)


def _random_damage(bench: Bench, n: int) -> None:
    """One to four flips or zeroed ranges: what decodes is right, and groups that were not hit are there."""
    dataset = [Item(f"i/{i}", image(i, height=5 + i % 3, width=7)) for i in range(40)]
    data = packed(dataset, group_items=3, codec=XorCodec(key=5, model=b"m" * 40))
    blocks = scan(Bytes(data)).blocks
    originals, n_all = {item.pixels.tobytes() for item in dataset}, sum(b.type == BlockType.GROUP for b in blocks)
    rng = np.random.default_rng(n)
    for _ in range(n):
        bad = bytearray(data)
        hit = set()
        for _ in range(rng.integers(1, 5)):
            start = int(rng.integers(len(bad)))
            if rng.random() < 0.5:
                bad[start] ^= int(rng.integers(1, 256))
                hit |= {b.offset for b in blocks if b.offset <= start < b.end}
            else:
                end = min(len(bad), start + int(rng.integers(1, 200)))
                bad[start:end] = bytes(end - start)
                hit |= {b.offset for b in blocks if b.offset < end and start < b.end}
        if hit & {b.offset for b in blocks if b.type in (BlockType.CODEC, BlockType.MODEL)}:
            continue
        report = bench.repair(bytes(bad))
        n_hit = sum(b.type == BlockType.GROUP for b in blocks if b.offset in hit)
        assert report.n_groups >= n_all - n_hit
        found = bench.items()
        assert {item.pixels.tobytes() for item in found} <= originals
        named = {item.name: item.pixels for item in found if not item.name.startswith("lost/")}
        assert all(np.array_equal(item.pixels, named[item.name]) for item in dataset if item.name in named)


# ---- rows


def test_without_directory_and_index(bench: Bench) -> None:
    table = of(BlockType.DIRECTORY)[1]
    report = bench.repair(flipped(without_index(DATA), table.body + 3))
    assert [(u.group, u.n_items, u.first_name) for u in report.unnamed] == [
        (2, 1, "lost/000002/000000"),
        (3, 1, "lost/000003/000000"),
    ]
    found = bench.items()
    assert same(found[:4], DATASET[:4])
    assert [item.name for item in found[4:]] == ["lost/000002/000000", "lost/000003/000000"]
    assert bench.record()["n_unnamed_items"] == 2


def test_two_gaps_without_an_index(bench: Bench) -> None:
    """Only groups behind the last gap keep their names: another directory may have been in it."""
    first, second, third, fourth = of(BlockType.GROUP)
    report = bench.repair(flipped(without_index(DATA), first.offset, third.offset))
    assert [u.group for u in report.unnamed] == []  # the groups behind either gap are the last of their directory
    assert report.names_without_item == [DATASET[0].name, DATASET[2].name, DATASET[4].name]
    assert [item.name for item in bench.items()] == [DATASET[i].name for i in (1, 3, 5)]
    report = bench.repair(flipped(without_index(DATA), second.offset, fourth.offset))
    assert [u.n_items for u in report.unnamed] == [2, 1]
    assert pixels_of(bench.items()) == pixels_of([DATASET[i] for i in (0, 2, 4)])


def test_a_directory_of_other_groups_names_none(bench: Bench) -> None:
    table = wire.pack_directory(directory.pack_table([Row(i, f"{i}") for i in range(3)]), 2)
    report = bench.repair(replaced(packed(items(4)), BlockType.DIRECTORY, table, 3))
    assert report.n_unnamed_items == 4
    assert same([*bench.items()], [Item(f"lost/{i // 2:06}/{i % 2:06}", item.pixels) for i, item in enumerate(items(4))])


def test_names_that_two_items_have(bench: Bench) -> None:
    rows = [Row(0, "a"), Row(1, "b"), Row(2, "a"), Row(3, "d")]
    data = replaced(packed(items(4)), BlockType.DIRECTORY, wire.pack_directory(directory.pack_table(rows), 2))
    report = bench.repair(data)
    assert [item.name for item in bench.items()] == ["a", "b", "lost/000001/000000", "lost/000001/000001"]
    assert report.n_unnamed_items == 2


def test_repaired_twice(bench: Bench) -> None:
    """Names that an earlier repair gave are names like any others."""
    data = assembled([b for b in blocks_of(packed(items(4))) if b[0] != BlockType.DIRECTORY])
    bench.repair(data)
    names = [item.name for item in bench.items()]
    again = bench.target.read_bytes()
    more = blocks_of(packed([Item(f"x{i}", image(9 + i)) for i in range(2)]))
    groups = [b for b in more if b[0] == BlockType.GROUP]
    blocks = blocks_of(again)
    report = bench.repair(assembled([groups[0], *blocks[:2], *groups[1:], *blocks[2:]]))
    assert len({item.name for item in bench.items()}) == 6
    assert report.n_unnamed_items in (2, 6)
    bench.repair(assembled([*blocks[:2], (BlockType.GROUP, *blocks[2][1:]), *blocks[2:], groups[0]]))
    assert {item.name for item in bench.items()} != set(names)


# ---- codecs, models, META, unknown blocks


@pytest.mark.parametrize("kind", [BlockType.CODEC, BlockType.MODEL])
def test_a_lost_codec_or_model_takes_its_groups_alone(bench: Bench, kind: BlockType) -> None:
    report = bench.repair(flipped(DATA, of(kind)[0].body + 5))
    assert (report.n_lost_groups, report.n_lost_items) == (2, 3)
    assert same(bench.items(), [DATASET[i] for i in (1, 3, 5)])
    assert "codec" in next(lost.reason for lost in report.lost if lost.block == "GROUP")
    with Archive(bench.target, restore) as archive:
        assert len(archive.codecs) == 1


def test_lost_meta_is_told(bench: Bench) -> None:
    report = bench.repair(flipped(DATA, of(BlockType.META)[0].body))
    assert [lost.block for lost in report.lost] == ["META"]
    assert bench.record()["lost"][0]["start"] == 32
    assert same(bench.items(), DATASET)


def test_unknown_blocks(bench: Bench) -> None:
    blocks = [*blocks_of(packed(items(4))), (77, b"who knows", 3, False)]
    data = assembled(blocks)
    report = bench.repair(flipped(data, data.index(wire.SYNC + b"\x04") + 40))
    assert {lost.block for lost in report.lost} == {"GROUP", "type 77"}
    with pytest.raises(UnsupportedVersionError, match="77"):
        bench.repair(assembled([*blocks, (77, b"?", 0, True)]))


def test_a_payload_that_holds_an_archive(bench: Bench) -> None:
    inner = packed(items(3))
    holder = Item("inner", np.frombuffer(inner, np.uint8).reshape(1, -1, 1).copy())
    dataset = [Item("first", image(1)), holder, Item("last", image(2))]
    data = packed(dataset, group_items=1, codec=XorCodec(key=0))
    index_at = wire.parse_trailer(data[-32:])[0]
    group = next(b for b in scan(Bytes(data)).blocks if b.header.n_bytes > len(inner))
    for bad in (flipped(data, group.body), flipped(data[:index_at], group.body), flipped(data[:index_at], group.offset)):
        bench.repair(bad)
        assert pixels_of(bench.items()) == pixels_of([dataset[0], dataset[2]])


# ---- refusals


def test_nothing_to_recover(bench: Bench, tmp_path: Path) -> None:
    one = packed(items(2))
    for data, error in (
        (b"", NotAnArchiveError),
        (b"hello, this is a text and no archive at all", NotAnArchiveError),
        (one[:60], TruncatedArchiveError),
        (flipped(one, one.index(wire.SYNC + b"\x04") + 40), CorruptArchiveError),
        (assembled(blocks_of(one), header=file_header(major=2)), UnsupportedVersionError),
    ):
        bench.source.write_bytes(data)
        with pytest.raises(error) as raised:
            repair(bench.source, bench.target)
        assert type(raised.value) is error
        assert list(tmp_path.iterdir()) == [bench.source]


def test_targets(bench: Bench, tmp_path: Path) -> None:
    bench.source.write_bytes(DATA)
    with pytest.raises(OptionError):
        repair(bench.source, bench.source, force=True)
    with pytest.raises(OptionError):
        repair(bench.source, tmp_path, force=True)
    with pytest.raises(OutputError):
        repair(bench.source, tmp_path / "no" / "folder.cpack")
    bench.target.write_bytes(b"old")
    with pytest.raises(TargetExistsError):
        repair(bench.source, bench.target)
    bench.source.write_bytes(DATA[:40])
    with pytest.raises(TruncatedArchiveError):
        repair(bench.source, bench.target, force=True)
    assert bench.target.read_bytes() == b"old"
    with pytest.raises(NotAnArchiveError):
        repair(tmp_path / "missing", bench.target, force=True)


def test_orders_leave_no_room(bench: Bench) -> None:
    rows = [Row(0, "a"), Row((1 << 63) - 1, "b")]
    blocks = blocks_of(packed(items(4)))
    named = (BlockType.DIRECTORY, wire.pack_directory(directory.pack_table(rows), 1), 2, True)
    with pytest.raises(CorruptArchiveError, match="no place"):
        bench.repair(assembled([*blocks[:3], named, blocks[3]]))


def test_progress(bench: Bench) -> None:
    bench.source.write_bytes(DATA)
    told: list[tuple[int, int]] = []
    repair(bench.source, bench.target, progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert told[-1] == (3 * len(DATA), 3 * len(DATA))
