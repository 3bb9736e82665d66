"""Datasets that cannot be packed, whole or in part: what is said, with which exit code, and that nothing is left behind."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli, picture
from PIL import Image

from batchcodec.registry import registry


def _refused(invoke: RunCli, source: Path, target: Path, *options: object) -> dict[str, object]:
    """The JSON error of a refused `pack`, which leaves nothing beside the source."""
    before = sorted(target.parent.iterdir())
    done = invoke("pack", source, target, *options, "--json")
    assert done.rc == 3, done
    assert sorted(target.parent.iterdir()) == before
    error: dict[str, object] = done.json["error"]
    return error


def test_a_missing_source(invoke: RunCli, tmp_path: Path) -> None:
    assert _refused(invoke, tmp_path / "missing", tmp_path / "a.cpack")["type"] == "InputError"


def test_an_empty_directory(invoke: RunCli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert _refused(invoke, tmp_path / "empty", tmp_path / "a.cpack")["type"] == "EmptyDatasetError"


def test_no_image_in_it(invoke: RunCli, tmp_path: Path) -> None:
    (tmp_path / "x" / ".hidden").mkdir(parents=True)
    (tmp_path / "x" / "a.txt").write_text("text")
    Image.new("L", (3, 3)).save(tmp_path / "x" / ".hidden" / "a.png")
    assert _refused(invoke, tmp_path / "x", tmp_path / "a.cpack")["type"] == "EmptyDatasetError"


def test_an_unknown_suffix(invoke: RunCli, tmp_path: Path) -> None:
    (tmp_path / "a.hdf5").write_bytes(b"\x89HDF")
    error = _refused(invoke, tmp_path / "a.hdf5", tmp_path / "a.cpack")
    assert error["type"] == "UnknownFormatError"
    assert "folder, idx, npy, npz, parquet, tar" in str(error["message"])


def test_an_unknown_suffix_to_unpack_to(invoke: RunCli, rgb_archive: tuple[Path, Path], tmp_path: Path) -> None:
    done = invoke("unpack", rgb_archive[1], tmp_path / "out.hdf5", "--json")
    assert (done.rc, done.json["error"]["type"]) == (3, "UnknownFormatError")
    assert ".npz" in done.json["error"]["message"]
    assert list(tmp_path.iterdir()) == []


def _png(tmp_path: Path) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture((40, 40, 3))).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda good: b"",
        lambda good: good[: len(good) // 2],
        lambda good: good[:20],
        lambda good: bytes(len(good)),
        lambda g: b"x",
    ],
    ids=["zero bytes", "half", "20 bytes", "zeros", "x"],
)
def test_a_damaged_image_is_named_or_skipped(damage, invoke: RunCli, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    good = _png(tmp_path)
    (source / "good.png").write_bytes(good)
    (source / "bad.png").write_bytes(damage(good))
    error = _refused(invoke, source, tmp_path / "a.cpack")
    assert (error["type"], error["item"]) == ("ItemError", "bad.png")
    done = invoke("pack", source, tmp_path / "a.cpack", "--on-error", "skip", "--json")
    assert done.rc == 0
    assert done.json["n_items"] == 1
    assert [s["item"] for s in done.json["skipped"]] == ["bad.png"]
    assert done.json["skipped"][0]["reason"]
    text = invoke("pack", source, tmp_path / "a.cpack", "--on-error", "skip", "-f")
    assert text.rc == 0
    assert "SKIPPED 1 items" in text.stdout
    assert "bad.png: " in text.stdout
    info = invoke("info", tmp_path / "a.cpack", "--json").json
    assert info["meta"]["n_skipped"] == 1
    assert info["meta"]["skipped"][0]["item"] == "bad.png"
    assert "1 items of the source were skipped" in invoke("info", tmp_path / "a.cpack").stdout


def test_all_images_damaged(invoke: RunCli, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "bad.png").write_bytes(b"x")
    assert _refused(invoke, tmp_path / "source", tmp_path / "a.cpack", "--on-error", "skip")["type"] == "EmptyDatasetError"


def test_a_decompression_bomb(invoke: RunCli, tmp_path: Path) -> None:
    # The header of a GIF of 65,535 x 65,535 pixels.
    (tmp_path / "source").mkdir()
    bomb = b"GIF89a\xff\xff\xff\xff\x80\x00\x00\x00\x00\x00\xff\xff\xff,\x00\x00\x00\x00\xff\xff\xff\xff\x00\x02\x02D\x01\x00;"
    (tmp_path / "source" / "bomb.gif").write_bytes(bomb)
    error = _refused(invoke, tmp_path / "source", tmp_path / "a.cpack")
    assert (error["type"], error["item"]) == ("ItemError", "bomb.gif")
    assert "pixels" in str(error["reason"])


MEANT_TO_FAIL = {
    "10ct_32bit_128.tiff",
    "broken.png",
    "broken_data_stream.png",
    "decompression_bomb.gif",
    "empty.png",
    "png_decompression_dos.png",
    "truncated_image.png",
    "truncated_jpeg.jpg",
    "ultrahdr.jpg",
}


def test_odd_files(invoke: RunCli, data: Path, tmp_path: Path) -> None:
    done = invoke("pack", data / "odd", tmp_path / "a.cpack", "-c", "store", "--on-error", "skip", "--json", "--size", "16")
    assert done.rc == 0
    assert {s["item"] for s in done.json["skipped"]} == MEANT_TO_FAIL
    assert done.json["n_items"] == 31
    error = _refused(invoke, data / "odd", tmp_path / "b.cpack")
    assert error["item"] == "10ct_32bit_128.tiff"


def test_two_items_of_one_name(invoke: RunCli, tmp_path: Path) -> None:
    blob = _png(tmp_path)
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for _ in range(2):
            member = tarfile.TarInfo("a/same.png")
            member.size = len(blob)
            tar.addfile(member, io.BytesIO(blob))
    error = _refused(invoke, tmp_path / "x.tar", tmp_path / "a.cpack")
    assert (error["type"], error["item"]) == ("DuplicateNameError", "a/same.png")
    done = invoke("pack", tmp_path / "x.tar", tmp_path / "a.cpack", "--on-error", "skip", "--json")
    assert (done.rc, done.json["n_items"], len(done.json["skipped"])) == (0, 1, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(invoke: RunCli, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a.png").write_bytes(_png(tmp_path))
    (tmp_path / "source" / "a.png").chmod(0)
    error = _refused(invoke, tmp_path / "source", tmp_path / "a.cpack")
    assert (error["type"], error["item"]) == ("ItemError", "a.png")
    assert "ermission" in str(error["reason"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list everything")
def test_a_folder_that_may_not_be_listed(invoke: RunCli, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir(mode=0)
    assert "ermission" in str(_refused(invoke, tmp_path / "source", tmp_path / "a.cpack")["reason"])


def test_an_existing_target_is_refused_and_untouched(invoke: RunCli, pictures: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.cpack"
    target.write_text("precious")
    done = invoke("pack", pictures, target, "-c", "store", "--json")
    assert (done.rc, done.json["error"]["type"]) == (2, "TargetExistsError")
    assert target.read_text() == "precious"
    assert invoke("pack", tmp_path / "missing", target, "-f").rc == 3
    assert target.read_text() == "precious"
    assert invoke("pack", pictures, target, "-c", "store", "-f").rc == 0
    assert invoke("info", target).rc == 0


def test_the_source_is_never_the_target(invoke: RunCli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 8), np.uint8))
    before = (tmp_path / "x.npy").read_bytes()
    done = invoke("pack", tmp_path / "x.npy", tmp_path / "x.npy", "-f", "--json")
    assert (done.rc, done.json["error"]["name"]) == (2, "target")
    assert (tmp_path / "x.npy").read_bytes() == before


def test_a_directory_as_target(invoke: RunCli, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert invoke("pack", pictures, tmp_path / "out").rc == 2
    assert invoke("pack", pictures, tmp_path / "out", "-f").rc == 2
    assert (tmp_path / "out").is_dir()


@pytest.mark.parametrize("codec", ["jpeg", "webp", "avif"])
def test_16_bits_into_a_codec_without_them(codec: str, invoke: RunCli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.stack([picture((9, 9), i, "uint16") for i in range(2)]))
    done = invoke("pack", tmp_path / "x.npy", tmp_path / "a.cpack", "--codec", codec, "--json")
    assert (done.rc, done.json["error"]["type"]) == (5, "UnsupportedImageError")
    assert done.json["error"]["item"] == registry().format_of(tmp_path / "x.npy").read(tmp_path / "x.npy")[0].name
    others = done.json["error"]["message"].rpartition("codecs for such images: ")[2].split(", ")
    assert {"png", "zstd", "store"} <= set(others)
    assert codec not in others
    assert not (tmp_path / "a.cpack").exists()


def test_images_that_a_codec_cannot_hold_are_named_or_skipped(invoke: RunCli, pictures: Path, tmp_path: Path) -> None:
    done = invoke("pack", pictures, tmp_path / "a.cpack", "--codec", "jpeg", "--json")
    assert (done.rc, done.json["error"]["item"]) == (5, "dog/la.png")
    done = invoke("pack", pictures, tmp_path / "a.cpack", "--codec", "jpeg", "--on-error", "skip", "--json")
    assert done.rc == 0
    assert [s["item"] for s in done.json["skipped"]] == ["dog/la.png", "dog/rgba.png", "dog/sixteen.png"]
    assert all(s["reason"].startswith("codec jpeg cannot hold") for s in done.json["skipped"])


def test_auto_skips_what_it_cannot_hold(invoke: RunCli, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    Image.new("L", (40_000, 1)).save(tmp_path / "source" / "long.png")
    Image.new("L", (8, 8)).save(tmp_path / "source" / "short.png")
    done = invoke("pack", tmp_path / "source", tmp_path / "a.cpack", "--json")
    assert (done.rc, done.json["error"]["item"]) == (5, "long.png")
    done = invoke("pack", tmp_path / "source", tmp_path / "a.cpack", "--on-error", "skip", "--json")
    assert (done.rc, [s["item"] for s in done.json["skipped"]]) == (0, ["long.png"])


def test_a_file_that_is_written_beside_the_target_is_refused_too(invoke: RunCli, tmp_path: Path) -> None:
    for label in "01":
        (tmp_path / "source" / label).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "source" / label / f"{label}.png")
    assert invoke("pack", tmp_path / "source", tmp_path / "a.cpack", "-c", "store").rc == 0
    labels = tmp_path / "out-labels.idx"
    labels.write_text("precious")
    done = invoke("unpack", tmp_path / "a.cpack", tmp_path / "out.idx", "--json")
    assert (done.rc, done.json["error"]["path"]) == (2, str(labels))
    assert labels.read_text() == "precious"
    assert not (tmp_path / "out.idx").exists()
    assert invoke("unpack", tmp_path / "a.cpack", tmp_path / "out.idx", "-f").rc == 0
    assert labels.read_bytes().endswith(b"\0\1")
