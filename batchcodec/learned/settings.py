"""Settings, progress and result of one training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from batchcodec.errors import OptionError
from batchcodec.learned.networks import STRIDE


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
class TrainOptions:
    """Settings of one training run.

    Attributes:
        latent: channels of the latents (12, 24 or 32 in the paper).
        widths: channels after each stride-2 stage.
        rate_weight: weight of bits per pixel in the loss; 0 trains for reconstruction alone.
        minutes: how long to train; without it `epochs` decides.
        epochs: passes over the training images.
        batch: images of one step.
        crop: side of the random square that is trained on, in pixels, for images larger than it.
        learning_rate: at its highest.
        validation: part of the images that is held out, at most 1,000 of them.
        seed: of initial weights, split, crops and noise.
        device: "auto", "cpu" or "cuda".
        threads: of the CPU; 0 measures whether one or all train faster.
    """

    latent: int = 12
    widths: tuple[int, int, int] = (32, 64, 128)
    rate_weight: float = 2.5
    minutes: float | None = None
    epochs: float = 20
    batch: int = 16
    crop: int = 64
    learning_rate: float = 2e-3
    validation: float = 0.05
    seed: int = 0
    device: str = "auto"
    threads: int = 0

    def __post_init__(self) -> None:
        bounds = {
            "latent": (1, 512),
            "batch": (1, 4096),
            "crop": (STRIDE, 4096),
            "rate_weight": (0, 1e6),
            "learning_rate": (1e-7, 1),
            "validation": (0.001, 0.5),
            "epochs": (1e-6, 1e6),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise OptionError(name.replace("_", "-"), getattr(self, name), f"a number from {low} to {high}")
        if self.minutes is not None and not 0 < self.minutes <= 1e6:
            raise OptionError("minutes", self.minutes, "a positive number")
        if self.crop % STRIDE:
            raise OptionError("crop", self.crop, f"a multiple of {STRIDE}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise OptionError("device", self.device, "auto, cpu or cuda")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise OptionError("device", self.device, "cpu: torch finds no CUDA device here")


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
    """What a run gave. `log` has one row for each validation: step, seconds, loss, psnr, bits_per_pixel."""

    path: Path
    options: TrainOptions
    steps: int = 0
    seconds: float = 0.0
    psnr: float = math.nan
    bits_per_pixel: float = math.nan
    n_train: int = 0
    n_validation: int = 0
    interrupted: bool = False
    model_bytes: int = 0
    log: list[dict[str, float]] = field(default_factory=list)
