"""Whatever was packed can be unpacked, nothing replaces its own source, and messages name what the user named."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli, picture
from PIL import Image

import batchcodec
from batchcodec import Item, PackOptions, Preprocess
from batchcodec.report.text import unpack_text
from batchcodec.unpack import UnpackReport


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a\\b.png", "a//b.png", "a\x1b.png", "x" * 300 + ".png"])
def test_names_that_could_not_be_unpacked_are_not_packed(name: str, invoke: RunCli, tmp_path: Path) -> None:
    images = np.stack([picture((8, 8)), picture((8, 8), 1)])
    np.savez(tmp_path / "a.npz", images=images, names=np.array(["good.png", name]))
    refused = invoke("pack", tmp_path / "a.npz", tmp_path / "a.cpack", "-c", "store", "--json")
    assert (refused.rc, refused.json["error"]["type"]) == (3, "UnsafeNameError")
    done = invoke("pack", tmp_path / "a.npz", tmp_path / "a.cpack", "-c", "store", "--json", "--on-error", "skip")
    assert [skipped["item"] for skipped in done.json["skipped"]] == [name]
    assert invoke("unpack", tmp_path / "a.cpack", tmp_path / "out").rc == 0


def test_unpack_does_not_replace_its_own_source(invoke: RunCli, rgb_archive: tuple[Path, Path], tmp_path: Path) -> None:
    archive = tmp_path / "plain"
    archive.write_bytes(rgb_archive[1].read_bytes())
    (tmp_path / "x").mkdir()
    for arguments in ([archive, archive], [archive], [archive, tmp_path / "x" / ".." / "plain"]):
        done = invoke("unpack", *arguments, "--force", "--json")
        assert done.rc == 2
        assert "another path" in done.json["error"]["message"]
    assert archive.read_bytes() == rgb_archive[1].read_bytes()


def test_errors_of_unpack_name_the_target_and_not_the_stage(invoke: RunCli, pictures: Path, tmp_path: Path) -> None:
    invoke("pack", pictures, tmp_path / "a.cpack", "-c", "zstd")
    done = invoke("unpack", tmp_path / "a.cpack", tmp_path / "mixed.npy", "--json")
    assert done.rc == 3
    assert done.json["error"]["path"] == str(tmp_path / "mixed.npy")
    assert ".partial" not in done.stderr


@pytest.mark.parametrize("installed", [True, False])
def test_sixteen_bits_need_no_optional_package(
    installed: bool, monkeypatch: pytest.MonkeyPatch, invoke: RunCli, pictures: Path, tmp_path: Path
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("batchcodec.choice.find_spec", lambda name: found(name) if installed else None)
    done = invoke("pack", pictures, tmp_path / "a.cpack", "--json")
    assert done.rc == 0
    assert done.json["codecs"].get("zstd") == (None if installed else 1)
    with batchcodec.open(tmp_path / "a.cpack") as archive:
        original = np.asarray(Image.open(pictures / "dog" / "sixteen.png"))
        assert np.array_equal(archive["dog/sixteen.png"].pixels[:, :, 0], original)


def test_a_group_that_was_asked_for_is_made(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((300, 400, 400, 1), np.uint8))  # 48 MB: more than is buffered otherwise
    report = batchcodec.pack(tmp_path / "a.npy", tmp_path / "a.cpack", PackOptions(codec="zstd:level=1", group_items=300))
    assert report.n_groups == 1


def test_what_is_transparent_does_not_shine_through_in_16_bits_either() -> None:
    red, clear_green = (255, 0, 0, 255), (0, 255, 0, 0)
    eight = np.array([[red, clear_green]], np.uint8)
    shrink = Preprocess(size=(1, 1), resample="box")
    small = shrink(Item("x", eight)).pixels
    smaller = shrink(Item("x", eight.astype(np.uint16) * 257)).pixels
    assert small[0, 0, :3].tolist() == [255, 0, 0]
    assert smaller[0, 0, :3].tolist() == [65535, 0, 0]
    assert abs(int(smaller[0, 0, 3]) - 32768) <= 1


def test_resume_does_not_replace_a_finished_model(invoke: RunCli, tiny_model: Path, pictures: Path, tmp_path: Path) -> None:
    model = tmp_path / "m.safetensors"
    model.write_bytes(tiny_model.read_bytes())
    done = invoke("train", pictures, "-o", model, "--resume", "--epochs", "1", "--size", "16", "--mode", "gray", "--json")
    assert (done.rc, done.json["error"]["type"]) == (2, "OptionError")
    assert model.read_bytes() == tiny_model.read_bytes()


def test_rounding_is_told() -> None:
    assert "differ by rounding" in unpack_text(UnpackReport("a", "b", "folder", 3, 0, [], 1, 0))
    assert "differ by rounding" not in unpack_text(UnpackReport("a", "b", "folder", 3, 0, [], 0, 0))


def test_another_suffix_is_told(invoke: RunCli, pictures: Path, tmp_path: Path) -> None:
    invoke("pack", pictures, tmp_path / "a.cpack", "-c", "zstd")
    for target, options, renamed in (("out", (), 1), ("out.tar", (), 1), ("kept", ("--image-format", "keep"), 0), ("a", (), 1)):
        done = invoke("unpack", tmp_path / "a.cpack", tmp_path / target, *options, "--json")
        assert done.json["n_renamed"] == renamed
    assert "1 of them are .png now" in invoke("unpack", tmp_path / "a.cpack", tmp_path / "again").stdout
