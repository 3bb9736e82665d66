"""Results in order, whatever the threads do; bounded ahead; errors, closing and Ctrl-C drop what has not begun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import batchcodec
from batchcodec import PackOptions, Selection, UnpackOptions
from batchcodec.errors import CorruptGroupError, OptionError
from batchcodec.parallel import cores, in_order


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(0, 4), st.integers(1, 30), st.integers(0, 5))
@settings(max_examples=40)
def test_the_order_is_that_of_the_tasks(tasks: list[int], workers: int, n_bytes: int, ahead: int) -> None:
    lock, running, most = threading.Lock(), [0], [0]

    def work(task: int) -> int:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        time.sleep(task / 10_000)
        with lock:
            running[0] -= 1
        return task * task

    found = in_order(work, iter(tasks), workers=workers, size=lambda task: task, n_bytes=n_bytes, ahead=ahead)
    assert list(found) == [task * task for task in tasks]
    assert most[0] <= max(1, workers)


def test_what_is_ahead_is_bounded() -> None:
    taken: list[int] = []

    def tasks() -> object:
        for i in range(100):
            taken.append(i)
            yield i

    found = in_order(lambda i: i, tasks(), workers=2, ahead=3)  # type: ignore[arg-type]
    for i in range(10):
        assert next(found) == i
        assert len(taken) <= i + 2 + 3 + 2
    found.close()
    taken.clear()
    found = in_order(lambda i: i, tasks(), workers=8, size=lambda i: 10, n_bytes=25)  # type: ignore[arg-type]
    assert [next(found) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert len(taken) <= 5 + 3
    found.close()


def test_an_error_comes_in_its_turn_and_drops_the_rest() -> None:
    done: list[int] = []

    def work(i: int) -> int:
        if i == 3:
            raise KeyError(i)
        done.append(i)
        return i

    found = in_order(work, range(1000), workers=2)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(found)
    assert list(found) == []
    time.sleep(0.05)
    assert len(done) < 20


def test_cores() -> None:
    assert 1 <= cores() <= (os.cpu_count() or 1)


# ---- unpack


def mixed(folder: Path) -> Path:
    """60 pictures of three shapes in turn, so that groups are not in the order of the dataset."""
    rng = np.random.default_rng(0)
    for i in range(60):
        target = folder / "source" / f"{'ab'[i % 2]}"
        target.mkdir(parents=True, exist_ok=True)
        shape = [(9, 8, 3), (20, 30, 3), (7, 7)][i % 3]
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(target / f"{i:03}.png")
    batchcodec.pack(folder / "source", folder / "a.cpack", PackOptions(codec="zstd", group_items=4))
    return folder / "a.cpack"


def contents(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    return {str(p.relative_to(path)): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("suffix", ["", ".tar", ".parquet"])
def test_what_is_unpacked_does_not_depend_on_workers(tmp_path: Path, suffix: str) -> None:
    archive = mixed(tmp_path)
    for selection in (Selection(), Selection(labels=("b",), ranges=("5:50",))):
        made = []
        for workers in (1, 2, 5, 0):
            target = tmp_path / f"out{workers}{len(selection.labels)}{suffix}"
            report = batchcodec.unpack(archive, target, UnpackOptions(workers=workers, selection=selection))
            made.append((report.n_items, contents(target)))
        assert made[0][0] == (60 if selection == Selection() else 20)
        assert all(other == made[0] for other in made[1:])


def test_damage_is_the_same_with_any_number_of_workers(tmp_path: Path) -> None:
    archive = mixed(tmp_path)
    data = bytearray(archive.read_bytes())
    with batchcodec.open(archive) as opened:
        offset = opened._groups.entries[5].offset
        index, name = next((i, item.name) for i, item in next(opened.groups(only=[5])))
    data[offset + 70] ^= 1
    archive.write_bytes(data)
    reports = []
    for workers in (1, 3):
        with pytest.raises(CorruptGroupError, match="group 5"):
            batchcodec.unpack(archive, tmp_path / "out", UnpackOptions(workers=workers))
        assert not (tmp_path / "out").exists()
        for target in ("skipped", "skipped.tar"):
            report = batchcodec.unpack(
                archive, tmp_path / f"{workers}{target}", UnpackOptions(workers=workers, on_error="skip")
            )
            reports.append((report.n_items, report.n_lost, report.lost))
    assert reports == [reports[0]] * 4
    assert reports[0][:2] == (56, 4)
    assert index >= 0
    assert not (tmp_path / "1skipped" / name).exists()


@pytest.mark.parametrize("workers", [-1, 257])
def test_a_bad_number_of_workers(workers: int, invoke: RunCli, rgb_archive: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="workers"):
        UnpackOptions(workers=workers)
    refused = invoke("unpack", rgb_archive[1], tmp_path / "out", "--workers", workers)
    assert refused.rc == 2
    assert invoke("unpack", rgb_archive[1], tmp_path / "out", "--workers", 3).rc == 0


SLOW = """
import os, sys, time
import batchcodec
from batchcodec_plugins.codecs import raw

decode = raw.StoreCodec.decode
def slowly(*args):
    os.write(1, b"decoding\\n")  # print would write the line's end apart, after the word of the other thread
    time.sleep(0.3)
    return decode(*args)
raw.StoreCodec.decode = slowly
try:
    batchcodec.unpack(sys.argv[1], sys.argv[2], batchcodec.UnpackOptions(workers=2))
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_an_interrupt_ends_it_soon_and_leaves_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((400, 8, 8), np.uint8))
    batchcodec.pack(tmp_path / "a.npy", tmp_path / "a.cpack", PackOptions(codec="store", group_items=2))
    command = [sys.executable, "-c", SLOW, str(tmp_path / "a.cpack"), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for _ in range(3):
            assert child.stdout.readline() == "decoding\n"
        started = time.monotonic()
        child.send_signal(signal.SIGINT)
        rest = child.communicate(timeout=30)[0]
    assert "interrupted" in rest
    assert time.monotonic() - started < 5  # of 30 seconds of work
    assert child.returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.cpack", "a.npy"]
