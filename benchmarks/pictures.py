"""Pictures that the demo and the unit tests can make anywhere: no download, no data set, the same on every machine.

Four classes in folders, of several sizes, modes and file formats, as real collections have them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float64]


def _noise(rng: np.random.Generator, height: int, width: int, roughness: float) -> Floats:
    """Fractal noise in [0, 1], [height, width]: random spectrum that falls off with frequency."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    scale = np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** -roughness
    spectrum = scale * np.exp(2j * np.pi * rng.random(scale.shape))
    field = np.fft.irfft2(spectrum, s=(height, width))
    lowest, highest = field.min(), field.max()
    result: Floats = (field - lowest) / (highest - lowest)
    return result


def landscape(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Sky, mountains and water: RGB."""
    y = np.linspace(0, 1, height)[:, None]
    sky = np.stack([0.35 + 0.4 * y, 0.55 + 0.3 * y, 0.85 + 0.1 * y], axis=2) * np.ones((1, width, 1))
    sky += 0.15 * (_noise(rng, height, width, 1.6)[:, :, None] - 0.5)
    for depth in (0.35, 0.5, 0.68):
        ridge = depth + 0.25 * (_noise(rng, 4, width, 1.5)[0] - 0.5)
        texture = _noise(rng, height, width, 1.1)[:, :, None]
        colour = np.array([0.25, 0.35, 0.3]) * (1.3 - depth) + 0.2 * texture
        sky = np.where(y[:, :, None] > ridge[None, :, None], colour, sky)
    return Image.fromarray((np.clip(sky, 0, 1) * 255).astype(np.uint8))


def texture(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Cloth, marble or grain: gray."""
    y, x = np.mgrid[0:height, 0:width]
    angle, period = rng.uniform(0, np.pi), rng.uniform(8, 16)
    phase = (x * np.cos(angle) + y * np.sin(angle)) / period + 2 * _noise(rng, height, width, 2.2)
    value = 0.5 + 0.35 * np.sin(2 * np.pi * phase) + 0.2 * (_noise(rng, height, width, 1.2) - 0.5)
    return Image.fromarray((np.clip(value, 0, 1) * 255).astype(np.uint8))


def shapes(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """Flat overlapping discs with an alpha channel: RGBA."""
    y, x = np.mgrid[0:height, 0:width]
    canvas = np.zeros((height, width, 4))
    for _ in range(7):
        radius = rng.uniform(0.1, 0.3) * min(height, width)
        distance = np.hypot(y - rng.uniform(0, height), x - rng.uniform(0, width))
        cover = np.clip(radius - distance + 0.5, 0, 1)[:, :, None]
        colour = np.append(rng.uniform(0.1, 1, 3), 1)
        canvas = canvas * (1 - cover) + colour * cover
    return Image.fromarray((canvas * 255).astype(np.uint8))


def cells(rng: np.random.Generator, height: int, width: int) -> Image.Image:
    """A micrograph: soft round spots over grain, RGB."""
    y, x = np.mgrid[0:height, 0:width]
    value = 0.75 + 0.1 * (_noise(rng, height, width, 1.0) - 0.5)
    for _ in range(max(4, height * width // 900)):
        radius = rng.uniform(4, 9)
        distance = np.hypot(y - rng.uniform(0, height), x - rng.uniform(0, width))
        value -= 0.4 * np.exp(-((distance / radius) ** 4))
    rgb = np.stack([value, value * 0.75, value * 0.95], axis=2)
    return Image.fromarray((np.clip(rgb, 0, 1) * 255).astype(np.uint8))


def write_pictures(folder: Path, *, n_each: int = 24, seed: int = 0) -> int:
    """Write `n_each` pictures of each class; how many there are."""
    rng = np.random.default_rng(seed)
    plans = [
        ("landscapes", landscape, [(160, 240), (240, 160)], "jpg"),
        ("textures", texture, [(64, 64)], "png"),
        ("shapes", shapes, [(96, 96), (80, 120)], "webp"),
        ("cells", cells, [(128, 128)], "bmp"),
    ]
    for label, draw, sizes, suffix in plans:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(n_each):
            height, width = sizes[i % len(sizes)]
            options = {"quality": 92} if suffix == "jpg" else {"lossless": True} if suffix == "webp" else {}
            draw(rng, height, width).save(folder / label / f"{label[:-1]} {i:03d}.{suffix}", **options)
    return n_each * len(plans)
