"""Training of `balle2017-1`: rate and distortion at all qualities at once.

The loss of an image at a quality is that of the paper, bits per pixel + lambda * MSE (gray levels, squared), with a lambda that
rises from the lowest to the highest of the settings as quality does from 1 to 100. It is multiplied by (middle lambda /
lambda)^(1/2), so that the relative gain of all qualities counts about alike.

Latents get uniform noise in the rate term, and are rounded with straight-through gradients on the way to the synthesis (which
the paper gives the noise as well; Minnen & Singh 2020, arXiv 2007.08739, found the mixture better).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from batchcodec.errors import InputError, OptionError
from batchcodec.learned.balle import density
from batchcodec.learned.balle import model as models
from batchcodec.learned.balle.architecture import N_QUALITIES, Architecture
from batchcodec.learned.balle.network import UNIT, Transforms
from batchcodec.learned.balle.prior import CumulativePrior
from batchcodec.learned.data import Crops
from batchcodec.learned.devices import bfloat16_is_fast
from batchcodec.learned.loop import Trainer, thinned
from batchcodec.learned.settings import RunSettings
from batchcodec.types import Pixels

KAPPA = 6 / math.log(2)
"""Bits that an MSE of the square of a quantiser step is worth to a uniform quantiser at high rate, where MSE = step^2 / 12."""
MEASURED_PIXELS = 12_000_000
"""That the density is counted on, at most."""
FILLED_IN = 30.0
"""How many latents of the sample the trained density counts as."""
VALIDATION_QUALITIES = (10, 40, 70, 95)


@dataclass(frozen=True)
class BalleSettings(RunSettings):
    """Of one run.

    Attributes:
        lambdas: what one unit of MSE (gray levels, squared, mean over samples) is worth in bits per pixel at quality 1 and 100.
        validation: images that are held out, at most a tenth of them.
    """

    learning_rate: float = 4e-4
    lambdas: tuple[float, float] = (0.0016, 0.04)
    validation: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.lambdas
        if not 1e-6 <= low < high <= 10:
            raise OptionError("lambda", f"{low},{high}", "two rising numbers from 0.000001 to 10")
        if not 1 <= self.validation <= 1 << 20:
            raise OptionError("validation", self.validation, "a number of images from 1")

    def held_out(self, n_images: int) -> int:
        """How many of so many images are held out."""
        return min(self.validation, max(1, n_images // 10))


class Model(nn.Module):
    """All that is trained."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.transforms = Transforms(arch)
        self.prior = CumulativePrior(arch.latent)

    def start_linear(self, images: Sequence[Pixels], lambdas: tuple[float, float], seed: int) -> None:
        """The linear start, with the quantiser steps that fit these lambdas, and priors as wide as its latents."""
        transforms = self.transforms
        coarsest, finest = (math.sqrt(KAPPA * transforms.arch.channels / value) for value in lambdas)
        transforms.start_linear(images, coarsest, finest, seed=seed)
        rng = np.random.default_rng(seed)
        side = 4 * transforms.arch.stride
        crops = Crops.squares([images[i] for i in rng.integers(len(images), size=64)], side, rng)
        with torch.no_grad():
            y = transforms.analysed(torch.from_numpy(crops).permute(0, 3, 1, 2).float())
            cast(Tensor, self.prior.scale).copy_(y.std((0, 2, 3)).clamp_min(finest / UNIT / 4))


class BalleTrainer(Trainer[BalleSettings]):
    """A run over images in memory.

    Args:
        images: uint8 [H, W, C] each, all of one number of channels.
        settings: of the run.
        arch: of the networks; its channels are those of the images.
    """

    codec_id = "balle2017-1"
    # Measured on photographs: a normalisation that must become one of its own is slow at the rate that convolutions stand.
    rates = {"prior.*": 6.0, "transforms.log_*": 6.0, "*.beta": 12.0, "*.gamma": 12.0}  # noqa: RUF012

    def __init__(self, images: Sequence[Pixels], settings: BalleSettings, arch: Architecture) -> None:
        data = Crops(images, settings.held_out(len(images)), settings.crop, arch.stride, seed=settings.seed, flip=settings.flip)
        if arch.channels != data.channels:
            raise InputError("training images", f"they have {data.channels} channels, the model {arch.channels}")
        torch.manual_seed(settings.seed)
        model = Model(arch)
        model.start_linear(data.train, settings.lambdas, settings.seed)
        super().__init__(model, data, settings)
        self.arch = arch

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on."""
        return {"arch": self.arch.to_json(), "lambdas": list(self.settings.lambdas)}

    def draw(self, n: int) -> tuple[Tensor, ...]:
        """A quality in 0..99 for each image."""
        return (torch.rand(n, device=self.device) * (N_QUALITIES - 1),)

    def weights(self, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Lambda of qualities [N] in 0..99, and the factor of the loss, [N] each."""
        low, high = (math.log(value) for value in self.settings.lambdas)
        log = low + (high - low) * quality / (N_QUALITIES - 1)
        return torch.exp(log), torch.exp(((low + high) / 2 - log) / 2)

    def loss(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """Rate and distortion, see above."""
        (quality,) = drawn
        bits, error = self.cost(cast(Model, self.model), x, quality, noise=True)
        worth, factor = self.weights(quality)
        return (factor * (bits + worth * error)).mean()

    def cost(self, model: Model, x: Tensor, quality: Tensor, *, noise: bool) -> tuple[Tensor, Tensor]:
        """Bits per pixel and MSE (gray levels, squared) of each image, [N] each, at qualities [N] in 0..99."""
        transforms = model.transforms
        gain, step = transforms.gain(quality), transforms.step(quality)
        low_precision = noise and self.done < 0.9 and bfloat16_is_fast(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low_precision):
            y = transforms.analysed(x).float()
            scaled = y * gain
            rounded = scaled + (torch.round(scaled) - scaled).detach()
            decoded = transforms.synthesised(rounded * step)
        coded = scaled + torch.rand_like(scaled) - 0.5 if noise else rounded
        bits = model.prior.bits(coded / gain, 1 / gain).sum((1, 2, 3)) / (x.shape[2] * x.shape[3])
        if not noise:
            decoded = torch.round(decoded).clamp(0, 255)
        return bits, ((decoded - x) ** 2).mean((1, 2, 3))

    def measure(self) -> dict[str, Any]:
        """Estimated bits per pixel and mean PSNR at some qualities."""
        stack = self.data.held_out(min(self.data.side, 256))
        points, losses = [], []
        for number in VALIDATION_QUALITIES:
            rates, errors = [], []
            quality = torch.tensor([number - 1.0], device=self.device)
            for at in range(0, len(stack), 32):
                x = self.gray_levels(stack[at : at + 32])
                bits, error = self.cost(cast(Model, self.average), x, quality.expand(len(x)), noise=False)
                rates.append(bits)
                errors.append(error)
            bits, error = torch.cat(rates), torch.cat(errors)
            worth, factor = self.weights(quality)
            losses.append(float((factor * (bits + worth * error)).mean()))
            psnr = 10 * torch.log10(255**2 / error.clamp_min(1e-2))
            points.append(
                {"quality": number, "bits_per_pixel": round(float(bits.mean()), 4), "psnr": round(float(psnr.mean()), 2)}
            )
        return {"loss": round(float(np.mean(losses)), 5), "points": points}

    def release(self, **extra: Any) -> bytes:
        """The model file of the averaged weights."""
        self.take_best()
        average = cast(Model, self.average).cpu()
        transforms = models.rounded(average.transforms)
        masses, widths = measured(transforms, average.prior, self.data, self.settings.seed)
        training = {
            "settings": asdict(self.settings),
            "n_train": len(self.data.train),
            "n_validation": len(self.data.validation),
            "steps": self.step,
            "seconds": round(self.seconds, 1),
            "log": thinned(self.log),
        }
        return models.dump(transforms, masses, widths, training=training, **extra)


@torch.no_grad()
def measured(
    transforms: Transforms, prior: CumulativePrior, data: Crops, seed: int
) -> tuple[density.Masses, npt.NDArray[np.uint16]]:
    """The integer density of the latents of training images, by these very weights.

    Where few latents of the sample fell, the trained density fills in.
    """
    side = max(data.side, 4 * transforms.arch.stride)
    parts = []
    for stack in np.array_split(data.sample(max(1, MEASURED_PIXELS // side**2), seed=seed, side=side), 64):
        if len(stack):
            y = transforms.analysed(torch.from_numpy(stack).permute(0, 3, 1, 2).float())
            parts.append(y.transpose(0, 1).flatten(1).numpy())  # [M, n]
    values = np.concatenate(parts, 1)
    qualities = torch.arange(float(N_QUALITIES))
    widths = 1 / transforms.gain(qualities)[:, :, 0, 0].double().numpy()  # [100, M]
    cell, counts = density.histogram(values, widths.min(0))
    ends = (torch.arange(density.CELLS + 1) - density.CELLS // 2) * torch.from_numpy(cell).float()[:, None]
    trained = torch.sigmoid(prior.logits(ends).double()).diff(dim=1).clamp_min(0).numpy()  # [M, CELLS]
    return density.to_masses(counts + FILLED_IN * trained), density.to_widths(widths, cell)
