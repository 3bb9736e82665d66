"""One exit code for each class of error, one line on stderr, and with `--json` an object `{"error": {...}}` on stdout."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli, install_fake

from batchcodec.archive import wire


def test_usage_errors_of_the_parser_are_2(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("pack", tmp_path, "--bogus")
    assert done.rc == 2
    assert "--bogus" in done.stderr
    assert done.stdout == ""
    assert run_cli("nonsense").rc == 2
    assert run_cli().rc == 2


@pytest.mark.parametrize(
    "options",
    [
        ("--size", "0"),
        ("--size", "10x"),
        ("--size", "70000"),
        ("--resample", "cubic"),
        ("--aspect", "cover"),
        ("--mode", "bw"),
        ("--group", "0"),
        ("--workers", "-1"),
        ("--format", "zarr"),
        ("--codec", "jpeg:quality"),
        ("--codec", "jpeg:quality=80,quality=90"),
        ("--codec", "jpeg:quality=1000"),
        ("--codec", "jpeg:nonsense=1"),
        ("--codec", "jpeg", "--entropy", "rans"),
        ("--codec", "jpeg", "--model", "m"),
        ("--codec", "autoencoder-1"),
        ("--entropy", "rans"),
        ("--model", "m"),
        ("--codec", "jpeg", "--model-ref"),
        ("--codec", "autoencoder-1", "--model-ref"),
        ("--codec", "hyperprior-1:quality=0"),
        ("--codec", "hyperprior-1", "--entropy", "rans"),
    ],
    ids=" ".join,
)
def test_bad_options_are_2(options: tuple[str, ...], invoke: RunCli, pictures: Path, tmp_path: Path) -> None:
    done = invoke("pack", pictures, tmp_path / "a.cpack", *options, "--json")
    assert done.rc == 2
    assert done.json["error"]["type"] == "OptionError"
    assert done.json["error"].keys() >= {"type", "message", "name", "value", "allowed"}
    assert done.stderr.startswith("error: option ")
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "a.cpack").exists()


@pytest.mark.parametrize(
    "options", [("--seed", "-1"), ("--threads", "-1"), ("--width", "8,8"), ("--latent", "0"), ("--crop", "9")]
)
def test_bad_options_of_train_are_2(options: tuple[str, ...], invoke: RunCli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 8, 8), np.uint8))
    assert invoke("train", tmp_path / "x.npy", "-o", tmp_path / "m", *options).rc == 2


@pytest.mark.parametrize(
    "options",
    [
        ("--codec", "hyperprior-1"),
        ("--codec", "hyperprior-1", "--minutes", "0"),
        ("--codec", "hyperprior-1", "--minutes", "1", "--latent", "12"),
        ("--codec", "hyperprior-1", "--minutes", "1", "--width", "8,8,8"),
        ("--codec", "hyperprior-1", "--minutes", "1", "--rate-weight", "1"),
        ("--codec", "hyperprior-1", "--minutes", "1", "--epochs", "1"),
        ("--codec", "hyperprior-1", "--minutes", "1", "--device", "tpu"),
        ("--codec", "hyperprior-1", "--minutes", "1", "--profile", "huge"),
        ("--codec", "hyperprior-1", "--minutes", "1", "--crop", "12"),
        ("--codec", "hyperprior-1", "--minutes", "1", "--profile", "small", "--from", "photo-gray"),
        ("--from", "photo-gray"),
        ("--codec", "autoencoder-1", "--profile", "fast"),
    ],
    ids=" ".join,
)
def test_options_of_train_that_do_not_fit_are_2(options: tuple[str, ...], invoke: RunCli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((3, 8, 8), np.uint8))
    done = invoke("train", tmp_path / "x.npy", "-o", tmp_path / "m", *options, "--json")
    assert (done.rc, done.json["error"]["type"]) == (2, "OptionError")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_input_errors_are_3(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("pack", tmp_path / "missing", tmp_path / "a.cpack", "--json")
    assert done.rc == 3
    assert done.json["error"] == {
        "type": "InputError",
        "message": f"{tmp_path / 'missing'}: no such file or directory",
        "path": str(tmp_path / "missing"),
        "reason": "no such file or directory",
    }
    assert done.stderr == f"error: {tmp_path / 'missing'}: no such file or directory\n"


def _not_an_archive(good: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + good[8:]


def _later_version(good: bytes) -> bytes:
    magic, major, *rest, _check = wire.HEADER.unpack_from(good)
    start = wire.HEADER.pack(magic, major + 1, *rest, 0)[:-8]
    return start + struct.pack("<Q", wire.checksum(start)) + good[wire.HEADER.size :]


def _damaged_index(good: bytes) -> bytes:
    at = len(good) - wire.TRAILER.size - 3
    return good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]


@pytest.mark.parametrize("command", ["info", "ls", "report", "unpack"])
@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (_not_an_archive, "NotAnArchiveError"),
        (lambda good: b"", "NotAnArchiveError"),
        (_later_version, "UnsupportedVersionError"),
        (lambda good: good[:10], "TruncatedArchiveError"),
        (lambda good: good[:-1], "TruncatedArchiveError"),
        (lambda good: good[: len(good) // 2], "TruncatedArchiveError"),
        (_damaged_index, "CorruptArchiveError"),
    ],
    ids=["not one", "empty", "later version", "10 bytes", "last byte missing", "half", "damaged index"],
)
def test_archive_errors_are_4(
    command: str, damage, error: str, invoke: RunCli, rgb_archive: tuple[Path, Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.cpack"
    bad.write_bytes(damage(rgb_archive[1].read_bytes()))
    done = invoke(command, bad, "--json")
    assert (done.rc, done.json["error"]["type"]) == (4, error)
    assert done.json["error"]["path"] == str(bad)
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [bad]


def test_a_missing_archive_is_4(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("info", tmp_path / "missing.cpack", "--json")
    assert (done.rc, done.json["error"]["reason"]) == (4, "No such file or directory")
    assert run_cli("info", tmp_path).rc == 4


def test_codec_errors_are_5(invoke: RunCli, pictures: Path, tmp_path: Path) -> None:
    unknown = invoke("pack", pictures, tmp_path / "a.cpack", "--codec", "vvc", "--json")
    assert (unknown.rc, unknown.json["error"]["type"]) == (5, "UnknownCodecError")
    assert "jpeg" in unknown.json["error"]["known"]
    refused = invoke("pack", pictures, tmp_path / "a.cpack", "--codec", "jpeg", "--json")
    assert (refused.rc, refused.json["error"]["type"]) == (5, "UnsupportedImageError")


def test_damaged_groups_are_4_or_left_out(invoke: RunCli, rgb_archive: tuple[Path, Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.cpack"
    blob = bytearray(rgb_archive[1].read_bytes())
    start = blob.find(b"\xff\xd8\xff")  # a JPEG in the first group
    blob[start + 40] ^= 0xFF
    bad.write_bytes(blob)
    done = invoke("unpack", bad, tmp_path / "out", "--json")
    assert (done.rc, done.json["error"]["type"], done.json["error"]["group"]) == (4, "CorruptGroupError", 0)
    assert not (tmp_path / "out").exists()
    skipped = invoke("unpack", bad, tmp_path / "out", "--on-error", "skip", "--json")
    assert (skipped.rc, skipped.json["n_items"], skipped.json["n_lost"]) == (0, 4, 2)
    assert "LOST 2 images in 1 damaged groups" in invoke("unpack", bad, tmp_path / "out2", "--on-error", "skip").stdout


def test_plugin_conflicts_are_6_and_break_nothing_else(run_cli: RunCli, pictures: Path, tmp_path: Path) -> None:
    source = """
from batchcodec_plugins.codecs import StoreCodec
from batchcodec import hookimpl

class Jpeg(StoreCodec):
    codec_id = "jpeg"

@hookimpl
def register_codecs():
    return [Jpeg]
"""
    install_fake(tmp_path / "site", "other-jpeg", "jpeg2", "other_jpeg", source)
    env = {"PYTHONPATH": str(tmp_path / "site")}
    done = run_cli("pack", pictures, tmp_path / "a.cpack", "--codec", "jpeg", "--json", env=env)
    assert (done.rc, done.json["error"]["type"]) == (6, "PluginConflictError")
    assert "other-jpeg (jpeg2)" in done.json["error"]["message"]
    assert run_cli("pack", pictures, tmp_path / "a.cpack", "--codec", "png", "--json", env=env).rc == 0
    assert run_cli("pack", pictures, tmp_path / "b.cpack", "--codec", "jpeg", env=env | {"BATCHCODEC_PLUGINS": ""}).rc == 5


def test_output_errors_are_1(invoke: RunCli, pictures: Path, tmp_path: Path) -> None:
    done = invoke("pack", pictures, tmp_path / "missing" / "a.cpack", "--json")
    assert (done.rc, done.json["error"]["type"]) == (1, "OutputError")
