"""`pack --workers`, `--batch`, `--device`, and what it says of its progress and its time."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli, picture

import batchcodec
from batchcodec import PackOptions
from batchcodec.codec import Codec
from batchcodec.errors import OptionError
from batchcodec.pack import PackStatus
from batchcodec.report import text


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", np.stack([picture((16, 16, 1), i) for i in range(40)]))
    return tmp_path / "x.npy"


def test_they_do_not_change_the_bytes(invoke: RunCli, source: Path, tmp_path: Path) -> None:
    archives = []
    for number, more in enumerate([(), ("--workers", 1), ("--workers", 3, "--batch", 7), ("--device", "cpu")]):
        target = tmp_path / f"{number}.cpack"
        assert invoke("pack", source, target, "-c", "zstd", "--group", 4, *more).rc == 0
        archives.append(target.read_bytes())
    assert len(set(archives)) == 1


@pytest.mark.parametrize("value", [("--workers", -1), ("--workers", 1000), ("--batch", -1), ("--device", "tpu")])
def test_bad_values(value: tuple[str, object], invoke: RunCli, source: Path, tmp_path: Path) -> None:
    done = invoke("pack", source, tmp_path / "a.cpack", *value)
    assert done.rc == 2
    assert value[0].lstrip("-") in done.stderr
    assert not (tmp_path / "a.cpack").exists()


def test_codecs_are_told_where_to_run(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(Codec, "use_device", lambda self, name: told.append((self.codec_id, name)))
    batchcodec.pack(source, tmp_path / "a.cpack", PackOptions(codec="zstd", device="cuda"))
    batchcodec.pack(source, tmp_path / "b.cpack", PackOptions(codec="store"))
    assert told == [("zstd", "cuda"), ("store", "auto")]

    def refuse(self: Codec, name: str) -> None:
        raise OptionError("device", name, "cpu: there is no GPU here")

    monkeypatch.setattr(Codec, "use_device", refuse)
    with pytest.raises(OptionError, match="there is no GPU here"):
        batchcodec.pack(source, tmp_path / "c.cpack", PackOptions(codec="zstd", device="cuda"))
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", "a.cpack", "b.cpack"}


def test_where_the_time_went(invoke: RunCli, source: Path, tmp_path: Path) -> None:
    done = invoke("pack", source, tmp_path / "a.cpack", "-c", "zstd", "-v", "--workers", 2)
    lines = done.stderr.splitlines()
    assert re.match(r"2 workers +seconds +images/s", lines[1])
    names = ["read", "prepare", "encode", "check", "write", "waited for images", "waited for groups", "by the clock"]
    assert [re.split(r"  +", line)[0] for line in lines[3:]] == names
    report = invoke("pack", source, tmp_path / "b.cpack", "-c", "zstd", "--json", "--workers", 2).json
    assert report["workers"] == 2
    seconds = report["seconds"]
    assert all(value >= 0 for value in seconds.values())
    assert seconds["total"] >= max(seconds["encode"] / 2, seconds["write"], seconds["wait_code"] + seconds["wait_read"])
    assert min(seconds["read"], seconds["encode"], seconds["check"], seconds["write"]) > 0


def test_progress(invoke: RunCli, source: Path, tmp_path: Path) -> None:
    seen: list[PackStatus] = []
    batchcodec.pack(source, tmp_path / "a.cpack", PackOptions(codec="store", group_items=4), progress=seen.append)
    assert [status.done for status in seen] == sorted(status.done for status in seen)
    assert seen[-1].done == seen[-1].total == 40
    assert seen[-1].raw_bytes == 40 * 256
    assert 40 * 256 < seen[-1].n_bytes <= (tmp_path / "a.cpack").stat().st_size
    done = invoke("pack", source, tmp_path / "b.cpack", "-c", "zstd", "--progress")
    assert re.search(r"100%.* 40/40 .*image/s, [0-9.]+ MB/s, ratio [0-9.]+, [0-9,]+ B\]", done.stderr)


def test_items_that_are_left_out_count_as_done(tmp_path: Path) -> None:
    names = [f"{i % 30:03}.png" for i in range(40)]
    np.savez(tmp_path / "x.npz", images=np.zeros((40, 9, 9), np.uint8), names=names)
    seen: list[PackStatus] = []
    options = PackOptions(codec="store", on_error="skip")
    batchcodec.pack(tmp_path / "x.npz", tmp_path / "a.cpack", options, progress=seen.append)
    assert (seen[-1].done, seen[-1].raw_bytes) == (40, 30 * 81)


def test_text_beside_the_bar() -> None:
    assert text.pack_progress(PackStatus(0, 10, 120), 0.0) == "120 B"
    assert text.pack_progress(PackStatus(5, 10, 120_000, 3_000_000), 2.0) == "1.5 MB/s, ratio 25.00, 120 kB"
