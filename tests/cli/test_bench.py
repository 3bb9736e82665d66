"""`batchcodec bench` in processes of its own, on few pictures: one row for each codec, and what it says when it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli, picture

FEW = ("--images", "24", "--group", "8", "--seconds", "0.05", "--batch", "16", "--workers", "1")
MEASURED = (
    "bytes_per_image",
    "pack_per_s",
    "unpack_per_s",
    "read_per_s",
    "single_ms",
    "single_p95_ms",
    "batch_per_s",
    "epoch_per_s",
    "open_ms",
    "first_ms",
    "pack_mb",
    "read_mb",
)


def test_generated_pictures_as_json(run_cli: RunCli) -> None:
    done = run_cli("bench", *FEW, "--codec", "zstd", "--codec", "jpeg:quality=80", "--json")
    assert done.rc == 0, done.stderr
    assert done.stderr == ""
    report = done.json
    assert (report["source"], report["images"], report["workers"], report["batch"]) == (None, 24, 1, 16)
    assert [row["codec"] for row in report["rows"]] == ["zstd", "jpeg:quality=80"]
    for row in report["rows"]:
        assert (row["errors"], row["images"], row["groups"], row["skipped"]) == ({}, 24, 3, 0)
        assert all(row[name] > 0 for name in MEASURED)
        assert row["single_p95_ms"] >= row["single_ms"]
    exact, lossy = report["rows"]
    assert exact["mean_psnr"] is None
    assert 25 < lossy["mean_psnr"] < 50
    assert lossy["bytes_per_image"] < exact["bytes_per_image"]


def test_a_folder_of_mixed_pictures_as_text(run_cli: RunCli, pictures: Path) -> None:
    """Of eleven pictures of five kinds, JPEG holds eight; the others are counted, and the table stands."""
    done = run_cli("bench", pictures, *FEW[2:], "--codec", "jpeg", "--codec", "bmp", "--progress")
    assert done.rc == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("8 images of ")
    assert lines[1].split()[0] == "codec"
    assert [line.split()[0] for line in lines[3:5]] == ["jpeg", "bmp"]
    assert "exact" in lines[4]
    assert "jpeg: 3 images skipped" in lines
    assert "14/14" in done.stderr or "measurement" in done.stderr


def test_the_learned_codec_with_a_model(run_cli: RunCli, hyperprior_models: Path) -> None:
    model = hyperprior_models / "tiny-rgb.safetensors"
    done = run_cli("bench", *FEW, "--codec", "hyperprior-1:effort=1", "--codec", "zstd", "--model", model, "--json")
    assert done.rc == 0, done.stderr
    learned, plain = done.json["rows"]
    assert learned["errors"] == {}
    assert learned["weight_bytes"] > 0 == plain["weight_bytes"]


def test_one_group_has_no_random_reads(invoke: RunCli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.stack([picture((16, 16), i) for i in range(4)]))
    done = invoke("bench", tmp_path / "x.npy", "--codec", "store", "--seconds", "0.01")
    assert done.rc == 0
    assert "all images are in one group" in done.stdout


def test_a_codec_that_holds_none_of_the_images_says_so_in_its_row(invoke: RunCli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.stack([picture((16, 16), i, "uint16") for i in range(4)]))
    done = invoke("bench", tmp_path / "x.npy", "--codec", "jpeg", "--codec", "store", "--seconds", "0.01")
    assert done.rc == 0
    assert "jpeg: pack FAILED: " in done.stdout
    alone = invoke("bench", tmp_path / "x.npy", "--codec", "jpeg", "--json")
    assert alone.rc == 5
    assert alone.json["error"]["type"] == "CodecError"


@pytest.mark.parametrize(
    "options",
    [
        ("--images", "0"),
        ("--seconds", "0"),
        ("--batch", "0"),
        ("--seed", "-1"),
        ("--group", "0"),
        ("--workers", "-1"),
        ("--size", "0"),
        ("--codec", "jpeg:quality=1000"),
        ("--codec", "jpeg", "--codec", "jpeg"),
        ("--codec", "jpeg", "--model", "m"),
    ],
    ids=" ".join,
)
def test_bad_options_are_2(options: tuple[str, ...], invoke: RunCli) -> None:
    done = invoke("bench", *options, "--json")
    assert done.rc == 2
    assert done.json["error"]["type"] == "OptionError"


def test_other_errors_have_the_codes_of_pack(invoke: RunCli, tmp_path: Path) -> None:
    assert invoke("bench", "--codec", "nonsense").rc == 5
    assert invoke("bench", "--codec", "hyperprior-1", "--model", tmp_path / "none").rc == 5
    assert invoke("bench", tmp_path / "none").rc == 3
    (tmp_path / "empty").mkdir()
    assert invoke("bench", tmp_path / "empty", "--codec", "store").rc == 3
