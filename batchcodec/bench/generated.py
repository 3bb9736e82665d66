"""Pictures to measure with when there are no others: colour gradients, a few edges, and noise that falls off with frequency.

They code about as photographs do: neither flat nor white noise. Equal arguments give equal pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from batchcodec.types import Pixels

SIDE = 64


def generate(n_images: int, seed: int = 0, side: int = SIDE) -> Pixels:
    """uint8 [n_images, side, side, 3]."""
    rng = np.random.default_rng(seed)
    return np.stack([_picture(rng, side) for _ in range(n_images)])


def write_npz(path: Path, n_images: int, seed: int = 0) -> None:
    """The same, in a file that `pack` reads."""
    np.savez(path, images=generate(n_images, seed))


def _picture(rng: np.random.Generator, side: int) -> Pixels:
    ramp = np.linspace(-1, 1, side)
    y, x = ramp[:, None, None], ramp[None, :, None]
    value = rng.uniform(70, 180, 3) + y * rng.normal(0, 25, 3) + x * rng.normal(0, 25, 3)  # [side, side, 3]
    for _ in range(3):  # discs with a sharp edge
        inside = np.hypot(y - rng.uniform(-1, 1), x - rng.uniform(-1, 1)) < rng.uniform(0.2, 0.7)
        value = np.where(inside, value + rng.normal(0, 40, 3), value)
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    spectrum = np.fft.rfft2(rng.normal(0, 1, (side, side))) / np.maximum(frequency, 1 / side) ** 1.2
    noise = np.fft.irfft2(spectrum, s=(side, side))
    value = value + (rng.uniform(4, 16) * noise / noise.std())[:, :, None]
    picture: Pixels = np.clip(value, 0, 255).astype(np.uint8)
    return picture
