"""`batchcodec compare` and `batchcodec plan` in processes of their own."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import CONSOLE_SCRIPT, RunCli, picture, striped


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiles") / "tiles.npz"
    np.savez(path, images=np.stack([picture((24, 24, 3), i) for i in range(30)]))
    return path


def test_compare_writes_what_was_asked_for(run_cli: RunCli, tiles: Path, tmp_path: Path) -> None:
    outputs = ["--html", "c.html", "--figure", "c.svg", "--csv", "c.csv", "--journal", "c.journal"]
    command = ["compare", tiles, "--codecs", "jpeg,webp:method=2,mosaic=true", "--qualities", "30,60,90", "--images", "20"]
    done = run_cli(*command, *outputs, "--json", cwd=tmp_path)
    assert done.rc == 0, done.stderr
    assert (done.json["n_images"], done.json["n_dataset"], done.json["anchor"]) == (20, 30, "jpeg")
    assert [curve["codec"] for curve in done.json["curves"]] == ["jpeg", "webp:method=2,mosaic=true"]
    assert done.json["curves"][1]["bd_rate"] < 0
    assert (tmp_path / "c.html").read_text().startswith("<!doctype html>")
    assert "<svg" in (tmp_path / "c.svg").read_text()
    assert len((tmp_path / "c.csv").read_text().splitlines()) == 7
    again = run_cli(*command, *outputs, cwd=tmp_path)
    assert again.rc == 2
    assert "--force" in again.stderr
    more = run_cli(*command, "--journal", "c.journal", cwd=tmp_path)
    assert more.rc == 0, more.stderr
    assert "6 of 6 points are of an earlier run" in more.stdout


@pytest.mark.parametrize(
    ("arguments", "rc", "what"),
    [
        (["--qualities", "20,x"], 2, "whole numbers"),
        (["--codecs", "jpeg", "--anchor", "png"], 2, "one of the codecs"),
        (["--codecs", "nothing"], 5, "unknown codec"),
        (["--codecs", "jpeg", "--figure", "c.txt"], 1, "suffixes"),
        (["--codecs", "jpeg", "--images", "0"], 2, "images"),
    ],
)
def test_compare_refuses(invoke: RunCli, tiles: Path, arguments: list[str], rc: int, what: str) -> None:
    done = invoke("compare", tiles, *arguments)
    assert done.rc == rc
    assert what in done.stderr


def test_the_command_of_a_plan_runs_as_it_stands(run_cli: RunCli, tiles: Path, tmp_path: Path) -> None:
    done = run_cli("plan", tiles, "--minutes", "0.2", "--codecs", "webp:mosaic=true,jpeg", "--min-psnr", "32", cwd=tmp_path)
    assert done.rc == 0, done.stderr
    command = done.stdout.strip().splitlines()[-1]
    assert done.stderr == ""
    packed = run_cli(*shlex.split(command)[1:], "--json", cwd=tmp_path)
    assert packed.rc == 0, packed.stderr
    assert packed.json["mean_psnr"] >= 32
    assert (tmp_path / "tiles.cpack").exists()


def test_plan_as_json(run_cli: RunCli, tiles: Path) -> None:
    done = run_cli("plan", tiles, "--minutes", "0.1", "--codecs", "webp:mosaic=true", "--target-size", "20kB", "--json")
    assert done.rc == 0, done.stderr
    report = done.json
    assert report["survey"]["shapes"] == {"24x24 RGB": 30}
    assert report["goal"]["n_bytes"] == 20_000
    assert all(f["n_bytes"]["value"] > 0 for f in report["forecasts"])


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--minutes", "0"], "minutes"),
        (["--target-size", "much"], "500MB"),
        (["--target-size", "1MB", "--min-psnr", "30"], "one of the two"),
        (["--min-psnr", "400"], "dB"),
        (["--fit", "soon"], "such as 90s"),
        (["--fit", "2m"], "half of --minutes"),
        (["--fit", "5s", "--codecs", "jpeg"], "others are not fitted"),
    ],
)
def test_plan_refuses(invoke: RunCli, tiles: Path, arguments: list[str], what: str) -> None:
    done = invoke("plan", tiles, *arguments)
    assert done.rc == 2
    assert what in done.stderr


def test_a_plan_that_fits_and_its_command(run_cli: RunCli, tmp_path: Path) -> None:
    """What pack takes without --codec keeps less of these than is asked for: the learned codec is left, fitted or not."""
    np.save(tmp_path / "tiles.npy", striped(120, 32))
    options = ["--minutes", "1", "--fit", "3s", "--codecs", "hyperprior-1", "--group", "16", "--min-psnr", "36"]
    done = run_cli("plan", "tiles.npy", *options, "--save-model", "m.safetensors", "--json", cwd=tmp_path)
    assert done.rc == 0, done.stderr
    report = done.json
    assert report["fit"]["seconds"] == 3
    assert report["fit"]["saved"] == "m.safetensors", report["refused"]
    assert report["recommended"].startswith("fitted hyperprior-1:quality=")
    stated = next(f for f in report["forecasts"] if f["codec"] == report["recommended"])
    packed = run_cli(*shlex.split(report["command"])[1:], "--json", cwd=tmp_path)
    assert packed.rc == 0, packed.stderr
    assert stated["n_bytes"]["low"] <= packed.json["n_bytes"] <= stated["n_bytes"]["high"]
    again = run_cli("plan", "tiles.npy", *options, "--save-model", "m.safetensors", cwd=tmp_path)
    assert again.rc == 2
    assert "does not exist yet" in again.stderr


def test_an_interrupted_fit(tmp_path: Path) -> None:
    np.save(tmp_path / "tiles.npy", np.stack([picture((32, 32, 1), i) for i in range(120)]))
    options = ["--minutes", "4", "--fit", "60s", "--codecs", "hyperprior-1", "--group", "16", "--min-psnr", "30", "--progress"]
    log = tmp_path / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen([CONSOLE_SCRIPT, "plan", "tiles.npy", *options], stderr=stderr, cwd=tmp_path)
        deadline = time.monotonic() + 60
        while "fit: " not in log.read_text() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert "fit: " in log.read_text()
    assert process.returncode == 130
    assert "Traceback" not in log.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["stderr", "tiles.npy"]
