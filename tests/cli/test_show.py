"""`batchcodec show` in processes of its own: facts, files, pictures of characters, and names that are not there."""

from __future__ import annotations

import dataclasses
import os
import pty
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from helpers import CONSOLE_SCRIPT, RunCli, picture
from PIL import Image

import batchcodec

COLOURED = re.compile(r"\x1b\[38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m\u2580")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder with an image of each kind, and its archive, lossless."""
    folder = tmp_path_factory.mktemp("kinds")
    source = folder / "source"
    (source / "a").mkdir(parents=True)
    for channels, name in ((1, "gray"), (2, "la"), (3, "rgb"), (4, "rgba")):
        pixels = picture((12, 10, channels), channels)
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(source / "a" / f"{name}.png")
    Image.fromarray(picture((12, 10), 5, "uint16")).save(source / "a" / "sixteen.png")
    batchcodec.pack(source, folder / "kinds.cpack", batchcodec.PackOptions(codec="zstd", workers=1))
    return source, folder / "kinds.cpack"


def test_facts_by_name_and_by_number(run_cli: RunCli, invoke: RunCli, rgb_archive: tuple[Path, Path]) -> None:
    text = run_cli("show", rgb_archive[1], "dog/1.png")
    assert (text.rc, text.stderr) == (0, "")
    facts = dict(line.split("  ", 1) for line in text.stdout.splitlines())
    assert {key: value.strip() for key, value in facts.items() if key in ("name", "number", "label", "image")} == {
        "name": "dog/1.png",
        "number": "#4",
        "label": "dog",
        "image": "32x24 RGB",
    }
    assert "\x1b" not in text.stdout
    assert invoke("show", rgb_archive[1], "#4").stdout == text.stdout == invoke("show", rgb_archive[1], "#-2").stdout
    found = invoke("show", rgb_archive[1], "#4", "--json").json
    assert found["written"] is None
    item = found["item"]
    assert (item["index"], item["name"], item["codec"], item["group"], item["group_items"]) == (4, "dog/1.png", "jpeg", 2, 2)
    assert item["n_bytes"] == item["group_bytes"] / 2


def test_a_name_that_is_not_there(invoke: RunCli, rgb_archive: tuple[Path, Path]) -> None:
    done = invoke("show", rgb_archive[1], "dog/11.png", "--json")
    assert done.rc == 4
    error = done.json["error"]
    assert error["type"] == "ItemNotFoundError"
    assert error["close"][0] == "dog/1.png"
    assert "'dog/1.png'" in done.stderr
    without_folder = invoke("show", rgb_archive[1], "2.png", "--json").json["error"]["close"]
    assert sorted(without_folder[:2]) == ["cat/2.png", "dog/2.png"]
    nothing = invoke("show", rgb_archive[1], "zzzzzzzzzzzz")
    assert (nothing.rc, "batchcodec ls" in nothing.stderr) == (4, True)
    for number in ("#6", "#-7"):
        beyond = invoke("show", rgb_archive[1], number)
        assert beyond.rc == 4
        assert "it has 6 (from #0)" in beyond.stderr


@pytest.mark.parametrize("name", ["gray", "la", "rgb", "rgba", "sixteen"])
def test_a_png_has_the_very_pixels(name: str, invoke: RunCli, kinds: tuple[Path, Path], tmp_path: Path) -> None:
    done = invoke("show", kinds[1], f"a/{name}.png", "-o", tmp_path / "x.png", "--json")
    assert (done.rc, done.json["written"]) == (0, str(tmp_path / "x.png"))
    written, source = (np.asarray(Image.open(path)) for path in (tmp_path / "x.png", kinds[0] / "a" / f"{name}.png"))
    assert written.dtype == source.dtype
    assert np.array_equal(written, source)
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    ("suffix", "kind"), [("webp", "WEBP"), ("jpg", "JPEG"), ("bmp", "BMP"), ("TIFF", "TIFF"), ("ppm", "PPM")]
)
def test_other_files(suffix: str, kind: str, invoke: RunCli, kinds: tuple[Path, Path], tmp_path: Path) -> None:
    assert invoke("show", kinds[1], "a/rgb.png", "-o", tmp_path / f"x.{suffix}").rc == 0
    with Image.open(tmp_path / f"x.{suffix}") as image:
        assert (image.format, image.size, image.mode) == (kind, (10, 12), "RGB")


@pytest.mark.parametrize(
    ("item", "target"), [("a/rgb.png", "x.gif"), ("a/rgb.png", "x"), ("a/rgba.png", "x.jpg"), ("a/sixteen.png", "x.webp")]
)
def test_files_that_cannot_hold_the_image(
    item: str, target: str, invoke: RunCli, kinds: tuple[Path, Path], tmp_path: Path
) -> None:
    done = invoke("show", kinds[1], item, "-o", tmp_path / target)
    assert done.rc == 5
    assert ".png holds every image" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(invoke: RunCli, kinds: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "x.png"
    target.write_text("mine")
    assert invoke("show", kinds[1], "#0", "-o", target).rc == 2
    assert target.read_text() == "mine"
    assert invoke("show", kinds[1], "#0", "-o", target, "--force").rc == 0
    assert np.asarray(Image.open(target)).shape == (12, 10)
    assert invoke("show", kinds[1], "#0", "-o", tmp_path, "--force").rc == 1
    assert invoke("show", kinds[1], "#0", "-o", tmp_path / "no" / "x.png").rc == 1


def test_a_picture_of_characters(invoke: RunCli, kinds: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pixels a character, each colour that of the image; small images are magnified by a whole factor."""
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "30")
    done = invoke("show", kinds[1], "a/rgb.png", "--picture")
    rows = [COLOURED.findall(line) for line in done.stdout.splitlines() if "\u2580" in line]
    pixels = np.array(rows, int).reshape(len(rows), -1, 2, 3).transpose(0, 2, 1, 3).reshape(2 * len(rows), -1, 3)
    factor = pixels.shape[1] // 10
    assert factor == 4
    assert np.array_equal(pixels[::factor, ::factor], np.asarray(Image.open(kinds[0] / "a" / "rgb.png")))
    monkeypatch.delenv("COLORTERM")
    few = invoke("show", kinds[1], "a/rgb.png", "--picture").stdout
    assert "\x1b[38;5;" in few
    assert "38;2" not in few
    assert "\u2580" not in invoke("show", kinds[1], "a/rgb.png").stdout
    assert "\u2580" not in invoke("show", kinds[1], "a/rgb.png", "--picture", "--json").stdout


def in_terminal(*arguments: object, **env: str) -> str:
    """What a command prints to a terminal."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [CONSOLE_SCRIPT, *map(str, arguments)], stdout=child, stderr=child, env={**os.environ, "TERM": "xterm-256color", **env}
    )
    os.close(child)
    parts = []
    try:
        while part := os.read(parent, 1 << 16):
            parts.append(part)
    except OSError:  # Linux says so that the other end is closed
        pass
    os.close(parent)
    assert process.wait(60) == 0
    return b"".join(parts).decode()


def test_on_a_terminal(rgb_archive: tuple[Path, Path]) -> None:
    command = ("show", rgb_archive[1], "#0")
    assert COLOURED.search(in_terminal(*command, COLORTERM="truecolor", NO_COLOR=""))
    assert "\u2580" not in in_terminal(*command, COLORTERM="truecolor", NO_COLOR="1")


def test_hostile_names_and_attributes_are_shown_and_not_sent(invoke: RunCli, tmp_path: Path) -> None:
    from batchcodec.report.item import item_info
    from batchcodec.report.item_text import item_text

    names = np.array(["a\nb\u202e.png", "#1", "\x85[31m"])
    np.savez(tmp_path / "x.npz", images=np.zeros((3, 2, 2, 1), np.uint8), names=names)
    batchcodec.pack(tmp_path / "x.npz", tmp_path / "x.cpack", batchcodec.PackOptions(codec="store"))
    done = invoke("show", tmp_path / "x.cpack", "#0")
    assert "name    a\\nb\\u202e.png\n" in done.stdout
    assert invoke("show", tmp_path / "x.cpack", "#1", "--json").json["item"]["name"] == "#1"
    assert "\x85" not in invoke("show", tmp_path / "x.cpack", "#2").stdout
    with batchcodec.open(tmp_path / "x.cpack") as archive:
        info = item_info(archive, 0)
    text = item_text(dataclasses.replace(info, attributes={"\x1b[1m": "\x1b[2J" * 99}))
    assert "\x1b" not in text
    assert "(396 characters)" in text


def test_damage_costs_the_image_and_not_the_facts(invoke: RunCli, rgb_archive: tuple[Path, Path], tmp_path: Path) -> None:
    with batchcodec.open(rgb_archive[1]) as archive:
        entry = archive._groups.entries[0]
    data = bytearray(rgb_archive[1].read_bytes())
    data[entry.offset + entry.n_bytes - 20] ^= 255
    (tmp_path / "bad.cpack").write_bytes(data)
    facts = invoke("show", tmp_path / "bad.cpack", "#0")
    assert (facts.rc, "cat/0.png" in facts.stdout) == (0, True)
    shown = invoke("show", tmp_path / "bad.cpack", "#0", "--picture")
    assert (shown.rc, "cat/0.png" in shown.stdout, "checksum" in shown.stderr) == (4, True, True)
    assert invoke("show", tmp_path / "bad.cpack", "#0", "-o", tmp_path / "x.png").rc == 4
    assert not (tmp_path / "x.png").exists()
    assert invoke("show", tmp_path / "bad.cpack", "#2", "-o", tmp_path / "x.png").rc == 0


def test_close_names_among_many() -> None:
    from batchcodec.report.item import close_names

    names = [f"part-{i // 1000:03}/image-{i:06}.png" for i in range(60_000)]
    assert close_names(names, "part-012/image-012345.jpg")[0] == "part-012/image-012345.png"
    assert "part-033/image-033333.png" in close_names(names, "image-033333.png")
    assert close_names(names, "\u2603" * 20) == []


def test_real_images(data: Path, invoke: RunCli, tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    for name in ("kodim03.png", "kodim04.png"):
        (tmp_path / "two" / name).symlink_to(data / "kodak" / name)
    batchcodec.pack(tmp_path / "two", tmp_path / "k.cpack", batchcodec.PackOptions(codec="webp:quality=60", workers=1))
    done = invoke("show", tmp_path / "k.cpack", "kodim03.png", "-o", tmp_path / "x.webp", "--json")
    assert (done.rc, done.json["item"]["image"]) == (0, "768x512 RGB")
    with batchcodec.open(tmp_path / "k.cpack") as archive:
        assert np.array_equal(np.asarray(Image.open(tmp_path / "x.webp")), archive["kodim03.png"].pixels)
