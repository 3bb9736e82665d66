"""`batchcodec compare` and `batchcodec plan` in processes of their own."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli, picture


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
    ],
)
def test_plan_refuses(invoke: RunCli, tiles: Path, arguments: list[str], what: str) -> None:
    done = invoke("plan", tiles, *arguments)
    assert done.rc == 2
    assert what in done.stderr
