"""Many items at once, parts of groups, threads, forks, pickles, and files that change under an open archive."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.archive import items as items_module
from batchcodec.archive import writer
from batchcodec.archive.cache import GroupCache
from batchcodec.archive.reader import Archive
from batchcodec.archive.wire import BlockType, CodecRecord
from batchcodec.codec import Codec
from batchcodec.errors import (
    ArchiveError,
    BatchcodecError,
    CorruptArchiveError,
    CorruptGroupError,
    DriftError,
    ItemNotFoundError,
    MixedShapesError,
    OptionError,
    TruncatedArchiveError,
)
from batchcodec.types import GroupSpec, Item, Pixels

from .samples import XorCodec, add_group, assembled, blocks_of, image, items, packed, restore, same
from .test_damage import damaged_group


class Watching:
    """A `restore` that notes which items of which groups are decoded; `None` stands for a whole group."""

    def __init__(self, *, partial: bool = True) -> None:
        self.asked: list[list[int] | None] = []
        self.partial = partial

    def __call__(self, record: CodecRecord) -> Codec:
        watching = self

        class Watched(XorCodec):
            @property
            def partial(self) -> bool:
                return watching.partial

            def decode(self, payload: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
                watching.asked.append(None if items is None else list(items))
                return super().decode(payload, spec, items)

        return Watched.restore(record.config, record.model)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.cpack"


# ---- read


@given(st.data(), st.integers(1, 12), st.integers(1, 5), st.integers(0, 100), st.booleans(), st.integers(1, 3))
@settings(max_examples=60)
def test_read_is_as_item_by_item_and_as_groups(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    n: int,
    group_items: int,
    cache_bytes: int,
    strict: bool,
    workers: int,
) -> None:
    path = tmp_path_factory.getbasetemp() / "read.cpack"
    dataset = items(n, dtype="uint16" if n % 2 else "uint8")
    path.write_bytes(packed(dataset, group_items=group_items))
    indices = data.draw(st.lists(st.integers(-n, n - 1), max_size=15))
    want = [dataset[i].pixels for i in indices]
    with Archive(path, restore, cache_bytes=cache_bytes, strict=strict, workers=workers) as archive:
        for _ in range(2):
            got = archive.read(indices)
            assert got.shape == (len(indices), 3, 4, 1)
            assert got.dtype == dataset[0].pixels.dtype
            assert got.flags.writeable
            assert all(np.array_equal(a, b) for a, b in zip(got, want, strict=True))
            assert all(np.array_equal(a, b) for a, b in zip(archive.read_each(indices), want, strict=True))
            assert same(archive.take(indices), [dataset[i] for i in indices])
            assert same([archive[i] for i in indices], [dataset[i] for i in indices])
            assert same(archive, dataset)
        out = np.zeros((len(indices), 3, 4, 2), got.dtype)[..., :1]  # also where it is not contiguous
        assert archive.read(np.array(indices, np.int32), out) is out
        assert np.array_equal(out, got)
        for workers in (0, 2):
            found = dict(pair for group in archive.groups(workers=workers) for pair in group)
            assert same([found[i] for i in range(n)], dataset)
        assert np.array_equal(archive.to_numpy(), np.stack([item.pixels for item in dataset]))


def test_read_takes_each_group_once(path: Path) -> None:
    path.write_bytes(packed(items(12), group_items=4))
    watching = Watching()
    with Archive(path, watching, cache_bytes=0) as archive:
        archive.read([0, 11, 4, 1, 0, 10, 5, 1])
        assert watching.asked == [None, None, None] or len(watching.asked) == 3


def test_read_of_different_shapes_names_the_items(path: Path) -> None:
    dataset = [Item("a", image(0)), Item("b", image(1)), Item("c", image(2, height=5)), Item("d", image(3, dtype="uint16"))]
    path.write_bytes(packed(dataset))
    with Archive(path, restore) as archive:
        assert archive.read([1, 0]).shape == (2, 3, 4, 1)
        for index, name in ((2, "'c' is 4x5 L"), (3, "'d' is 4x3 L 16-bit")):
            with pytest.raises(MixedShapesError, match=rf"item {index}, {name}, item 0, 'a' is 4x3 L.*read_each"):
                archive.read([0, 1, index])
        assert [p.shape for p in archive.read_each([3, 2, 0])] == [(3, 4, 1), (5, 4, 1), (3, 4, 1)]
        with pytest.raises(ValueError, match="read-only"):
            archive.read_each([0])[0][:] = 0
        with pytest.raises(MixedShapesError):
            archive.to_numpy()
    assert issubclass(MixedShapesError, ValueError)


def test_what_read_refuses(path: Path) -> None:
    path.write_bytes(packed(items(3)))
    locked = np.zeros((1, 3, 4, 1), np.uint8)
    locked.flags.writeable = False
    with Archive(path, restore) as archive:
        for index in (3, -4, 10**12):
            with pytest.raises(ItemNotFoundError, match=f"item {index} of 3") as raised:
                archive.read([0, index])
            assert isinstance(raised.value, IndexError)
        for out in (np.zeros((2, 3, 4, 1), np.uint8), np.zeros((1, 3, 4, 1), np.uint16), np.zeros((1, 3, 4), np.uint8), locked):
            with pytest.raises(OptionError, match=r"expected uint8 \[1, 3, 4, 1\], writable"):
                archive.read([0], out)
        bad: list[Any] = [[0.5], [[0]], [True, False], ["a"], 3]
        for indices in bad:
            with pytest.raises(OptionError, match="integers"):
                archive.read(indices)
        assert archive.read([]).shape == (0, 3, 4, 1)
        assert archive.read_each([]) == []


def test_an_archive_without_items(path: Path) -> None:
    path.write_bytes(packed([]))
    with Archive(path, restore) as archive:
        assert archive.to_numpy().shape == (0, 0, 0, 0)
        assert archive.classes == []
        assert archive.targets.shape == (0,)
        assert archive.attributes == []
        assert "a" not in archive


def test_labels_as_numbers(path: Path) -> None:
    labels = ["b", None, "a", "b", "c", "a"]
    shapes = [3, 5, 3, 3, 5, 3]
    dataset = [
        Item(f"{i}", image(i, height=height), label, {"k": i})
        for i, (label, height) in enumerate(zip(labels, shapes, strict=True))
    ]
    path.write_bytes(packed(dataset))
    with Archive(path, restore) as archive:
        assert not archive.in_order
        assert archive.classes == ["a", "b", "c"]
        assert archive.targets.tolist() == [1, -1, 0, 1, 2, 0]
        assert archive.labels == labels
        assert archive.attributes == [{"k": i} for i in range(6)]


# ---- parts of groups, and what proves them


def test_a_part_is_decoded_once_a_whole_group_proved_the_codec(path: Path) -> None:
    path.write_bytes(packed(items(16), group_items=4))
    watching = Watching()
    with Archive(path, watching) as archive:
        archive[0]
        assert watching.asked == [None]  # nothing is known of the codec yet
        archive[1]
        assert watching.asked == [None]  # kept
        archive[6]
        archive.read([9, 9])
        assert watching.asked[1:] == [[2], [1]]
        archive[7]
        archive[5]
        assert watching.asked[3:] == [None]  # in order, so whole, and kept
        archive.read([12, 13, 15])
        assert watching.asked[4:] == [None]  # more than half
        assert same(archive, items(16))


def test_a_group_is_decoded_as_a_whole_once_its_parts_took_as_long() -> None:
    cache = GroupCache(100)
    for seconds in (0.4, 0.5, 0.2):
        assert not cache.worth_all(3, [5], 40, 1.0)
        cache.spent(3, seconds)
    assert cache.worth_all(3, [5], 40, 1.0)
    assert not cache.worth_all(4, [5, 2], 40, 1.0)  # another one
    assert not cache.worth_all(4, [5], 40, 1.0)  # not after 5
    assert cache.worth_all(4, [8, 6], 40, 1.0)
    assert not cache.worth_all(5, [0], 40, 1.0)  # now 3 would no longer be kept
    assert not cache.worth_all(3, [6], 40, 1.0)
    cache.spent(9, 1.0)  # of one that is forgotten


def test_reading_at_random_keeps_what_pays(path: Path) -> None:
    """However long the parts take: sooner or later all of the only group is kept."""
    path.write_bytes(packed(items(32), group_items=16))
    watching = Watching()
    with Archive(path, watching) as archive:
        archive[0]
        for _ in range(1000):
            for index in (20, 18, 30):
                assert np.array_equal(archive[index].pixels, image(index))
            if None in watching.asked[1:]:
                break
    assert watching.asked[-1] is None
    assert watching.asked.count(None) == 2


@pytest.mark.parametrize(("strict", "partial"), [(True, True), (False, False)])
def test_whole_groups_only(path: Path, strict: bool, partial: bool) -> None:
    path.write_bytes(packed(items(16), group_items=4))
    watching = Watching(partial=partial)
    with Archive(path, watching, strict=strict) as archive:
        for index in (0, 5, 10, 15, 4):
            archive[index]
    assert watching.asked == [None] * 4


def test_each_shape_is_proven_by_itself(path: Path) -> None:
    dataset = [Item(str(i), image(i, height=3 + i // 8)) for i in range(16)]
    path.write_bytes(packed(dataset, group_items=4))
    watching = Watching()
    with Archive(path, watching) as archive:
        for index in (0, 4, 8, 12):
            archive[index]
    assert watching.asked == [None, [0], None, [0]]


def test_wrong_pixels_are_found_before_any_part_is_given(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(packed(items(8), group_items=4))
    monkeypatch.setattr(XorCodec, "offset", 1)
    with Archive(path, restore) as archive:
        for index in (0, 5, 7):
            with pytest.raises(DriftError, match=f"asked for: item {index}"):
                archive[index]
            with pytest.raises(DriftError):
                archive.read([index])


def test_stored_bytes_are_checked_for_a_part_too(path: Path) -> None:
    path.write_bytes(damaged_group(packed(items(12), group_items=4), 1))
    with Archive(path, restore) as archive:
        archive[0]
        for ask in (lambda: archive[5], lambda: archive.read([0, 5]), lambda: archive.take([5]), lambda: archive["i/005.bin"]):
            with pytest.raises(CorruptGroupError, match=r"group 1.*asked for: item 5, 'i/005\.bin'") as raised:
                ask()
            assert raised.value.fields["group"] == 1
            assert raised.value.fields["item"] == "item 5, 'i/005.bin'"
        with pytest.raises(CorruptGroupError, match="asked for: item 4"):
            list(archive)
        assert same(archive.take([0, 1, 2, 3, 8, 9]), [*items(4), *items(12)[8:10]])


def test_rounding_of_a_whole_group_proves_an_inexact_codec(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = [Item(str(i), np.clip(image(i, 20, 20), 0, 50)) for i in range(8)]
    path.write_bytes(packed(dataset, group_items=4, exact=False))
    monkeypatch.setattr(XorCodec, "offset", 1)
    watching = Watching()
    with Archive(path, watching) as archive:
        archive[0]
        archive[5]
        assert watching.asked == [None, [1]]
        assert archive.rounded_groups == {0}


# ---- threads


def test_a_group_that_many_threads_want_is_decoded_once(path: Path) -> None:
    dataset = items(40)
    path.write_bytes(packed(dataset, group_items=10))
    watching = Watching()
    with Archive(path, watching, strict=True, workers=2) as archive:
        barrier = threading.Barrier(8)

        def work(seed: int) -> bool:
            barrier.wait(10)
            rng = np.random.default_rng(seed)
            for _ in range(20):
                order = rng.integers(0, 40, 6).tolist()
                if not same(archive.take(order), [dataset[i] for i in order]) or not same(
                    [archive[order[0]]], [dataset[order[0]]]
                ):
                    return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))
    assert watching.asked == [None] * 4


def test_threads_with_a_cache_that_is_too_small(path: Path) -> None:
    dataset = [Item(str(i), image(i, height=3 + i % 2), "xy"[i % 2]) for i in range(60)]
    path.write_bytes(packed(dataset, group_items=7))
    with Archive(path, restore, cache_bytes=100) as archive:

        def work(seed: int) -> bool:
            order = np.random.default_rng(seed).integers(0, 60, 200).tolist()
            return all(
                same([archive[i] if i % 3 else archive[dataset[i].name]], [dataset[i]])
                and same(archive.take(order[:5]), [dataset[k] for k in order[:5]])
                for i in order
            )

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))
        assert archive._groups.cache.n_bytes <= max(100, 7 * 4 * 4)


def test_threads_that_wait_for_a_decoder_that_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(packed(items(4), group_items=4))
    barrier = threading.Barrier(4)
    monkeypatch.setattr(XorCodec, "offset", 1)
    with Archive(path, restore) as archive:

        def work(index: int) -> type[BaseException] | None:
            barrier.wait(10)
            try:
                archive[index]
            except BatchcodecError as exc:
                return type(exc)
            return None

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(work, range(4))) == [DriftError] * 4


# ---- life: closing, forks, pickles


def test_everything_is_refused_once_it_is_closed(path: Path) -> None:
    path.write_bytes(packed(items(8)))
    archive = Archive(path, restore)
    archive.close()
    asks = (
        lambda: archive[0],
        lambda: archive.read([0]),
        lambda: archive.to_numpy(),
        lambda: archive.names,
        lambda: archive.group_head(0),
        lambda: list(archive.groups(workers=2)),
    )
    for ask in asks:
        with pytest.raises(ArchiveError, match="closed"):
            ask()
    assert len(archive) == 8


def test_closing_while_threads_read(path: Path) -> None:
    path.write_bytes(packed(items(40)))
    for _ in range(20):
        archive = Archive(path, restore, cache_bytes=0)
        wrong: list[BaseException] = []
        started = threading.Event()

        def work(archive: Archive = archive, wrong: list[BaseException] = wrong, started: threading.Event = started) -> None:
            try:
                for _ in range(100_000):
                    archive.read([3, 20])
                    started.set()
            except ArchiveError as exc:
                if "closed" not in str(exc):
                    wrong.append(exc)
            except BaseException as exc:
                wrong.append(exc)

        thread = threading.Thread(target=work)
        thread.start()
        started.wait(10)
        archive.close()
        others = [path.open("rb") for _ in range(3)]  # which may get the same descriptor
        thread.join(30)
        for other in others:
            other.close()
        assert not thread.is_alive()
        assert not wrong


FORK = """
import os, sys, threading
sys.path.insert(0, sys.argv[2])
from tests.archive.samples import items, restore, same
from batchcodec.archive.reader import Archive

archive = Archive(sys.argv[1], restore, workers=2)
archive.read(range(8))
stop, ready = threading.Event(), threading.Event()

def hold():
    with archive._groups._lock, archive._groups.cache._lock, archive._items._lock, archive._gatherer._lock:
        ready.set()
        stop.wait(60)

def hammer():
    while not stop.is_set():
        archive.read([1, 30, 17])

holder = threading.Thread(target=hold)
for round in range(10):
    stop.clear(), ready.clear()
    threads = [threading.Thread(target=hammer)] if round % 2 else [threading.Thread(target=hold)]
    for thread in threads:
        thread.start()
    if not round % 2:
        ready.wait(10)
    pid = os.fork()
    if not pid:
        good = same(archive.take(range(40)), items(40)) and same([archive["i/007.bin"]], items(8)[7:])
        os._exit(0 if good else 1)
    _, status = os.waitpid(pid, 0)
    stop.set()
    for thread in threads:
        thread.join()
    assert status == 0, status
    assert same(archive.take(range(40)), items(40))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_reads_whatever_threads_were_doing(path: Path) -> None:
    path.write_bytes(packed(items(40), group_items=4))
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK, str(path), str(root)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=root,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_archive_is_pickled_by_its_path(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_bytes(packed(items(6)))
    monkeypatch.chdir(path.parent)
    with Archive(path.name, restore, cache_bytes=7, strict=True, workers=3) as archive:
        archive[0]
        monkeypatch.chdir("/")
        data = pickle.dumps(archive)
        assert len(data) < 1000
        with pickle.loads(data) as again:
            assert same(again, items(6))
            assert (again._groups.cache.limit, again._groups._strict, again._gatherer._workers) == (7, True, 3)
    other = packed(items(6), group_items=3)
    path.write_bytes(other)
    with pytest.raises(ArchiveError, match="another archive"):
        pickle.loads(data)


def test_errors_survive_pickling(path: Path) -> None:
    path.write_bytes(damaged_group(packed(items(4)), 1))
    with Archive(path, restore) as archive, pytest.raises(CorruptGroupError) as raised:
        archive[3]
    again = pickle.loads(pickle.dumps(raised.value))
    assert type(again) is CorruptGroupError
    assert (str(again), again.fields) == (str(raised.value), raised.value.fields)
    option = pickle.loads(pickle.dumps(OptionError("a", 1, "2")))
    assert (type(option), str(option)) == (OptionError, "option a: got 1, expected 2")


@pytest.mark.parametrize("length", [0, 40, 400, 1000])
def test_a_file_that_is_cut_under_an_open_archive(path: Path, length: int) -> None:
    """No SIGBUS, as a mapped file would give: an error that says where the file ends."""
    path.write_bytes(packed(items(40), group_items=4))
    with Archive(path, restore, cache_bytes=0, workers=2) as archive:
        archive[0]
        assert len(archive.names) == 40
        os.truncate(path, length)
        for ask in (lambda: archive[39], lambda: archive.read([1, 20, 39]), lambda: list(archive.groups(workers=2))):
            with pytest.raises(TruncatedArchiveError, match=f"it ends at byte {length}"):
                ask()


# ---- the directory, a block at a time


def test_only_the_block_of_an_item_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "SEGMENT_ITEMS", 4)
    dataset = [Item(f"n{i}", image(i), "ab"[i % 2], {"i": i}) for i in range(20)]
    path.write_bytes(packed(dataset))
    with Archive(path, restore) as archive:
        assert len(archive) == 20
        assert archive._items._columns == {}
        archive.read([3, 17])
        assert archive.in_order
        assert archive._items._columns == {}
        assert same([archive[9]], dataset[9:10])
        assert list(archive._items._columns) == [2]
        assert same(archive[2:6], dataset[2:6])
        assert sorted(archive._items._columns) == [0, 1, 2]
        assert [row.name for row in archive.rows[3:9]] == [f"n{i}" for i in range(3, 9)]
        assert [row.name for row in archive.rows] == archive.names
        assert archive.rows[-1].name == "n19"


def test_a_damaged_block_leaves_the_items_of_the_others(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block whose bytes are wrong fails the order of all; one with a bad column fails its own items."""
    monkeypatch.setattr(writer, "SEGMENT_ITEMS", 4)
    dataset = items(12)
    blocks = blocks_of(packed(dataset))
    places = [i for i, block in enumerate(blocks) if block[0] == BlockType.DIRECTORY]
    from batchcodec.archive import wire

    covered, table = wire.parse_directory(blocks[places[1]][1])
    broken = table.replace(b"i/004.bin", b"i/00\xff.bin")
    assert broken != table
    blocks[places[1]] = (BlockType.DIRECTORY, wire.pack_directory(broken, covered), blocks[places[1]][2], True)
    path.write_bytes(assembled(blocks))
    with Archive(path, restore) as archive:
        assert same([archive[0], archive[11]], [dataset[0], dataset[11]])
        assert np.array_equal(archive.read([5])[0], dataset[5].pixels)
        for ask in (lambda: archive[5], lambda: archive.names, lambda: archive["i/000.bin"], lambda: list(archive)):
            for _ in range(2):
                with pytest.raises(CorruptArchiveError, match="UTF-8"):
                    ask()


def test_names_whose_hashes_are_equal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Xxhash:
        @staticmethod
        def xxh3_64_intdigest(name: bytes) -> int:
            return len(name) % 2

    monkeypatch.setattr(items_module, "xxhash", Xxhash)
    dataset = [Item("x" * (1 + i % 4) + str(i), image(i)) for i in range(12)]
    path.write_bytes(packed(dataset))
    with Archive(path, restore) as archive:
        assert all(same([archive[item.name]], [item]) for item in dataset)
        assert all(name not in archive for name in ("x", "y1", "\ud800"))
    twice = packed([Item("a", image(0)), Item("b", image(1)), Item("cc", image(2)), Item("d", image(3))])
    path.write_bytes(twice)
    blocks = blocks_of(twice)
    from batchcodec.archive import wire

    place = next(i for i, block in enumerate(blocks) if block[0] == BlockType.DIRECTORY)
    covered, table = wire.parse_directory(blocks[place][1])
    blocks[place] = (BlockType.DIRECTORY, wire.pack_directory(table.replace(b"abccd", b"abcca"), covered), 4, True)
    path.write_bytes(assembled(blocks))
    with Archive(path, restore) as archive, pytest.raises(CorruptArchiveError, match="two items have one name"):
        archive["a"]


def test_many_items_are_not_made_into_objects(path: Path) -> None:
    """What `read` by place needs of 100,000 items is some bytes of each, in order or not."""
    import io
    import tracemalloc

    n, each = 100_000, 1000
    order = np.random.default_rng(0).permutation(n)
    file = io.BytesIO()
    made = writer.ArchiveWriter(file)
    pixels = np.arange(n, dtype=np.uint32).view(np.uint8).reshape(n, 1, 1, 4)
    for start in range(0, n, each):
        rows = [(int(order[i]), Item(f"some/folder/{order[i]:09}.png", pixels[i])) for i in range(start, start + each)]
        add_group(made, rows, XorCodec())
    made.finish()
    path.write_bytes(file.getvalue())
    tracemalloc.start()
    try:
        with Archive(path, restore, cache_bytes=0, workers=1) as archive:
            assert archive.read([int(order[777])]).view(np.uint32).ravel().tolist() == [777]
            assert not archive.in_order
            assert tracemalloc.get_traced_memory()[0] < 12 * n
            assert tracemalloc.get_traced_memory()[1] < 100 * n
            assert archive[5].name == "some/folder/000000005.png"
            assert archive["some/folder/000000005.png"].pixels.shape == (1, 1, 4)
            assert tracemalloc.get_traced_memory()[0] < 120 * n
    finally:
        tracemalloc.stop()
