"""Fit the codec to a dataset: the model that makes payload and weights together smallest.

Candidates are the shipped model fine-tuned, and decoders of the smaller profiles trained from their linear start, whose
weights weigh less. Those whose weights alone are not hopeless for this dataset are tried for a short time each; the most
promising one gets the rest of the time. At the end it is compared with the shipped model as it is, on images that were held
out: the better one is kept, so fitting never makes the archive larger, as far as the held-out images can tell.

Models are compared by their cost in bits over the whole dataset, which makes a smaller error as good as the bits it is worth:

    8 * weight bytes + n_pixels * (bits per pixel + worth * squared error per pixel)
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from batchcodec.errors import InputError, OptionError
from batchcodec.learned.exact import numerics
from batchcodec.learned.hyperprior.architecture import profile
from batchcodec.learned.hyperprior.codec import synthesised
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.quantising import analysed, hyper_analysed, quantised
from batchcodec.learned.hyperprior.trainer import Settings, Trainer
from batchcodec.learned.hyperprior.training import KAPPA
from batchcodec.types import Pixels

TRIAL = 0.08
"""Part of the time that each candidate is tried for."""
FOCUS = 30
"""Qualities on each side of the one asked for that are trained for."""
LEAN = 31
"""Largest weight of decoders trained from their start: 6 bits in place of 8, since weights are most of a small archive."""
HELD_OUT = 256
"""Crops on which models are compared, at most."""


@dataclass(frozen=True)
class FitOptions:
    """Settings of a fit.

    Attributes:
        seconds: for all of it.
        quality: that the archive will be packed with.
        threads: of the CPU; 0 takes all cores.
        seed: of weights, crops and noise.
    """

    seconds: float
    quality: int = 50
    threads: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.seconds <= 1e7:
            raise OptionError("fit", self.seconds, "a time of at least 1 second, such as 90s, 5m or 2h")


@dataclass(frozen=True)
class Candidate:
    """What a model would come to over the whole dataset, going by the held-out images.

    Attributes:
        name: of the model.
        weight_bytes: that an archive stores.
        payload_bytes: estimated.
        psnr: mean of the held-out crops, dB.
        squared_error: estimated, of all samples of the dataset, in gray levels.
    """

    name: str
    weight_bytes: int
    payload_bytes: int
    psnr: float
    squared_error: float

    def cost(self, worth: float) -> float:
        """Bits, with a squared gray level worth so many."""
        return 8.0 * (self.weight_bytes + self.payload_bytes) + worth * self.squared_error


@dataclass(frozen=True)
class FitReport:
    """What a fit gave.

    Attributes:
        model: the model file to pack with; None if a rival that needs none is better.
        chosen: name of the candidate that was kept.
        reason: why, in a sentence.
        candidates: all that were compared.
    """

    model: bytes | None
    chosen: str
    reason: str
    candidates: list[Candidate]


def fit(
    images: Sequence[Pixels],
    options: FitOptions,
    *,
    n_pixels: int,
    start: bytes | None,
    rivals: Sequence[Candidate] = (),
    progress: Callable[[str, float], None] | None = None,
) -> FitReport:
    """Fit a model to images of one number of channels.

    Args:
        images: uint8 [H, W, C], a sample of the dataset or all of it.
        options: settings.
        n_pixels: of the whole dataset, what the weights are weighed against.
        start: the shipped model file for such images, None if there is none.
        rivals: what codecs without a model come to, measured by the caller.
        progress: called with a short text and the part that is done.

    Raises:
        InputError: images that it cannot train on.
    """
    threads = options.threads or os.cpu_count() or 1
    low, high = max(1, options.quality - FOCUS), min(100, options.quality + FOCUS)
    settings = Settings(
        minutes=options.seconds / 60,
        threads=threads,
        seed=options.seed,
        qualities=(low, high),
        coarsest=120,
        finest=8,
        learning_rate=1.5e-3,
        flip=False,
        validation=HELD_OUT,
    )
    shipped = LoadedModel(start) if start else None
    if shipped and len(images) and images[0].shape[2] != shipped.arch.channels:
        found, other = images[0].shape[2], shipped.arch.channels
        raise InputError(
            "training images", f"they have {found} channels, the model {other}: leave the model out to fit one to them"
        )
    trainers = _candidates(images, settings, shipped, n_pixels)
    held_out = _held_out(next(iter(trainers.values())))
    trial = TRIAL if len(trainers) > 1 else 0.0
    rest = 1 - trial * len(trainers)
    costs = {}
    for i, (name, trainer) in enumerate(trainers.items()):
        if trial:
            _train(trainer, trial, progress, f"trying {name}", i * trial)
        costs[name] = _trial_cost(trainer, held_out, options.quality, n_pixels)
    best = min(costs, key=lambda name: costs[name])
    winner = trainers[best]
    # what trials of others took is taken from this one's time
    winner.settings = replace(winner.settings, minutes=options.seconds / 60 * (trial + rest))
    _train(winner, 1.0, progress, f"training {best}", trial * len(trainers), scale=rest)
    fitted = winner.release(name=f"fitted-{best}")
    candidates = [measure(f"fitted {best}", LoadedModel(fitted), held_out, options.quality, n_pixels)]
    blobs: list[bytes | None] = [fitted]
    if start and shipped:
        name = str(shipped.document.get("name", "shipped"))
        candidates.append(measure(name, shipped, held_out, options.quality, n_pixels))
        blobs.append(start)
    candidates += rivals
    blobs += [None] * len(rivals)
    quality = torch.tensor([options.quality - 1.0])  # `release` has brought the average to the CPU
    worth = KAPPA / float(winner.average.nominal_step(quality)[0]) ** 2
    chosen = int(np.argmin([candidate.cost(worth) for candidate in candidates]))
    return FitReport(blobs[chosen], candidates[chosen].name, _reason(candidates, chosen, worth), candidates)


def _candidates(images: Sequence[Pixels], settings: Settings, shipped: LoadedModel | None, n_pixels: int) -> dict[str, Trainer]:
    """Trainers by name, without those whose weights would outweigh all else."""
    channels = images[0].shape[2]
    trainers: dict[str, Trainer] = {}
    likely_bytes = n_pixels * 0.5 / 8  # half a bit per pixel
    if shipped and len(shipped.without_encoder()) < likely_bytes:
        trainers["shipped"] = Trainer(images, replace(settings, learning_rate=1e-3), start=shipped)
    for name in ("balanced", "fast"):
        arch, encoder = profile(name, channels)
        trainer = Trainer(images, replace(settings, weight_limit=LEAN), arch=arch, encoder=encoder)
        n_weights = sum(parameter.numel() for parameter in trainer.model.decoder.parameters())
        if name == "fast" or n_weights < likely_bytes:
            trainers[name] = trainer
    return dict(list(trainers.items())[:2])  # a third would take time from the others


def _train(
    trainer: Trainer, until: float, progress: Callable[[str, float], None] | None, text: str, done: float, scale: float = 1.0
) -> None:
    start = trainer.done

    def show(part: float) -> None:
        if progress:
            progress(text, done + scale * (part - start) / max(1e-9, 1 - start if scale < 1 else 1))

    trainer.run(progress=lambda status: show(status.done), until=until, validate_every=math.inf)


def _held_out(trainer: Trainer) -> Pixels:
    """Crops of the images that no candidate trains on, uint8 [N, side, side, C]."""
    return trainer.data.held_out()


def _trial_cost(trainer: Trainer, held_out: Pixels, quality: int, n_pixels: int) -> float:
    """Cost of a candidate after its trial, from estimated bits and a byte for each weight."""
    n_weights = sum(parameter.numel() for parameter in trainer.model.decoder.parameters())
    bits, error = [], []
    with numerics(), torch.no_grad():
        for at in range(0, len(held_out), 32):
            cost = trainer.cost_of(held_out[at : at + 32], quality)
            bits.append(cost.bits_per_pixel)
            error.append(cost.mse * trainer.arch.channels)
        step = trainer.average.nominal_step(torch.tensor([quality - 1.0], device=trainer.device))
    per_pixel = torch.cat(bits).mean() + KAPPA / step[0] ** 2 * torch.cat(error).mean()
    return 8.0 * n_weights + n_pixels * float(per_pixel)


def measure(name: str, model: LoadedModel, held_out: Pixels, quality: int, n_pixels: int) -> Candidate:
    """What a model comes to, from the integers that it really codes."""
    bits, error, psnr = [], [], []
    side = held_out.shape[1]
    with numerics(), torch.no_grad():
        for at in range(0, len(held_out), 32):
            images = held_out[at : at + 32]
            qualities = np.full(len(images), quality, np.uint8)
            conditions = model.conditions(qualities)
            y = analysed(model, images)
            integers = quantised(model, conditions, y, hyper_analysed(model, y, conditions), None)
            decoded = synthesised(model, integers.latents, conditions)[:, :side, :side]
            squared = (decoded.astype(np.float64) - images) ** 2
            bits.append(integers.bits(model) / side**2)
            error.append(squared.sum(3).mean((1, 2)))
            psnr.append(10 * np.log10(255**2 / np.maximum(squared.mean((1, 2, 3)), 0.01)))
    rate = float(np.concatenate(bits).mean())
    squared_error = n_pixels * float(np.concatenate(error).mean())
    weight_bytes = len(model.without_encoder())
    return Candidate(name, weight_bytes, round(n_pixels * rate / 8), float(np.concatenate(psnr).mean()), squared_error)


def _reason(candidates: list[Candidate], chosen: int, worth: float) -> str:
    best = candidates[chosen]
    text = f"{best.name}: about {best.payload_bytes:,} bytes and {best.weight_bytes:,} of weights at {best.psnr:.2f} dB"
    for other in (c for i, c in enumerate(candidates) if i != chosen):
        text += (
            f"; {other.name}: {other.payload_bytes:,} and {other.weight_bytes:,} at {other.psnr:.2f} dB, "
            f"{100 * (other.cost(worth) / best.cost(worth) - 1):.1f} % more in all, errors counted"
        )
    return text
