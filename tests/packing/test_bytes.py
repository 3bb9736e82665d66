"""The bytes of an archive know nothing of workers, batches and queues; neither do errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import picture
from PIL import Image

import batchcodec
from batchcodec import Item, PackOptions, Preprocess
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.errors import CodecError, InputError, ItemError, OptionError
from batchcodec.packing import grouping, reading, run
from batchcodec.packing.reading import Reader

SHAPES = [(16, 24, 3), (9, 9, 3), (16, 24, 1), (32, 8, 3), (9, 9, 4)]
WAYS = [(1, 0), (1, 1), (2, 0), (2, 3), (5, 1), (5, 7), (5, 1000)]
"""Workers and images of a batch."""


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several shapes, one among the others, broken files in between."""
    folder = tmp_path_factory.mktemp("images")
    for i in range(90):
        (folder / "ab"[i % 2]).mkdir(exist_ok=True)
        path = folder / "ab"[i % 2] / f"{i:03}.png"
        if i % 17 == 5:
            path.write_bytes(b"no picture")
        else:
            pixels = picture(SHAPES[i * i % 7 % 5], i)
            Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(path)
    return folder


def packed(source: Path, target: Path, **options: Any) -> bytes:
    options = {"codec": "zstd:level=1", "group_items": 4, "on_error": "skip", "workers": 1, "force": True, **options}
    batchcodec.pack(source, target, PackOptions(**options))
    return target.read_bytes()


@pytest.fixture(scope="module")
def expected(source: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return packed(source, tmp_path_factory.mktemp("expected") / "a.cpack", batch=1)


@pytest.mark.parametrize(("workers", "batch"), WAYS)
def test_one_archive_however_it_is_made(workers: int, batch: int, source: Path, expected: bytes, tmp_path: Path) -> None:
    assert packed(source, tmp_path / "a.cpack", workers=workers, batch=batch) == expected


@pytest.mark.parametrize("depth", [1, 2, 50])
def test_whatever_the_queues_hold(
    depth: int, source: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = run.Run.__init__
    monkeypatch.setattr(run.Run, "__init__", lambda self, *args: real(self, *args, depth=depth))
    monkeypatch.setattr(reading, "BATCH_BYTES", 2000)  # batches end early, and their rest comes in between
    assert packed(source, tmp_path / "a.cpack", workers=3, batch=10) == expected


@pytest.mark.parametrize(("workers", "batch"), WAYS)
def test_small_buffers_and_preprocessing(
    workers: int, batch: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grouping.Grouping.__init__, "__defaults__", (None, 2500))
    options = {"group_items": None, "preprocess": Preprocess(mode="rgb")}
    one = packed(source, tmp_path / "one.cpack", batch=1, **options)
    assert packed(source, tmp_path / "a.cpack", workers=workers, batch=batch, **options) == one


@pytest.mark.parametrize("suffix", ["tar", "tar.gz", "npz"])
def test_other_formats(suffix: str, expected: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.cpack").write_bytes(expected)
    if suffix == "npz":  # holds one shape
        images = [picture((8, 8, 1), i) for i in range(100)]
        np.savez_compressed(tmp_path / "x.npz", images=images, labels=np.arange(100) % 3)
    else:
        batchcodec.unpack(tmp_path / "a.cpack", tmp_path / f"x.{suffix}")
    size = Preprocess(size=(6, 6))
    one = packed(tmp_path / f"x.{suffix}", tmp_path / "one.cpack", batch=1, preprocess=size)
    for workers, batch in WAYS:
        assert packed(tmp_path / f"x.{suffix}", tmp_path / "b.cpack", workers=workers, batch=batch, preprocess=size) == one


class Stop(BaseException):
    """Ends a pack like a kill."""


@pytest.mark.parametrize(("workers", "batch"), [(1, 1), (2, 5), (5, 0)])
@pytest.mark.parametrize("n_groups", [1, 7, 14])
def test_resumed_with_other_workers(
    n_groups: int, workers: int, batch: int, source: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, written = ArchiveWriter.add_group, []

    def add_group(self: ArchiveWriter, *args: Any) -> None:
        if len(written) == n_groups:
            raise Stop
        written.append(args)
        real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(ArchiveWriter, "add_group", add_group)
        with pytest.raises(Stop):
            packed(source, tmp_path / "a.cpack", workers=6 - workers)
    assert packed(source, tmp_path / "a.cpack", workers=workers, batch=batch, resume=True) == expected


@pytest.mark.parametrize(("workers", "batch"), WAYS)
def test_the_first_bad_item_is_the_error(workers: int, batch: int, source: Path, tmp_path: Path) -> None:
    with pytest.raises(ItemError, match=r"a/022\.png") as raised:
        packed(source, tmp_path / "a.cpack", workers=workers, batch=batch, on_error="fail", group_items=2)
    assert "what was done is kept" in raised.value.__notes__[0]
    # What is kept are all groups before it, however far the threads were.
    options = PackOptions(codec="zstd:level=1", group_items=2, on_error="skip", workers=1, resume=True)
    assert batchcodec.pack(source, tmp_path / "a.cpack", options).n_resumed == 4


@pytest.mark.parametrize(("workers", "batch"), WAYS)
def test_a_codec_that_fails_before_an_item_does(
    workers: int, batch: int, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group was complete before the bad item, so its error is the first one, however long it takes."""
    from batchcodec_plugins.codecs.raw import ZstdCodec

    def encode(self: object, images: object) -> bytes:
        threading.Event().wait(0.05)
        raise ValueError("no")

    monkeypatch.setattr(ZstdCodec, "encode", encode)
    with pytest.raises(CodecError, match="failed on"):
        packed(source, tmp_path / "a.cpack", workers=workers, batch=batch, on_error="fail", group_items=2)
    assert list(tmp_path.iterdir()) == []


def test_of_two_items_of_one_name_the_second_is_left_out(tmp_path: Path) -> None:
    names = [f"{i % 40:03}.png" for i in range(100)]
    np.savez(tmp_path / "x.npz", images=[picture((8, 8, 1), i) for i in range(100)], names=names)
    one = packed(tmp_path / "x.npz", tmp_path / "a.cpack")
    for workers, batch in WAYS:
        assert packed(tmp_path / "x.npz", tmp_path / "a.cpack", workers=workers, batch=batch) == one
    report = batchcodec.pack(tmp_path / "x.npz", tmp_path / "b.cpack", PackOptions(codec="store", on_error="skip"))
    assert (report.n_items, len(report.skipped)) == (40, 60)
    assert (report.skipped[0].item, report.skipped[0].reason) == ("000.png", "two items have this name")


@pytest.mark.parametrize("value", [-1, 257])
def test_numbers_of_workers_that_are_refused(value: int) -> None:
    with pytest.raises(OptionError, match="option workers"):
        PackOptions(workers=value)


@pytest.mark.parametrize(("name", "value"), [("batch", -1), ("batch", 65537), ("device", "tpu")])
def test_other_values_that_are_refused(name: str, value: Any) -> None:
    with pytest.raises(OptionError, match=f"option {name}"):
        PackOptions(**{name: value})


def test_workers_go_by_cores_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchcodec.machine.cores", lambda: 8)
    monkeypatch.setattr("batchcodec.machine.available_memory", lambda: 1 << 40)
    assert PackOptions().n_workers() == 8
    assert PackOptions(workers=3).n_workers() == 3
    monkeypatch.setattr("batchcodec.machine.available_memory", lambda: 600 << 20)
    assert PackOptions().n_workers() == 2
    monkeypatch.setattr("batchcodec.machine.available_memory", lambda: 1)
    assert PackOptions().n_workers() == 1
    monkeypatch.setattr("batchcodec.machine.available_memory", lambda: None)
    assert PackOptions().n_workers() == 8


# ---- reading


class Items:
    """A dataset that notes which thread asks for what."""

    def __init__(self, n: int, parallel: bool | None, side: int = 4) -> None:
        self.n, self.side = n, side
        self.asked: list[tuple[int, int]] = []
        if parallel is not None:
            self.parallel_reads = parallel

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> Item:
        self.asked.append((index, threading.get_ident()))
        if index % 10 == 7:
            raise ZeroDivisionError(f"item {index}")
        return Item(f"{index:04}", np.full((self.side, self.side, 1), index % 251, np.uint8))


def _outcomes(dataset: Any, **options: Any) -> list[Item | Exception]:
    reader = Reader(dataset, Path("x"), Preprocess(size=(3, 3)), **options)
    found: list[Item | Exception] = []
    for batch in reader.batches():
        found += batch.outcomes
    return found


@pytest.mark.parametrize("parallel", [None, False, True])
@pytest.mark.parametrize("batch", [0, 1, 9])
@pytest.mark.parametrize("batch_bytes", [1, 100, 4 << 20])
def test_items_come_in_order(batch_bytes: int, batch: int, parallel: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH_BYTES", batch_bytes)
    dataset = Items(100, parallel)
    found = _outcomes(dataset, threads=3, batch=batch)
    assert [o.name if isinstance(o, Item) else str(o) for o in found] == [
        f"x: 'item {i}': ZeroDivisionError: item {i}" if i % 10 == 7 else f"{i:04}" for i in range(100)
    ]
    assert all(o.pixels.shape == (3, 3, 1) for o in found if isinstance(o, Item))
    assert sorted(index for index, _ in dataset.asked) == list(range(100))
    if not parallel:
        assert dataset.asked == [(index, threading.get_ident()) for index in range(100)]
    else:
        assert threading.get_ident() not in {thread for _, thread in dataset.asked}


@pytest.mark.parametrize("parallel", [False, True])
def test_what_is_read_ahead_is_bounded(parallel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH_BYTES", 10_000)
    dataset = Items(1000, parallel, side=50)  # 2500 bytes each
    reader = Reader(dataset, Path("x"), Preprocess(size=(3, 3)), threads=2, batch=500)
    taken = 0
    for batch in reader.batches():
        threading.Event().wait(0.002)
        taken += len(batch.outcomes)
        assert batch.n_bytes <= 10_000 + 2500
        assert len(dataset.asked) - taken <= 3 * 6
        if taken > 200:
            break


def test_batches_grow_to_what_is_worth_handing_over() -> None:
    reader = Reader(Items(20_000, True), Path("x"), Preprocess(), threads=2)
    sizes = [len(batch.outcomes) for batch in reader.batches()]
    assert sizes[0] == 1
    assert 100 < max(sizes) <= reading.MAX_FREE_BATCH


def test_strange_pixels_are_errors_of_their_item(tmp_path: Path) -> None:
    class Strange(Items):
        def __getitem__(self, index: int) -> Item:
            shapes = [(4, 4), (4, 4, 1), (0, 4, 1)]
            return Item(f"{index:04}", np.zeros(shapes[index % 3], np.uint8))

    reader = Reader(Strange(3, True), tmp_path, Preprocess(), threads=2)  # type: ignore[arg-type]
    found = [outcome for batch in reader.batches() for outcome in batch.outcomes]
    assert [str(o).partition(": ")[2] if isinstance(o, InputError) else "" for o in found] == [
        "'0000': pixels of shape [4, 4] are no image",
        "",
        "'0002': pixels of shape [0, 4, 1] are no image",
    ]
