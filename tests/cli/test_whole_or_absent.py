"""A target is whole or absent: after Ctrl-C, and when the disk is full. What `pack` had done stays beside it."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import CONSOLE_SCRIPT, install_fake

SLOW_FORMAT = '''
"""`.slow`: a thousand random images, each read and written at leisure."""

import time

import numpy as np

from batchcodec import Format, Item, hookimpl


class Slow(Format):
    format_id = "slow"
    suffixes = (".slow",)

    @classmethod
    def matches(cls, path):
        return path.suffix == ".slow"

    def read(self, path):
        return Items()

    def write(self, path, items):
        with path.open("w") as file:
            for item in items:
                file.write(item.name)
                file.flush()
                time.sleep(0.02)


class Items:
    def __len__(self):
        return 1000

    def __getitem__(self, index):
        time.sleep(0.02)
        return Item(f"{index}.png", np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8))


@hookimpl
def register_formats():
    return [Slow]
'''


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    install_fake(tmp_path / "site", "slow-format", "slow", "slow_format", SLOW_FORMAT)
    return os.environ | {"PYTHONPATH": str(tmp_path / "site")}


def _interrupt(
    arguments: list[str], environment: dict[str, str], work: Path, number: signal.Signals = signal.SIGINT
) -> tuple[int, str]:
    """Start a command, press Ctrl-C (or send another signal) once a temporary file is there; its exit code and stderr."""
    process = subprocess.Popen(
        [CONSOLE_SCRIPT, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 30
    while (
        not [*work.glob(".*.partial"), *work.glob("*.partial.journal")]
        and time.monotonic() < deadline
        and process.poll() is None
    ):
        time.sleep(0.01)
    time.sleep(0.6)
    assert process.poll() is None, "it ended before it could be interrupted"
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


LEFT = ["a.cpack.partial", "a.cpack.partial.journal"]


@pytest.mark.parametrize("existing", [False, True])
def test_interrupted_pack(existing: bool, environment: dict[str, str], tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "x.slow").touch()
    target = work / "a.cpack"
    if existing:
        target.write_text("precious")
    command = ["pack", str(tmp_path / "x.slow"), str(target), "-c", "store", "--group", "2"]
    rc, stderr = _interrupt([*command, "-f"], environment, work)
    assert rc == 130
    assert "Traceback" not in stderr
    assert f"what was done is kept in {target}.partial; the same command with --resume goes on" in stderr
    assert sorted(p.name for p in work.iterdir()) == ["a.cpack"] * existing + LEFT
    if existing:
        assert target.read_text() == "precious"
    else:
        again = subprocess.run([CONSOLE_SCRIPT, *command], env=environment, capture_output=True, text=True, check=False)
        assert again.returncode == 2
        assert "groups of an unfinished archive are in it; --resume goes on with that, --force starts anew" in again.stderr
    command += ["--resume", "--json", "--force"]
    done = subprocess.run([CONSOLE_SCRIPT, *command], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["n_resumed"] > 0
    assert [p.name for p in work.iterdir()] == ["a.cpack"]


def test_terminated_pack(environment: dict[str, str], tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / "x.slow").touch()
    arguments = ["pack", str(tmp_path / "x.slow"), str(work / "a.cpack"), "-c", "store"]
    rc, stderr = _interrupt(arguments, environment, work, signal.SIGTERM)
    assert rc == 128 + signal.SIGTERM
    assert stderr == ""
    assert list(work.iterdir()) == []  # not one group was done


def test_interrupted_unpack(environment: dict[str, str], tmp_path: Path) -> None:
    import batchcodec

    work = tmp_path / "work"
    work.mkdir()
    np.save(tmp_path / "x.npy", np.zeros((500, 8, 8), np.uint8))
    batchcodec.pack(tmp_path / "x.npy", tmp_path / "a.cpack", batchcodec.PackOptions(codec="zstd"))
    rc, stderr = _interrupt(["unpack", str(tmp_path / "a.cpack"), str(work / "out.slow")], environment, work)
    assert rc == 130
    assert "Traceback" not in stderr
    assert list(work.iterdir()) == []


def _with_full_disk(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command that can write at most 50,000 bytes to any file (Python ignores SIGXFSZ, so a write fails)."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    return subprocess.run(
        [CONSOLE_SCRIPT, *arguments], preexec_fn=limit, capture_output=True, text=True, timeout=60, check=False
    )


def _noise(path: Path) -> Path:
    np.save(path, np.random.default_rng(0).integers(0, 256, (40, 64, 64), np.uint8))
    return path


def test_a_full_disk_while_packing(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    target = work / "a.cpack"
    target.write_text("precious")
    command = ["pack", str(_noise(tmp_path / "x.npy")), str(target), "-c", "store", "-f", "--group", "2"]
    done = _with_full_disk(command)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: cannot write {target}: File too large\n")
    assert "--resume" in done.stderr
    assert sorted(p.name for p in work.iterdir()) == ["a.cpack", *LEFT]
    assert target.read_text() == "precious"
    subprocess.run([CONSOLE_SCRIPT, *command, "--resume"], check=True, capture_output=True)
    assert [p.name for p in work.iterdir()] == ["a.cpack"]


@pytest.mark.parametrize("name", ["out", "out.npy", "out.npz", "out.tar", "out.idx"])
def test_a_full_disk_while_unpacking(name: str, tmp_path: Path) -> None:
    import batchcodec
    from batchcodec.errors import BatchcodecError

    work = tmp_path / "work"
    work.mkdir()
    images = np.random.default_rng(0).integers(0, 256, (3, 400, 400), np.uint8)
    np.save(tmp_path / "x.npy", images)
    batchcodec.pack(tmp_path / "x.npy", tmp_path / "a.cpack", batchcodec.PackOptions(codec="store"))
    try:
        batchcodec.unpack(tmp_path / "a.cpack", tmp_path / f"check-{name}")
    except BatchcodecError:
        pytest.skip(f"no format writes {name}")
    done = _with_full_disk(["unpack", str(tmp_path / "a.cpack"), str(work / name)])
    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(work.iterdir()) == []


def test_a_read_only_folder(tmp_path: Path) -> None:
    """Also for root, where the kernel refuses: /proc takes no files."""
    if not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    done = subprocess.run(
        [CONSOLE_SCRIPT, "pack", str(_noise(tmp_path / "x.npy")), "/proc/a.cpack", "-c", "store"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write /proc/a.cpack: ")
