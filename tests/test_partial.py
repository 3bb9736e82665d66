"""Unfinished archives: what a later run goes on with, and what it refuses."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import batchcodec
from batchcodec import PackOptions, journal, partial
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.errors import InputError, ItemError, OutputError, UnfinishedError
from batchcodec.pack import PackReport


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "a.cpack"


class Stop(BaseException):
    """Ends a pack like a kill: no handler of an error is meant for it."""


def packed(source: Path, target: Path, **options: Any) -> PackReport:
    return batchcodec.pack(source, target, PackOptions(**{"codec": "zstd", "group_items": 2, "workers": 1, **options}))


@contextlib.contextmanager
def stopped_after(n_groups: int) -> Iterator[None]:
    """Groups that a pack may write before it stops."""
    real, count = ArchiveWriter.add_group, 0

    def add_group(self: ArchiveWriter, *args: Any) -> None:
        nonlocal count
        if count == n_groups:
            raise Stop
        count += 1
        real(self, *args)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):  # noqa: PT012
        patch.setattr(ArchiveWriter, "add_group", add_group)
        yield


def left(target: Path) -> list[str]:
    return sorted(path.name.removeprefix("a.cpack") for path in target.parent.iterdir())


@pytest.mark.parametrize("parity", [0.0, 0.05])
@pytest.mark.parametrize("n_groups", [1, 5, 9])
def test_going_on_gives_the_same_bytes(parity: float, n_groups: int, source: Path, target: Path, tmp_path: Path) -> None:
    whole = packed(source, tmp_path / "whole.cpack", parity=parity)
    with stopped_after(n_groups):
        packed(source, target, parity=parity)
    assert left(target) == [".partial", ".partial.journal"]
    report = packed(source, target, parity=parity, resume=True)
    assert target.read_bytes() == (tmp_path / "whole.cpack").read_bytes()
    assert left(target) == [""]
    assert report.n_resumed == n_groups
    assert (report.mean_psnr, report.pooled_psnr, report.bytes) == (whole.mean_psnr, whole.pooled_psnr, whole.bytes)


def test_learned_codecs_go_on_too(target: Path, tmp_path: Path) -> None:
    source = tmp_path / "x.npy"
    np.save(source, np.random.default_rng(0).integers(0, 256, (6, 16, 24, 3), np.uint8))
    packed(source, tmp_path / "whole.cpack", codec="hyperprior-1:effort=2")
    with stopped_after(2):
        packed(source, target, codec="hyperprior-1:effort=2")
    assert packed(source, target, codec="hyperprior-1:effort=2", resume=True).n_resumed == 2
    assert target.read_bytes() == (tmp_path / "whole.cpack").read_bytes()


def test_no_group_done_leaves_nothing(source: Path, target: Path) -> None:
    with stopped_after(0):
        packed(source, target)
    assert left(target) == []


def test_resume_without_anything_to_resume_packs(source: Path, target: Path) -> None:
    assert packed(source, target, resume=True).n_resumed == 0
    assert left(target) == [""]


def test_an_unfinished_archive_is_not_thrown_away_unasked(source: Path, target: Path) -> None:
    with stopped_after(3):
        packed(source, target)
    with pytest.raises(UnfinishedError, match="3 groups of an unfinished archive are in it; --resume goes on"):
        packed(source, target)
    assert packed(source, target, force=True).n_resumed == 0
    assert left(target) == [""]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"group_items": 3}, "group 2, not 3"),
        ({"codec": "store"}, "codec 'zstd', not 'store'"),
        ({"preprocess": batchcodec.Preprocess(size=(4, 4))}, "preprocess"),
    ],
)
def test_other_options_are_refused(change: dict[str, Any], match: str, source: Path, target: Path) -> None:
    with stopped_after(3):
        packed(source, target)
    before = {path: path.read_bytes() for path in target.parent.iterdir()}
    with pytest.raises(UnfinishedError, match=match):
        packed(source, target, resume=True, **change)
    assert {path: path.read_bytes() for path in target.parent.iterdir()} == before


def test_another_version_is_refused(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stopped_after(3):
        packed(source, target)
    monkeypatch.setattr(partial, "__version__", "99.0")
    with pytest.raises(UnfinishedError, match=r"made it, and this is 99\.0"):
        packed(source, target, resume=True)


def test_another_source_is_refused(source: Path, target: Path) -> None:
    with stopped_after(5):
        packed(source, target)
    images = np.load(source)
    np.save(source, images[:19])
    with pytest.raises(UnfinishedError, match="number of images 20, not 19"):
        packed(source, target, resume=True)
    images[9, 0, 0] ^= 1
    np.save(source, images)
    with pytest.raises(UnfinishedError, match="its group 4 was packed from other images than '000008"):
        packed(source, target, resume=True)
    images[9, 0, 0] ^= 1
    np.save(source, images)
    assert packed(source, target, resume=True).n_resumed == 5


def test_a_changed_image_that_was_not_packed_yet_does_not_matter(source: Path, target: Path) -> None:
    with stopped_after(5):
        packed(source, target)
    images = np.load(source)
    images[15] = 0
    np.save(source, images)
    packed(source, target, resume=True)
    with batchcodec.open(target) as archive:
        assert not archive[15].pixels.any()


@pytest.mark.parametrize("damage", ["journal lost", "journal garbage", "journal of another program"])
def test_without_a_journal_nobody_goes_on(damage: str, source: Path, target: Path) -> None:
    with stopped_after(3):
        packed(source, target)
    beside = target.with_name("a.cpack.partial.journal")
    if damage == "journal lost":
        beside.unlink()
    else:
        beside.write_bytes(b"\0" * 500 if "garbage" in damage else journal.packed({"hello": 1}))
    with pytest.raises(UnfinishedError, match=r"its journal is lost|batchcodec None made it"):
        packed(source, target, resume=True)
    assert packed(source, target, force=True).n_resumed == 0


@pytest.mark.parametrize("cut", [1, 20, 150])
def test_a_torn_journal_costs_its_last_lines(cut: int, source: Path, target: Path, tmp_path: Path) -> None:
    packed(source, tmp_path / "whole.cpack")
    with stopped_after(6):
        packed(source, target)
    beside = target.with_name("a.cpack.partial.journal")
    beside.write_bytes(beside.read_bytes()[:-cut])
    assert packed(source, target, resume=True).n_resumed < 6
    assert target.read_bytes() == (tmp_path / "whole.cpack").read_bytes()


def test_blocks_that_the_disk_lost_are_packed_again(source: Path, target: Path, tmp_path: Path) -> None:
    packed(source, tmp_path / "whole.cpack")
    with stopped_after(6):
        packed(source, target)
    path = target.with_name("a.cpack.partial")
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    path.write_bytes(data)
    assert 0 < packed(source, target, resume=True).n_resumed < 6
    assert target.read_bytes() == (tmp_path / "whole.cpack").read_bytes()


def test_a_failure_at_the_very_start_leaves_nothing(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("batchcodec.disk.sync", full)
    with pytest.raises(OutputError, match="No space left"):
        packed(source, target)
    assert left(target) == []


def test_two_processes_do_not_write_one_archive(source: Path, target: Path) -> None:
    script = f"""
import pathlib, sys
from batchcodec.partial import Partial
with Partial(pathlib.Path({str(target)!r}), {{}}, resume=False, force=False):
    print("open", flush=True)
    sys.stdin.read()
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"open\n"
        for options in ({}, {"force": True}, {"resume": True}):
            with pytest.raises(OutputError, match="another process is writing it"):
                packed(source, target, **options)
    finally:
        process.communicate()
    packed(source, target)
    assert left(target) == [""]


def test_a_link_in_the_place_of_the_partial_file_is_not_followed(source: Path, target: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    target.with_name("a.cpack.partial").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError):
        packed(source, target, force=True)
    assert (tmp_path / "precious").read_text() == "precious"


def test_names_with_the_characters_of_globs(source: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    target = tmp_path / "work" / "a[0-9]*.cpack"
    beside = tmp_path / "work" / "a5b.cpack.partial.journal"
    beside.write_text("another's")
    with stopped_after(3):
        packed(source, target)
    packed(source, target, resume=True)
    assert sorted(path.name for path in target.parent.iterdir()) == ["a5b.cpack.partial.journal", "a[0-9]*.cpack"]


def test_a_fit_is_kept(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No second run would fit alike, so a run that goes on takes what the first one fitted."""
    with partial.Partial(target, {"a": 1}, resume=False, force=False) as unfinished:
        assert unfinished.fitted() is None
        unfinished.keep_fit("a reason", {3: b"model", 1: b"other"})
    with (
        pytest.raises(UnfinishedError, match="a fit for it is done"),
        partial.Partial(target, {"a": 1}, resume=False, force=False),
    ):
        pass
    with pytest.raises(UnfinishedError, match="a 1, not 2"), partial.Partial(target, {"a": 2}, resume=True, force=False):
        pass
    with partial.Partial(target, {"a": 1}, resume=True, force=False) as unfinished:
        assert unfinished.fitted() == ("a reason", {3: b"model", 1: b"other"})
    target.with_name("a.cpack.partial.model-3").write_bytes(b"damaged")
    with partial.Partial(target, {"a": 1}, resume=True, force=False) as unfinished:
        assert unfinished.fitted() is None
        unfinished.finish()
    assert left(target) == [""]


def test_a_file_that_changes_while_it_is_packed(source: Path, target: Path) -> None:
    def touch(status: object) -> None:
        os.utime(source, ns=(1, 1))

    with pytest.raises(InputError, match="it was changed while it was packed"):
        batchcodec.pack(source, target, PackOptions(codec="zstd", group_items=2), progress=touch)
    assert not target.exists()


def test_an_image_that_vanishes_while_a_folder_is_packed(tmp_path: Path, target: Path) -> None:
    from PIL import Image

    for i in range(20):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(np.full((8, 8), i, np.uint8)).save(tmp_path / "images" / f"{i:02}.png")

    def remove(status: object) -> None:
        (tmp_path / "images" / "17.png").unlink(missing_ok=True)

    options = PackOptions(codec="zstd", group_items=2)
    with pytest.raises(ItemError, match=r"17\.png"):
        batchcodec.pack(tmp_path / "images", target, options, progress=remove)
    assert not target.exists()
    # The folder has another number of images now, so what was done does not fit.
    with pytest.raises(UnfinishedError, match="number of images 20, not 19"):
        batchcodec.pack(tmp_path / "images", target, PackOptions(codec="zstd", group_items=2, resume=True))


def test_journal_lines() -> None:
    records = [{"a": 1}, {"b": [1.5, "x\n"]}]
    data = b"".join(map(journal.packed, records))
    assert journal.parsed(data) == records
    for length in range(len(data)):
        assert journal.parsed(data[:length]) == records[: data[:length].count(b"\n")]
    for place in range(len(data)):
        damaged = bytearray(data)
        damaged[place] ^= 1
        assert journal.parsed(bytes(damaged)) in ([], records[:1])
