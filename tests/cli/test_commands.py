"""Every command in a process of its own: what it prints, as text and as JSON."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers import CONSOLE_SCRIPT, RunCli

import batchcodec
from batchcodec.types import Pixels

PACK_KEYS = {
    "source",
    "target",
    "format",
    "n_items",
    "n_groups",
    "codecs",
    "shapes",
    "source_bytes",
    "raw_bytes",
    "bytes",
    "n_bytes",
    "mean_psnr",
    "pooled_psnr",
    "lossless",
    "notes",
    "skipped",
    "ignored",
}
COMMANDS = ("pack", "unpack", "report", "info", "ls", "train", "plugins", "codecs", "formats")


def test_version(run_cli: RunCli) -> None:
    done = run_cli("--version")
    assert (done.rc, done.stdout, done.stderr) == (0, f"batchcodec {batchcodec.__version__}\n", "")


def test_help_names_every_command_and_the_exit_codes(run_cli: RunCli) -> None:
    done = run_cli("--help")
    assert done.rc == 0
    for command in COMMANDS:
        assert command in done.stdout
    assert "Exit codes: 1 other, 2 usage, 3 input, 4 archive, 5 codec, 6 plugin, 130 interrupted." in " ".join(
        done.stdout.split()
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, invoke: RunCli) -> None:
    done = invoke(command, "-h")
    assert done.rc == 0
    assert command in done.stdout
    assert "--json" in done.stdout


def test_pack_and_unpack(run_cli: RunCli, pictures: Path, tmp_path: Path) -> None:
    packed = run_cli("pack", pictures, tmp_path / "a.cpack", "-c", "zstd", "--json")
    assert packed.rc == 0
    assert packed.stderr == ""
    found = packed.json
    assert found.keys() >= PACK_KEYS
    assert (found["n_items"], found["lossless"], found["ignored"], found["skipped"]) == (11, True, 1, [])
    assert found["n_bytes"] == (tmp_path / "a.cpack").stat().st_size == sum(found["bytes"].values())

    unpacked = run_cli("unpack", tmp_path / "a.cpack", tmp_path / "out", "--json")
    assert unpacked.rc == 0
    assert (
        unpacked.json.items()
        >= {
            "source": str(tmp_path / "a.cpack"),
            "target": str(tmp_path / "out"),
            "format": "folder",
            "n_items": 11,
            "n_lost": 0,
        }.items()
    )
    assert unpacked.json["lost"] == []
    names = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png"))
    assert len(names) == 11
    assert "cat/photo.png" in names


def test_pack_prints_a_report(run_cli: RunCli, pictures: Path, tmp_path: Path) -> None:
    done = run_cli("pack", pictures, tmp_path / "a.cpack", "-v")
    assert done.rc == 0
    assert "11 images in" in done.stdout
    assert "1 other files ignored" in done.stdout
    assert "images/s" in done.stderr


def test_quiet_prints_nothing(invoke: RunCli, pictures: Path, tmp_path: Path) -> None:
    done = invoke("pack", pictures, tmp_path / "a.cpack", "-c", "store", "-q", "--progress")
    assert (done.rc, done.stdout, done.stderr) == (0, "", "")
    done = invoke("unpack", tmp_path / "a.cpack", tmp_path / "out", "-q")
    assert (done.rc, done.stdout, done.stderr) == (0, "", "")


def test_progress_goes_to_stderr_and_only_when_asked(run_cli: RunCli, pictures: Path, tmp_path: Path) -> None:
    shown = run_cli("pack", pictures, tmp_path / "a.cpack", "-c", "store", "--progress", "--json")
    assert shown.rc == 0
    assert "11/11" in shown.stderr
    assert shown.json["n_items"] == 11
    silent = run_cli("pack", pictures, tmp_path / "b.cpack", "-c", "store", "--json")
    assert silent.stderr == ""


def test_info(run_cli: RunCli, rgb_archive: tuple[Path, Path]) -> None:
    text = run_cli("info", rgb_archive[1])
    assert text.rc == 0
    assert "6 images in 3 groups" in text.stdout
    found = run_cli("info", rgb_archive[1], "--json").json
    assert found["n_items"] == 6
    assert found["labels"] == {"cat": 3, "dog": 3}
    assert found["codecs"][0]["codec_id"] == "jpeg"
    assert found["n_bytes"] == rgb_archive[1].stat().st_size == sum(found["bytes"].values())


def test_ls(invoke: RunCli, rgb_archive: tuple[Path, Path]) -> None:
    names = [f"{label}/{i}.png" for label in ("cat", "dog") for i in range(3)]
    assert invoke("ls", rgb_archive[1]).stdout.splitlines() == names
    long = invoke("ls", rgb_archive[1], "--long").stdout.splitlines()
    assert long[0].split("\t") == ["32x24 RGB", "cat", "cat/0.png"]
    rows = invoke("ls", rgb_archive[1], "--json").json
    assert rows[5] == {"name": "dog/2.png", "label": "dog", "image": "32x24 RGB"}


def test_report_with_figure_and_csv(invoke: RunCli, rgb_archive: tuple[Path, Path], tmp_path: Path) -> None:
    source, archive = rgb_archive
    figure, csv = tmp_path / "f.png", tmp_path / "f.csv"
    done = invoke("report", archive, "--against", source, "--figure", figure, "--csv", csv, "--json")
    assert done.rc == 0
    assert done.json.keys() == {"info", "quality"}
    assert done.json["quality"]["n_items"] == 6
    assert figure.stat().st_size > 0
    assert len(csv.read_text().splitlines()) == 7
    again = invoke("report", archive, "--against", source, "--figure", figure)
    assert again.rc == 2
    assert "--force" in again.stderr
    assert invoke("report", archive, "--against", source, "--figure", figure, "-f").rc == 0


def test_report_without_a_source_says_what_was_recorded(invoke: RunCli, rgb_archive: tuple[Path, Path], tmp_path: Path) -> None:
    done = invoke("report", rgb_archive[1])
    assert "as recorded when packed" in done.stdout
    refused = invoke("report", rgb_archive[1], "--csv", tmp_path / "f.csv")
    assert refused.rc == 2
    assert "--against" in refused.stderr


@pytest.mark.parametrize("command", ["plugins", "codecs", "formats"])
def test_lists(command: str, invoke: RunCli) -> None:
    text, found = invoke(command), invoke(command, "--json").json
    assert text.rc == 0
    if command == "plugins":
        assert {p["name"] for p in found["plugins"]} >= {"formats", "codecs", "learned"}
        assert found["conflicts"] == []
        return
    expected = {"codecs": {"jpeg", "avif", "zstd", "autoencoder-1"}, "formats": {"folder", "npy", "npz", "idx", "tar"}}[command]
    assert {row["id"] for row in found} >= expected
    assert all(row["summary"] and row["id"] in text.stdout for row in found)


def test_train_then_pack(run_cli: RunCli, tmp_path: Path, gray_32: list[Pixels]) -> None:
    np.save(tmp_path / "x.npy", np.stack(gray_32)[..., 0])
    model = tmp_path / "m.safetensors"
    small = ("--epochs", 1, "--width", "8,8,8", "--latent", 4, "--crop", 32, "--threads", 1)
    done = run_cli("train", tmp_path / "x.npy", "-o", model, *small, "--json", "-v")
    assert done.rc == 0
    assert done.json["steps"] > 0
    assert done.json["model_bytes"] == model.stat().st_size
    assert "psnr" in done.stderr
    assert not model.with_name(model.name + ".checkpoint").exists()
    assert run_cli("train", tmp_path / "x.npy", "-o", model, *small).rc == 2
    packed = run_cli("pack", tmp_path / "x.npy", tmp_path / "x.cpack", "-c", "autoencoder-1", "-m", model, "--json")
    assert packed.rc == 0
    assert packed.json["codecs"] == {"autoencoder-1": 64}
    assert packed.json["bytes"]["model"] > 0


def test_json_is_ascii_and_parses(invoke: RunCli, tmp_path: Path) -> None:
    done = invoke("pack", tmp_path / "caf\udce9\x9b", tmp_path / "a.cpack", "--json")
    assert done.rc == 3
    assert done.stdout.isascii()
    assert json.loads(done.stdout)["error"]["type"] == "InputError"


def test_unpack_names_its_target_by_the_archive(invoke: RunCli, rgb_archive: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.cpack"
    copy.write_bytes(rgb_archive[1].read_bytes())
    assert invoke("unpack", copy).rc == 0
    assert (tmp_path / "copy" / "cat" / "0.png").exists()
    assert invoke("unpack", copy, "--to", "npz").rc == 0
    assert (tmp_path / "copy.npz").exists()
    assert invoke("unpack", copy, tmp_path / "other", "--to", "tar").rc == 0
    assert (tmp_path / "other.tar").exists()


@pytest.mark.parametrize("target", [".", ".."])
def test_unpack_to_a_folder_without_a_name(
    target: str, invoke: RunCli, rgb_archive: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert invoke("unpack", rgb_archive[1], target, "-f").rc == 0
    assert ((below / target).resolve() / "cat" / "0.png").exists()
    assert sorted(p.name for p in (below / target).resolve().iterdir()) == (
        ["cat", "dog"] if target == "." else ["b", "cat", "dog"]
    )


def test_the_name_of_a_folder_that_is_there_already(invoke: RunCli, rgb_archive: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "kept.txt").write_text("mine")
    refused = invoke("unpack", rgb_archive[1], tmp_path / "out", "--json")
    assert (refused.rc, refused.json["error"]["type"]) == (2, "TargetExistsError")
    assert invoke("unpack", rgb_archive[1], tmp_path / "out", "-f").rc == 0
    assert (tmp_path / "out" / "kept.txt").read_text() == "mine"
    assert (tmp_path / "out" / "dog" / "2.png").exists()


def test_listing_into_a_closed_pipe_is_silent(rgb_archive: tuple[Path, Path]) -> None:
    ran = subprocess.run(
        f"'{CONSOLE_SCRIPT}' ls '{rgb_archive[1]}' | true", shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in ran.stderr
