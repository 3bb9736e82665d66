"""The figure: a PNG with a column for each item."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import picture
from PIL import Image

import batchcodec
from batchcodec.errors import InputError, OutputError
from batchcodec.report.figure import CELL, draw_figure


def _width(columns: int) -> int:
    return 96 + columns * (CELL + 8)


@pytest.mark.parametrize(("wanted", "columns"), [(10, 6), (6, 6), (3, 3), (1, 1)])
def test_size(wanted: int, columns: int, rgb_archive: tuple[Path, Path], tmp_path: Path) -> None:
    assert draw_figure(rgb_archive[1], rgb_archive[0], tmp_path / "f.png", n_items=wanted) == columns
    with Image.open(tmp_path / "f.png") as image:
        assert image.format == "PNG"
        assert image.size == (_width(columns), 2 * (CELL + 8) + 40)


def test_pictures_of_all_kinds_are_shown(pictures: Path, tmp_path: Path) -> None:
    Image.fromarray(picture((300, 500, 3))).save(pictures / "large.png")
    Image.fromarray(picture((1, 700))).save(pictures / "line\nlong.png")
    batchcodec.pack(pictures, tmp_path / "a.cpack", batchcodec.PackOptions(codec="zstd"))
    assert draw_figure(tmp_path / "a.cpack", pictures, tmp_path / "f.png", n_items=20) == 13


def test_originals_are_over_reconstructions(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.full((1, 40, 40, 3), 200, np.uint8))
    batchcodec.pack(tmp_path / "x.npy", tmp_path / "a.cpack", batchcodec.PackOptions(codec="store"))
    np.save(tmp_path / "x.npy", np.full((1, 40, 40, 3), 90, np.uint8))
    draw_figure(tmp_path / "a.cpack", tmp_path / "x.npy", tmp_path / "f.png")
    pixels = np.asarray(Image.open(tmp_path / "f.png"))
    x, y = 96 + CELL // 2, 8 + CELL // 2
    assert pixels[y, x].tolist() == [90] * 3
    assert pixels[y + CELL + 8, x].tolist() == [200] * 3


def test_what_cannot_be_drawn(rgb_archive: tuple[Path, Path], pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        draw_figure(rgb_archive[1], rgb_archive[0], tmp_path / "missing" / "f.png")
    (tmp_path / "other").mkdir()
    Image.fromarray(picture((4, 4))).save(tmp_path / "other" / "x.png")
    with pytest.raises(InputError, match="none of the items"):
        draw_figure(rgb_archive[1], tmp_path / "other", tmp_path / "f.png")
    assert not (tmp_path / "f.png").exists()
