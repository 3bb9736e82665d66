"""Settings, progress and result of a training run, whatever the codec."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from batchcodec.errors import OptionError


@dataclass(frozen=True)
class RunSettings:
    """What the runs of all codecs have in common; each codec adds its own.

    Attributes:
        minutes: how long to train, in all parts of the run together; without it `epochs` decides.
        epochs: passes over the training images.
        batch: images of one step.
        crop: side of the random squares that are trained on, in pixels, for images larger than it.
        learning_rate: at its highest.
        flip: mirror half of the batches.
        seed: of initial weights, split, crops and noise.
        device: "auto" (CUDA where torch finds it), "cpu" or "cuda".
        threads: of the CPU.
        patience: end the run after so many validations that were not better; 0 never does.
    """

    minutes: float | None = None
    epochs: float = 20
    batch: int = 16
    crop: int = 64
    learning_rate: float = 2e-3
    flip: bool = False
    seed: int = 0
    device: str = "auto"
    threads: int = 1
    patience: int = 0

    def __post_init__(self) -> None:
        bounds = {
            "batch": (1, 4096),
            "crop": (8, 4096),
            "learning_rate": (1e-7, 1),
            "epochs": (1e-6, 1e6),
            "seed": (0, 2**32),
            "threads": (0, 1024),
            "patience": (0, 1_000_000),
        }
        self.check(bounds)
        if self.minutes is not None and not 0 < self.minutes <= 1e6:
            raise OptionError("minutes", self.minutes, "a positive number")
        if self.device not in ("auto", "cpu", "cuda"):
            raise OptionError("device", self.device, "auto, cpu or cuda")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise OptionError("device", self.device, "cpu: torch finds no CUDA device here")

    def check(self, bounds: dict[str, tuple[float, float]]) -> None:
        """Raise `OptionError` for an attribute that is out of its bounds."""
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise OptionError(name.replace("_", "-"), getattr(self, name), f"a number from {low} to {high}")


@dataclass(frozen=True)
class TrainStatus:
    """Where training is, for progress.

    Attributes:
        done: part of the run, from 0 to 1.
        step: steps so far.
        loss: of late steps, averaged.
        images_per_second: trained on.
        log: one row for each validation.
    """

    done: float
    step: int
    loss: float
    images_per_second: float
    log: list[dict[str, Any]]


@dataclass
class TrainReport:
    """What a run gave.

    Attributes:
        path: of the model file.
        codec: that it is for.
        settings: of the run.
        steps, seconds: of all its parts.
        n_train, n_validation: images.
        interrupted: whether Ctrl-C ended it.
        model_bytes: of the file.
        psnr: of the last validation in dB; nan where that was made at several qualities.
        bits_per_pixel: estimated; nan where nothing was.
        points: `quality`, `psnr` and `bits_per_pixel` of the last validation, where it was made at several.
        log: one row for each validation.
    """

    path: Path
    codec: str
    settings: RunSettings
    steps: int = 0
    seconds: float = 0.0
    n_train: int = 0
    n_validation: int = 0
    interrupted: bool = False
    model_bytes: int = 0
    psnr: float = math.nan
    bits_per_pixel: float = math.nan
    points: list[dict[str, float]] = field(default_factory=list)
    log: list[dict[str, Any]] = field(default_factory=list)


def latest(log: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the last validation of a log measured; nothing before the first."""
    return next((row for row in reversed(log) if "loss" in row or "points" in row), {})
