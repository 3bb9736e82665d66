"""Images for the tests of the classical codecs: generated ones, and real ones where BATCHCODEC_DATA names them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from batchcodec.types import Pixels

MakeImages = Callable[..., Pixels]


@pytest.fixture(scope="session")
def make_images() -> MakeImages:
    """A function (n, height, width, channels, dtype) -> smooth images with some noise, the same on every call."""

    def make(n: int, height: int, width: int, channels: int, dtype: str = "uint8") -> Pixels:
        rng = np.random.default_rng([n, height, width, channels])
        item, y, x, channel = np.ogrid[:n, :height, :width, :channels]
        smooth = 128 + 60 * np.sin(x / 5 + item) + 50 * np.cos(y / 7 + channel)
        scale = 257 if dtype == "uint16" else 1
        noisy = scale * (smooth + rng.normal(0, 5, (n, height, width, channels)))
        return np.clip(noisy, 0, 255 * scale).astype(dtype)

    return make


@pytest.fixture(scope="session")
def data_folder() -> Path:
    folder = os.environ.get("BATCHCODEC_DATA")
    if not folder:
        pytest.skip("BATCHCODEC_DATA is not set: no real images")
    return Path(folder)


@pytest.fixture(scope="session")
def kodak(data_folder: Path) -> list[Pixels]:
    """The 24 images, uint8 [512, 768, 3] or [768, 512, 3]."""
    images = [np.asarray(Image.open(path)) for path in sorted((data_folder / "kodak").glob("*.png"))]
    assert len(images) == 24
    return images


@pytest.fixture(scope="session")
def odd_images(data_folder: Path) -> list[Pixels]:
    """What Pillow can load of the odd files, at most 96x160 from the middle, in the modes that batchcodec has."""
    images = []
    for path in sorted((data_folder / "odd").iterdir()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(path) as image:
                    mode = "RGBA" if image.has_transparency_data else "RGB"
                    known = image.mode in ("L", "LA", "RGB", "RGBA", "I;16")
                    pixels = np.asarray(image if known else image.convert(mode))
        except Exception:  # some of the files are meant to fail
            continue
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        top, left = max(0, pixels.shape[0] - 96) // 2, max(0, pixels.shape[1] - 160) // 2
        images.append(pixels[top : top + 96, left : left + 160])
    assert len(images) >= 20
    return images
