"""What the tests import: the result of a run of the command line, and generated pictures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchcodec.types import Pixels


@dataclass(frozen=True)
class Finished:
    """What a run of the command line left behind."""

    rc: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


RunCli = Callable[..., Finished]
CONSOLE_SCRIPT = Path(sys.executable).with_name("batchcodec")


def picture(shape: tuple[int, ...], seed: int = 0, dtype: str = "uint8") -> Pixels:
    """A smooth picture with a little noise, [H, W] or [H, W, C]."""
    rng = np.random.default_rng([seed, *shape])
    y, x = np.mgrid[: shape[0], : shape[1]]
    smooth = 0.5 + 0.25 * np.sin(x / 5 + seed) + 0.2 * np.cos(y / 7 - seed)
    smooth = smooth.reshape(*shape[:2], *([1] * (len(shape) - 2))) * np.linspace(0.7, 1, shape[2] if len(shape) > 2 else 1)
    smooth = smooth if len(shape) > 2 else smooth.reshape(shape[:2])
    peak = np.iinfo(dtype).max
    return np.clip(peak * (smooth + rng.normal(0, 0.01, shape)), 0, peak).astype(dtype)


def striped(n: int, side: int) -> Pixels:
    """Pictures uint8 [n, side, side, 3] with stripes of colour, a pixel wide: codecs that store less of colour lose them."""
    stripes = np.where(np.arange(side) % 2, 40, -40)[:, None] * np.array([1, 0, -1])
    pictures = np.stack([picture((side, side, 3), i) for i in range(n)]).astype(np.int16)
    return np.clip(pictures + stripes, 0, 255).astype(np.uint8)


def install_fake(folder: Path, distribution: str, point: str, module: str, source: str, version: str = "1.0") -> None:
    """Put a module and what says that it is installed, with one entry point, into a folder that will be on `sys.path`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{module}.py").write_text(source)
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[batchcodec]\n{point} = {module}\n")
