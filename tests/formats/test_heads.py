"""What datasets say of items without decoding them is what decoding then gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import picture
from PIL import Image

from batchcodec.dataset import FormatOptions
from batchcodec.registry import registry
from batchcodec.types import ImageSpec, Item


def held(source: Path, every: int = 1) -> tuple[int, int]:
    """Hold heads against items; how many there are, and how many items are unreadable."""
    dataset = registry().format_of(source).read(source)
    n_heads = n_bad = 0
    for i in range(0, len(dataset), every):
        head = dataset.head(i)  # type: ignore[attr-defined]
        try:
            item = dataset[i]
        except Exception:
            n_bad += 1
            continue
        if head is not None:
            n_heads += 1
            assert (head.spec, head.label) == (ImageSpec.of(item.pixels), item.label), item.name
    return n_heads, n_bad


def test_files_in_a_folder_and_in_a_tar(pictures: Path, tmp_path: Path) -> None:
    image = Image.fromarray(picture((24, 32, 3), 0))
    exif = Image.Exif()
    exif[274] = 6
    image.save(pictures / "cat" / "turned.jpg", exif=exif)
    image.convert("P").save(pictures / "cat" / "palette.png")
    Image.fromarray(picture((5, 6), 0)).save(pictures / "cat" / "key.png", transparency=3)
    image.convert("CMYK").save(pictures / "cat" / "cmyk.jpg")
    image.save(pictures / "cat" / "animated.webp", save_all=True, append_images=[image.rotate(90)])
    (pictures / "cat" / "broken.png").write_bytes(b"no picture")
    n_heads, n_bad = held(pictures)
    assert n_bad == 1
    assert n_heads >= 13
    tar = tmp_path / "x.tar"
    kind = registry().format_class("tar")
    dataset = registry().format_of(pictures).read(pictures)
    kind().write(tar, (dataset[i] for i in range(len(dataset)) if "broken" not in str(dataset._names[i])))  # type: ignore[attr-defined]
    assert held(tar)[0] >= 13
    packed = tmp_path / "x.tar.gz"
    kind().write(packed, [Item("a.png", picture((4, 4, 3), 0))])
    assert held(packed) == (0, 0)  # looking would be reading


@pytest.mark.parametrize("shape", [(3, 7, 5), (2, 6, 5, 3), (2, 3, 6, 5), (2, 6, 5, 1)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "bool"])
def test_arrays(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    np.savez(tmp_path / "x.npz", images=np.ones(shape, dtype), labels=np.arange(shape[0]))
    assert held(tmp_path / "x.npz") == (shape[0], 0)


def test_frames_are_only_known_by_reading(tmp_path: Path) -> None:
    image = Image.fromarray(picture((8, 8, 3), 0))
    image.save(tmp_path / "a.gif", save_all=True, append_images=[image.rotate(90)])
    dataset = registry().format_of(tmp_path, FormatOptions(frames="all")).read(tmp_path)
    assert [dataset.head(i) for i in range(len(dataset))] == [None, None]  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["kodak", "eurosat.tar", "medical/chest-xray", "odd", "photos-train.tar"])
def test_real_files(data: Path, name: str) -> None:
    n_heads, _ = held(data / name, every=40 if name.endswith(".tar") else 1)
    assert n_heads > 10
