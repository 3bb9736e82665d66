"""Writer and reader together: what goes in comes out, by place, name, slice, group and thread."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.archive import directory, writer
from batchcodec.archive.reader import NOTES, Archive
from batchcodec.archive.wire import BlockType, CodecRecord
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.codec import Codec
from batchcodec.errors import BatchcodecError, DuplicateNameError, ItemNotFoundError
from batchcodec.types import GroupSpec, Item, Pixels

from .samples import XorCodec, add_group, assembled, blocks_of, image, items, packed, read_all, restore, same
from .test_wire import OBJECTS

ATTRIBUTES = OBJECTS.filter(lambda attributes: NOTES not in attributes)


class Counting:
    """A `restore` that counts the groups that are decoded."""

    def __init__(self) -> None:
        self.n_decoded = self.n_restored = 0

    def __call__(self, record: CodecRecord) -> Codec:
        self.n_restored += 1
        counting = self

        class Counted(XorCodec):
            def decode(self, payload: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
                counting.n_decoded += 1
                return super().decode(payload, spec, items)

        return Counted.restore(record.config, record.model)


def mixed() -> list[Item]:
    """Shapes and types that alternate, so that the order of the groups is not that of the dataset."""
    shapes: list[dict[str, Any]] = [{}, {"height": 2, "width": 9, "channels": 3}, {"dtype": "uint16"}, {"channels": 4}]
    return [
        Item(
            f"d{i % 3}/ä{i}.png", image(i, **shapes[i % 4]), [None, "x", "y"][i % 3], {} if i % 2 else {"i": i, "n": [None, {}]}
        )
        for i in range(11)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.cpack"


@given(
    st.lists(
        st.tuples(
            st.text(min_size=1, max_size=8),
            st.none() | st.text(max_size=3),
            ATTRIBUTES,
            st.integers(1, 3),
            st.booleans(),
        ),
        max_size=9,
        unique_by=lambda fields: fields[0],
    ),
    st.integers(1, 4),
)
@settings(max_examples=40)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, fields: list[tuple[Any, ...]], group_items: int) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.cpack"
    dataset = [
        Item(name, image(i, height=side, dtype="uint16" if wide else "uint8"), label, {"i": i, **attributes})
        for i, (name, label, attributes, side, wide) in enumerate(fields)
    ]
    data = packed(dataset, group_items=group_items)
    path.write_bytes(data)
    assert same(read_all(path), dataset)
    assert packed(dataset, group_items=group_items) == data


def test_mixed_shapes_keep_the_order_of_the_dataset(path: Path) -> None:
    dataset = mixed()
    path.write_bytes(packed(dataset))
    with Archive(path, restore) as archive:
        assert len(archive) == 11
        assert not archive.in_order
        assert same(archive, dataset)
        assert archive.labels == [item.label for item in dataset]
        assert all(same([archive[i - 11]], [dataset[i]]) for i in range(11))
        assert same(archive[2:9:3], dataset[2:9:3])
        assert same(archive[::-1], dataset[::-1])
        assert same(archive[-100:3], dataset[:3])
        assert archive[5:2] == []
        assert same([archive[cast(int, np.int64(4))]], [dataset[4]])
        assert same([archive["d1/ä4.png"]], [dataset[4]])
        there, not_there = cast(list[object], ["d1/ä4.png", "d1/a4.png"])
        assert there in archive
        assert not_there not in archive
        assert sum(archive.group_items(g) for g in range(archive.n_groups)) == 11
        places = [(place, item) for group in archive.groups() for place, item in group]
        assert sorted(place for place, _ in places) == list(range(11))
        assert all(same([item], [dataset[place]]) for place, item in places)
        assert archive.byte_count().total == path.stat().st_size == archive.n_bytes
        assert archive.meta == {"created_by": "tests"}
        assert archive.version == (1, 0)


def test_uniform_shapes_are_in_order(path: Path) -> None:
    path.write_bytes(packed(items(5)))
    with Archive(path, restore) as archive:
        assert archive.in_order
        assert [archive.locate(i) for i in range(5)] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)]


def test_an_archive_without_items(path: Path) -> None:
    path.write_bytes(packed([]))
    with Archive(path, restore) as archive:
        assert len(archive) == 0
        assert not list(archive)
        assert not archive.names
        assert not list(archive.groups())
        with pytest.raises(ItemNotFoundError):
            archive[0]


def test_an_item_that_is_not_there(path: Path) -> None:
    path.write_bytes(packed(items(3)))
    with Archive(path, restore) as archive:
        for key in (3, -4, 10**9):
            with pytest.raises(ItemNotFoundError) as raised:
                archive[key]
            assert isinstance(raised.value, IndexError)
        with pytest.raises(ItemNotFoundError, match="no item is named 'x'"):
            archive["x"]


def test_notes_are_kept_in_an_attribute(path: Path) -> None:
    path.write_bytes(
        packed([Item("a", image(0), None, {NOTES: ["P to RGB", "cut"], "k": 1}), Item("b", image(1), None, {NOTES: 5})])
    )
    first, second = read_all(path)
    assert first.notes == ("P to RGB", "cut")
    assert first.attributes == {"k": 1}
    assert second.notes == ()


def test_meta_blocks_merge_and_later_keys_win(path: Path) -> None:
    file = io.BytesIO()
    made = ArchiveWriter(file)
    made.add_meta({"a": 1, "b": {"x": 1}})
    made.add_meta({"b": {"y": 2}, "c": 3})
    made.finish()
    path.write_bytes(file.getvalue())
    with Archive(path, restore) as archive:
        assert archive.meta == {"a": 1, "b": {"y": 2}, "c": 3}


def test_codecs_and_models_are_written_once(path: Path) -> None:
    file = io.BytesIO()
    made = ArchiveWriter(file)
    model = b"\x55 weights" * 50
    dataset = items(6)
    codecs = [XorCodec(key=1, model=model), XorCodec(key=2, model=model), XorCodec(key=1, model=model), XorCodec(key=3)]
    for i, codec in enumerate(codecs):
        add_group(made, [(i, dataset[i])], codec)
    count = made.finish()
    path.write_bytes(file.getvalue())
    kinds = [block[0] for block in blocks_of(file.getvalue())]
    assert kinds.count(BlockType.MODEL) == 1
    assert kinds.count(BlockType.CODEC) == 3
    assert same(read_all(path), dataset[:4])
    counting = Counting()
    with Archive(path, counting) as archive:
        list(archive)
        assert counting.n_restored == 3
        assert sorted(len(record.model) for record in archive.codecs.values()) == [0, len(model), len(model)]
        assert archive.byte_count() == count


def test_directories_in_segments(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SEGMENT_ITEMS", 4)
    dataset = mixed()
    path.write_bytes(packed(dataset))
    assert [block[0] for block in blocks_of(path.read_bytes())].count(BlockType.DIRECTORY) == 3
    assert same(read_all(path), dataset)


def test_large_attributes_end_a_segment(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SEGMENT_BYTES", 1000)
    dataset = [Item(str(i), image(i), None, {"k": "x" * 600}) for i in range(8)]
    path.write_bytes(packed(dataset))
    assert [block[0] for block in blocks_of(path.read_bytes())].count(BlockType.DIRECTORY) == 4
    assert same(read_all(path), dataset)


@pytest.mark.parametrize(
    "fields",
    [
        {"attributes": {"k": float("nan")}},
        {"attributes": {"k": "\ud800"}},
        {"attributes": {"k": b"bytes"}},
        {"attributes": {"k": {1, 2}}},
        {"label": "\udcff"},
    ],
)
def test_what_the_directory_cannot_hold_is_refused_at_its_group(fields: dict[str, Any]) -> None:
    with pytest.raises(BatchcodecError, match="cannot be stored"):
        packed([Item("a", image(0), **fields)])


def test_too_much_for_one_segment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MAX_ATTRIBUTES", 10)
    with pytest.raises(BatchcodecError, match="smaller groups"):
        packed([Item("a", image(0), None, {"key": "a long value"})])


def test_the_writer_refuses_a_second_item_of_one_name_and_rows_that_do_not_fit() -> None:
    with pytest.raises(DuplicateNameError):
        packed([Item("a", image(0)), Item("a", image(1))])
    made = ArchiveWriter(io.BytesIO())
    with pytest.raises(ValueError, match="rows"):
        made.add_group(_head(made), b"", [])


def _head(made: ArchiveWriter) -> Any:
    from batchcodec.archive.wire import GroupHead

    return GroupHead(0, GroupSpec.of(image(0)[None]), 0)


# ---- cache


def test_a_group_is_decoded_once_while_it_stays_in_the_cache(path: Path) -> None:
    path.write_bytes(packed(items(8)))
    counting = Counting()
    with Archive(path, counting) as archive:
        for _ in range(3):
            list(archive)
        assert counting.n_decoded == 4
        list(archive.groups())
        assert counting.n_decoded == 8


def test_the_cache_is_bounded_and_drops_the_group_used_longest_ago(path: Path) -> None:
    path.write_bytes(packed(items(8)))  # four groups of 24 bytes
    counting = Counting()
    with Archive(path, counting, cache_bytes=50) as archive:
        for i in (0, 2, 0, 4, 0):  # the third group drives out the second
            archive[i]
        assert counting.n_decoded == 3
        archive[2]
        assert counting.n_decoded == 4
        assert archive._groups.cache.n_bytes <= 50
    with Archive(path, counting, cache_bytes=0) as archive:
        list(archive)
        assert counting.n_decoded == 8
        assert archive._groups.cache.n_bytes == 24


def test_cached_pixels_cannot_be_written_to(path: Path) -> None:
    path.write_bytes(packed(items(2)))
    with Archive(path, restore) as archive, pytest.raises(ValueError, match="read-only"):
        archive[0].pixels[0, 0, 0] = 1


def test_many_threads(path: Path) -> None:
    dataset = [item for i, item in enumerate(mixed() * 4) if i < 11]
    path.write_bytes(packed(dataset))
    counting = Counting()
    with Archive(path, counting, cache_bytes=30) as archive:
        start = threading.Barrier(6)

        def work(seed: int) -> bool:
            start.wait(10)
            order = np.random.default_rng(seed).integers(0, 11, 100).tolist()
            return all(same([archive[i]], [dataset[i]]) and same([archive[dataset[i].name]], [dataset[i]]) for i in order)

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(work, range(6)))
        assert counting.n_restored == 1


# ---- blocks of later versions, size


def test_an_unknown_ignorable_block_is_passed_over(path: Path) -> None:
    dataset = mixed()
    blocks = blocks_of(packed(dataset))
    for place in range(len(blocks) + 1):
        path.write_bytes(assembled([*blocks[:place], (99, b"from the future", 2**32 - 1, False), *blocks[place:]]))
        assert same(read_all(path), dataset)
        with Archive(path, restore) as archive:
            assert archive.byte_count().total == path.stat().st_size


def test_a_later_minor_version_is_read(path: Path) -> None:
    from .samples import file_header

    path.write_bytes(assembled(blocks_of(packed(items(2))), header=file_header(minor=9)))
    with Archive(path, restore) as archive:
        assert archive.version == (1, 9)
        assert len(list(archive)) == 2


def test_directory_and_index_cost_at_most_two_bytes_per_item(path: Path) -> None:
    n = 10_000
    pixel = np.zeros((1, 1, 1), np.uint8)
    path.write_bytes(packed([Item(f"{i:06}.png", pixel) for i in range(n)], group_items=256))
    with Archive(path, restore) as archive:
        count = archive.byte_count()
        assert count.directory + count.index <= 2 * n
        assert count.overhead <= 2 * n
        assert archive.names[n - 1] == "009999.png"
