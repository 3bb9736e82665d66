"""One training run of `hyperprior-1`: what `loop.Trainer` needs of it, and the model file at the end.

The learning rate stays, and falls to zero over the second half; the last bit of exactness (float32 in all layers) is trained
in the last 15 %.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from batchcodec.errors import InputError, ModelError, OptionError
from batchcodec.learned import loop
from batchcodec.learned.data import Crops, random_crop
from batchcodec.learned.exact import numerics
from batchcodec.learned.hyperprior import model as models
from batchcodec.learned.hyperprior import tables
from batchcodec.learned.hyperprior.architecture import Architecture
from batchcodec.learned.hyperprior.codec import synthesised
from batchcodec.learned.hyperprior.quantising import analysed, hyper_analysed, quantised
from batchcodec.learned.hyperprior.training import Cost, Model
from batchcodec.learned.settings import RunSettings
from batchcodec.types import Pixels

LARGE_CROP = 192
MEASURED_PIXELS = 12_000_000
"""That tables and typical errors are counted on, at most."""
VALIDATION_QUALITIES = (10, 40, 70, 95)


@dataclass(frozen=True)
class Settings(RunSettings):
    """Of one run; by the clock.

    Attributes:
        coarsest, finest: quantiser steps at quality 1 and 100, in gray levels.
        qualities: the range that is trained for.
        validation: images that are held out, at most.
        threads: of the CPU, each for a part of the batch; with one, the same seed gives the same weights on one machine.
        weight_limit: largest weight of the decoder in its steps, at most 127: fewer levels are coarser, and weigh less.
        bfloat16: whether wide layers run in bfloat16 for the first 85 %.
        ms_ssim: what part of the distortion is that of MS-SSIM, 0 to 1; the rest is that of the MSE.
    """

    minutes: float = 10.0
    coarsest: float = 144.0
    finest: float = 8.0
    qualities: tuple[int, int] = (1, 100)
    validation: int = 128
    weight_limit: int = 127
    bfloat16: bool = True
    ms_ssim: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(
            {
                "coarsest": (1.0, 1023.0),
                "finest": (1.0, self.coarsest),
                "threads": (1, 1024),
                "weight_limit": (1, 127),
                "validation": (1, 1 << 30),
                "ms_ssim": (0.0, 1.0),
            }
        )
        if not 1 <= self.qualities[0] <= self.qualities[1] <= 100:
            raise OptionError("qualities", self.qualities, "two numbers from 1 to 100")


class Trainer(loop.Trainer[Settings]):
    """A run over images in memory.

    Args:
        images: uint8 [H, W, C] each, all of one number of channels.
        arch: of the model that is trained from its linear start.
        settings: of the run.
        encoder: widths of the encoder, see `network.Encoder`.
        start: a model to go on from instead of the linear start; its architecture and encoder are then used.
        exact: False trains a float network, for the ablation.
    """

    codec_id = models.CODEC_ID
    validate_seconds = 300.0
    # The linear paths take gray levels and latents as they are, hundreds of units: what is a small step elsewhere moves a
    # latent by several quantiser steps there.
    rates = {"prior.*": 3.0, "decoder.log_steps": 3.0, "encoder.linear.*": 0.1, "decoder.linear.*": 0.1}  # noqa: RUF012

    def __init__(
        self,
        images: Sequence[Pixels],
        settings: Settings,
        *,
        arch: Architecture | None = None,
        encoder: dict[str, int] | None = None,
        start: models.LoadedModel | None = None,
        exact: bool = True,
    ) -> None:
        channels = images[0].shape[2] if len(images) else 1
        arch = start.arch if start else arch or Architecture(channels=channels)
        n_validation = min(settings.validation, max(1, len(images) // 10))
        data = Crops(images, n_validation, settings.crop, arch.stride, seed=settings.seed, flip=settings.flip)
        if arch.channels != data.channels:
            raise InputError("training images", f"they have {data.channels} channels, the model {arch.channels}")
        torch.manual_seed(settings.seed)
        if start:
            model = loaded_for_training(start)
        else:
            model = Model(arch, exact=exact, **(encoder or {}))
            model.start_linear(data.train, settings.coarsest, settings.finest, seed=settings.seed)
        for _, layer in models.exact_layers(model.decoder):
            layer.weight_limit = settings.weight_limit
        model.similarity_share = settings.ms_ssim
        super().__init__(model, data, settings)
        self.model: Model
        self.average: Model
        self.arch = arch

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on."""
        return {"arch": self.arch.to_json(), "ms_ssim": self.settings.ms_ssim}

    def numerics(self) -> contextlib.AbstractContextManager[None]:
        """Those of exact networks."""
        return numerics()

    def before_step(self) -> None:
        """Narrow layers need all their bits near the end."""
        self.model.use_low_precision(self.settings.bfloat16 and self.done < 0.85)

    def draw(self, n: int) -> tuple[Tensor, ...]:
        """A quality in 0..99 for each image."""
        low, high = self.settings.qualities
        return (low - 1 + torch.rand(n, device=self.device) * (high - low),)

    def loss(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """Rate and distortion, see above."""
        (quality,) = drawn
        return self.model.loss(self.model(x, quality), quality)

    def measure(self) -> dict[str, Any]:
        """Estimated bits per pixel and mean PSNR at some qualities."""
        largest = max(max(image.shape[:2]) for image in self.data.validation)
        stack = self.data.held_out(min(128, -(-largest // self.arch.stride) * self.arch.stride))
        points, losses = [], []
        for number in VALIDATION_QUALITIES:
            parts = [self.cost_of(stack[at : at + 32], number) for at in range(0, len(stack), 32)]
            bits, mse, similarity = (
                torch.cat([getattr(part, name) for part in parts]) for name in ("bits_per_pixel", "mse", "similarity")
            )
            cost = Cost(bits, mse, similarity)
            losses.append(float(self.average.loss(cost, torch.full((len(stack),), number - 1.0, device=self.device))))
            psnr = float((10 * torch.log10(255**2 / cost.mse.clamp_min(1e-2))).mean())
            rate = float(cost.bits_per_pixel.mean())
            point = {"quality": number, "bits_per_pixel": round(rate, 4), "psnr": round(psnr, 2)}
            if self.settings.ms_ssim:
                point["ms_ssim"] = round(float(cost.similarity.mean()), 5)
            points.append(point)
        return {"loss": round(float(np.mean(losses)), 5), "points": points}

    @torch.no_grad()
    def cost_of(self, images: Pixels, quality: int) -> Cost:
        """What the averaged weights make of uint8 [N, side, side, C] at a quality 1..100."""
        x = self.gray_levels(images)
        cost: Cost = self.average(x, torch.full((len(x),), quality - 1.0, device=self.device), noise=False)
        return cost

    def release(self, **extra: Any) -> bytes:
        """The model file: integers of the averaged decoder, float16 encoder, tables counted on the training images."""
        nominal = cast(Tensor, self.average.nominal).tolist()
        document = {
            "nominal": nominal,
            "training": {
                "settings": asdict(self.settings),
                "steps": self.step,
                "n_train": len(self.data.train),
                "log": self.log[-1:],
            },
            **extra,
        }
        average = self.average.cpu()
        untrained = {**tables.hyper_tables(np.zeros((1, self.arch.hyper), np.int64))}
        first = models.dump(average.decoder, average.encoder, untrained, document)
        counted, typical = measured(models.LoadedModel(first), self.data.train, self.data.side, self.settings)
        return models.dump(average.decoder, average.encoder, counted, {**document, "typical": typical})


def loaded_for_training(start: models.LoadedModel) -> Model:
    """A trainable copy of a model file's networks."""
    encoder = start.encoder
    model = Model(start.arch, width=encoder.width, blocks=encoder.blocks, fine_width=encoder.fine_width)
    model.encoder.load_state_dict(encoder.state_dict())
    model.decoder.load_state_dict(start.decoder.state_dict())
    nominal = start.document.get("nominal")
    if not isinstance(nominal, list) or len(nominal) != start.arch.anchors:
        raise ModelError("the model does not say what its qualities were trained for, so it cannot be trained on")
    cast(Tensor, model.nominal).copy_(torch.tensor(nominal))
    return model


def measured(
    model: models.LoadedModel, images: Sequence[Pixels], crop: int, settings: Settings, n_images: int = 2000
) -> tuple[dict[str, Any], list[float]]:
    """What a trained model really does on images, over the trained qualities.

    Returns:
        Tables: counts of hyper-latents, and of integers by Gaussian scale.
        The line ln MSE = a + b ln step that fits best: [a, b].
    """
    rng = np.random.default_rng(settings.seed)
    # Errors of whole images spread less than those of small crops: what is typical is measured on larger ones.
    largest = max(max(image.shape[:2]) for image in images[:1000])
    crop = max(crop, min(LARGE_CROP, largest // model.arch.stride * model.arch.stride))
    picks = rng.permutation(len(images))[: max(64, min(n_images, MEASURED_PIXELS // crop**2))]
    hyper, numbers, scales, errors, steps = [], [], [], [], []
    with numerics(), torch.no_grad():
        for at in range(0, len(picks), 32):
            stack = np.stack([random_crop(images[i], crop, rng) for i in picks[at : at + 32]])
            qualities = rng.integers(settings.qualities[0], settings.qualities[1] + 1, len(stack)).astype(np.uint8)
            conditions = model.conditions(qualities)
            y = analysed(model, stack)
            integers = quantised(model, conditions, y, hyper_analysed(model, y, conditions), None)
            hyper.append(integers.z.reshape(-1, model.arch.hyper))
            for k, index in integers.passes:
                numbers.append(k.reshape(-1))
                scales.append((index.reshape(-1) - model.arch.hyper).astype(np.uint8))
            decoded = synthesised(model, integers.latents, conditions)[:, :crop, :crop]
            errors.append(((decoded.astype(np.float64) - stack) ** 2).mean((1, 2, 3)))
            steps.append(model.nominal_step(qualities))
    counted = {
        **tables.hyper_tables(np.concatenate(hyper)),
        **tables.scale_tables(np.concatenate(numbers).astype(np.int64), np.concatenate(scales)),
    }
    log_step, log_mse = np.log(np.concatenate(steps)), np.log(np.concatenate(errors) + 0.1)
    if np.ptp(log_step) < 0.1:  # one quality: no line
        return counted, [float(log_mse.mean() - 1.25 * log_step.mean()), 1.25]
    slope, start = np.polyfit(log_step, log_mse, 1)
    return counted, [float(start), float(slope)]
