"""`merge`, `append`, `split` and `extract` on the command line: reports, exit codes, and what Ctrl-C leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers import CONSOLE_SCRIPT, RunCli, install_fake, picture
from PIL import Image

import batchcodec
from batchcodec.cli_options import parse_bytes
from batchcodec.errors import OptionError

from .test_whole_or_absent import SLOW_FORMAT


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the archives `a` and `b` of eight pictures each, in groups of four of two labels."""
    root = tmp_path_factory.mktemp("two")
    for k, name in enumerate("ab"):
        for i in range(8):
            folder = root / name / ("cat" if i % 4 < 2 else "dog")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture((8, 8, 3), 10 * k + i)).save(folder / f"{name}{i}.png")
        batchcodec.pack(root / name, root / f"{name}.cpack", batchcodec.PackOptions(codec="jpeg", group_items=3, workers=1))
    return root


def names(path: Path) -> list[str]:
    with batchcodec.open(path) as archive:
        return archive.names


def test_merge(two: Path, tmp_path: Path, run_cli: RunCli) -> None:
    done = run_cli("merge", two / "a.cpack", two / "b.cpack", tmp_path / "all.cpack", "--json")
    assert (done.rc, done.json["n_items"], done.json["n_groups"]) == (0, 16, 6)
    assert [source["n_items"] for source in done.json["sources"]] == [8, 8]
    assert names(tmp_path / "all.cpack") == names(two / "a.cpack") + names(two / "b.cpack")
    done = run_cli("merge", two / "a.cpack", two / "b.cpack", tmp_path / "all.cpack")
    assert (done.rc, done.stdout) == (2, "")
    assert "--force" in done.stderr


def test_names_that_occur_twice(two: Path, tmp_path: Path, invoke: RunCli) -> None:
    (tmp_path / "a.cpack").write_bytes((two / "a.cpack").read_bytes())
    done = invoke("merge", two / "a.cpack", tmp_path / "a.cpack", tmp_path / "all.cpack")
    assert done.rc == 3
    assert str(two / "a.cpack") in done.stderr
    assert str(tmp_path / "a.cpack") in done.stderr
    assert "--prefix" in done.stderr
    done = invoke("merge", two / "a.cpack", tmp_path / "a.cpack", tmp_path / "all.cpack", "--prefix")
    assert done.rc == 0
    assert f"8 images as {two.name}/a/" in done.stdout
    assert names(tmp_path / "all.cpack")[0] == f"{two.name}/a/cat/a0.png"


def test_merge_reads_many_and_says_so_in_few_lines(tmp_path: Path, invoke: RunCli) -> None:
    for i in range(30):
        (tmp_path / f"{i:02}").mkdir()
        Image.fromarray(picture((8, 8), i)).save(tmp_path / f"{i:02}" / "x.png")
        batchcodec.pack(tmp_path / f"{i:02}", tmp_path / f"{i:02}.cpack", batchcodec.PackOptions(codec="zstd", workers=1))
    done = invoke("merge", *sorted(tmp_path.glob("*.cpack")), tmp_path / "all.cpack", "--prefix")
    assert done.rc == 0
    assert "and 10 more" in done.stdout
    assert names(tmp_path / "all.cpack") == [f"{i:02}/x.png" for i in range(30)]


def test_append_archives_and_folders(two: Path, tmp_path: Path, run_cli: RunCli) -> None:
    target = tmp_path / "all.cpack"
    target.write_bytes((two / "a.cpack").read_bytes())
    done = run_cli("append", target, two / "b.cpack", two / "b", "--json")
    assert (done.rc, done.json["error"]["type"]) == (3, "DuplicateNameError")
    assert target.read_bytes() == (two / "a.cpack").read_bytes()
    new = tmp_path / "new"
    new.mkdir()
    Image.fromarray(picture((8, 8, 3), 3)).save(new / "x.png")
    done = run_cli("append", target, two / "b.cpack", new)
    assert done.rc == 0
    assert names(target) == [*names(two / "a.cpack"), *names(two / "b.cpack"), "x.png"]
    with batchcodec.open(target) as archive:
        assert [record.codec_id for record in archive.codecs.values()] == ["jpeg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.cpack", "new"]


def test_append_with_options_of_pack(two: Path, tmp_path: Path, invoke: RunCli) -> None:
    target = tmp_path / "all.cpack"
    target.write_bytes((two / "a.cpack").read_bytes())
    done = invoke("append", target, two / "b", "--codec", "png", "--size", "4x6", "--mode", "gray", "--group", 2, "--prefix")
    assert done.rc == 0
    with batchcodec.open(target) as archive:
        assert archive["b/dog/b2.png"].pixels.shape == (6, 4, 1)
        assert archive.group_items(3) == 2
        assert archive.meta["codecs"] == {"jpeg": 8, "png": 8}
        assert "preprocess" not in archive.meta
    assert invoke("append", target, two / "a", "--mode", "gray", "--prefix").rc == 0
    with batchcodec.open(target) as archive:
        assert archive["a/cat/a0.png"].pixels.shape == (8, 8, 1)


def test_split_and_merge(two: Path, tmp_path: Path, invoke: RunCli) -> None:
    done = invoke("split", two / "a.cpack", tmp_path / "parts", "--items", 3)
    assert done.rc == 0
    assert "3 parts" in done.stdout
    parts = sorted((tmp_path / "parts").iterdir())
    assert invoke("merge", *parts, tmp_path / "a.cpack", "--quiet").stdout == ""
    assert names(tmp_path / "a.cpack") == names(two / "a.cpack")
    done = invoke("split", two / "a.cpack", tmp_path / "bytes", "--max-bytes", "0.1kB")
    assert done.rc == 2
    assert "at least" in done.stderr
    assert invoke("split", two / "a.cpack", tmp_path / "bytes").rc == 2


def test_split_by_label(two: Path, tmp_path: Path, invoke: RunCli) -> None:
    done = invoke("split", two / "a.cpack", tmp_path / "labels", "--by-label")
    assert done.rc == 2
    assert "groups hold" in done.stderr
    done = invoke("split", two / "a.cpack", tmp_path / "labels", "--by-label", "--recode", "zstd")
    assert done.rc == 0
    assert "coded anew without loss" in done.stdout
    assert names(tmp_path / "labels" / "cat.cpack") == ["cat/a0.png", "cat/a1.png", "cat/a4.png", "cat/a5.png"]


def test_extract(two: Path, tmp_path: Path, invoke: RunCli) -> None:
    """A pattern for everything copies everything; a part of a group is refused with what to do, and then done."""
    done = invoke("extract", two / "a.cpack", tmp_path / "all.cpack", "--name", "*.png")
    assert done.rc == 0
    assert names(tmp_path / "all.cpack") == names(two / "a.cpack")
    arguments = ("extract", two / "a.cpack", tmp_path / "b.cpack", "--label", "cat", "--label", "cta", "--range", "1:6")
    done = invoke(*arguments)
    assert done.rc == 2
    assert "--whole-groups" in done.stderr
    assert "zstd" in done.stderr
    done = invoke(*arguments, "--recode", "zstd")
    assert done.rc == 0
    assert "nothing has label 'cta'" in done.stdout
    assert names(tmp_path / "b.cpack") == ["cat/a1.png", "cat/a4.png", "cat/a5.png"]
    with batchcodec.open(tmp_path / "b.cpack") as some, batchcodec.open(two / "a.cpack") as all_:
        assert all((item.pixels == all_[item.name].pixels).all() for item in some)
    done = invoke(*arguments, "--whole-groups", "--force", "--json")
    assert (done.json["n_selected"], done.json["part"]["n_items"]) == (3, 6)


@pytest.mark.parametrize(
    ("target", "options", "rc", "message"),
    [
        ("out", ["--name", "*"], 2, "unpack"),
        ("out.npz", ["--name", "*"], 2, "unpack"),
        ("out.cpack", [], 2, "--name, --label, --range"),
        ("out.cpack", ["--name", "*.jpg"], 4, "'*.jpg'"),
        ("out.cpack", ["--range", "8:"], 4, "8:"),
        ("out.cpack", ["--range", "x"], 2, "100:200"),
        ("out.cpack", ["--range", "1", "--recode", "jpeg"], 2, "loses nothing"),
    ],
)
def test_extract_says_what_to_do(
    two: Path, tmp_path: Path, invoke: RunCli, target: str, options: list[str], rc: int, message: str
) -> None:
    done = invoke("extract", two / "a.cpack", tmp_path / target, *options)
    assert done.rc == rc
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("1", 1),
        ("10B", 10),
        ("1kB", 1000),
        ("1k", 1000),
        ("1KiB", 1024),
        ("1.5 GB", 1_500_000_000),
        ("2GiB", 2 << 30),
        ("3t", 3 * 10**12),
    ],
)
def test_sizes(text: str, n_bytes: int) -> None:
    assert parse_bytes("max-bytes", text) == n_bytes


@pytest.mark.parametrize("text", ["", "GB", "1iB", "-1", "1e9", "1,5GB", "1XB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(OptionError, match="500MB"):
        parse_bytes("max-bytes", text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_append_that_is_interrupted(two: Path, tmp_path: Path, number: signal.Signals) -> None:
    """While the dataset is packed: the archive stays, and nothing else is there."""
    install_fake(tmp_path / "site", "slow-format", "slow", "slow_format", SLOW_FORMAT)
    work = tmp_path / "work"
    work.mkdir()
    (work / "a.cpack").write_bytes((two / "a.cpack").read_bytes())
    (work / "x.slow").write_text("")
    process = subprocess.Popen(
        [CONSOLE_SCRIPT, "append", work / "a.cpack", work / "x.slow", "--codec", "zstd", "--group", "4"],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not any(work.glob(".*.partial/*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.5)
    assert process.poll() is None, "it ended before it could be interrupted"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "--resume" not in stderr
    assert sorted(path.name for path in work.iterdir()) == ["a.cpack", "x.slow"]
    assert (work / "a.cpack").read_bytes() == (two / "a.cpack").read_bytes()
