"""One training run of `hyperprior-1`: data, optimiser, average of the weights, checkpoints, and the model file at the end.

All state is in a checkpoint that a later run resumes from, on another day or another machine. The weights are averaged (EMA)
and the average is what is validated and kept. The learning rate warms up, stays, and falls to zero over the
second half; the last bit of exactness (float32 in all layers) is trained in the last 15 %.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from batchcodec.atomic import write_atomically
from batchcodec.errors import InputError, ModelError, OptionError
from batchcodec.learned import model_file
from batchcodec.learned.data import random_crop
from batchcodec.learned.exact import numerics
from batchcodec.learned.hyperprior import coding, tables
from batchcodec.learned.hyperprior import model as models
from batchcodec.learned.hyperprior.architecture import Architecture
from batchcodec.learned.hyperprior.codec import synthesised
from batchcodec.learned.hyperprior.quantising import analysed, hyper_analysed, quantised
from batchcodec.learned.hyperprior.training import Cost, Model
from batchcodec.types import Pixels

LARGE_CROP = 192
MEASURED_PIXELS = 12_000_000
"""That tables and typical errors are counted on, at most."""
VALIDATION_QUALITIES = (10, 40, 70, 95)
WARM_UP = 200
"""Steps."""
CHECKED_STEPS = 250
"""Between two looks at whether training ran away."""
CHECKPOINT_SECONDS = 120
RATES = {"prior.": 3.0, "decoder.log_steps": 3.0, "encoder.linear.": 0.1, "decoder.linear.": 0.1}
"""Parts whose learning rate is another, and how many times the others'. The linear paths take gray levels and latents as they
are, hundreds of units: what is a small step elsewhere moves a latent by several quantiser steps there."""


@dataclass(frozen=True)
class Settings:
    """Of one run.

    Attributes:
        minutes: how long to train, in all sessions together.
        batch: crops of one step.
        crop: side of the random squares, in pixels.
        learning_rate: at its highest.
        coarsest, finest: quantiser steps at quality 1 and 100, in gray levels.
        qualities: the range that is trained for.
        flip: mirror crops at random.
        validation: images that are held out, at most.
        seed: of weights, crops and noise.
        threads: of the CPU, each for a part of the batch; with one, the same seed gives the same weights on one machine.
        weight_limit: largest weight of the decoder in its steps, at most 127: fewer levels are coarser, and weigh less.
        device: "auto" (CUDA where torch finds it), "cpu" or "cuda".
        bfloat16: whether wide layers run in bfloat16 for the first 85 %.
    """

    minutes: float = 10.0
    batch: int = 16
    crop: int = 64
    learning_rate: float = 2e-3
    coarsest: float = 144.0
    finest: float = 8.0
    qualities: tuple[int, int] = (1, 100)
    flip: bool = False
    validation: int = 128
    seed: int = 0
    threads: int = 1
    weight_limit: int = 127
    device: str = "auto"
    bfloat16: bool = True

    def __post_init__(self) -> None:
        bounds = {
            "minutes": (0.0, 1e6),
            "batch": (1, 4096),
            "crop": (8, 4096),
            "learning_rate": (1e-7, 1.0),
            "coarsest": (1.0, 1023.0),
            "finest": (1.0, self.coarsest),
            "threads": (1, 1024),
            "weight_limit": (1, 127),
            "validation": (1, 1 << 30),
            "seed": (0, 1 << 32),
        }
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise OptionError(name.replace("_", "-"), getattr(self, name), f"a number from {low} to {high}")
        if self.device not in ("auto", "cpu", "cuda"):
            raise OptionError("device", self.device, "auto, cpu or cuda")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise OptionError("device", self.device, "cpu: torch finds no CUDA device here")
        if not 1 <= self.qualities[0] <= self.qualities[1] <= 100:
            raise OptionError("qualities", self.qualities, "two numbers from 1 to 100")


@dataclass(frozen=True)
class Status:
    """Where training is: `done` from 0 to 1; `log` has one row for each validation."""

    done: float
    step: int
    loss: float
    log: list[dict[str, Any]]


class Trainer:
    """A run over images in memory.

    Args:
        images: uint8 [H, W, C] each, all of one number of channels.
        arch: of the model that is trained from its linear start.
        settings: of the run.
        encoder: widths of the encoder, see `network.Encoder`.
        start: a model to go on from instead of the linear start; its architecture and encoder are then used.
        exact: False trains a float network, for the ablation.
    """

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
        channels = {image.shape[2] for image in images}
        if len(channels) != 1 or any(image.dtype != np.uint8 for image in images):
            raise InputError("training images", "they must all be 8-bit and of one number of channels; use --mode gray or rgb")
        arch = start.arch if start else arch or Architecture(channels=channels.pop())
        if arch.channels != images[0].shape[2]:
            raise InputError("training images", f"they have {images[0].shape[2]} channels, the model {arch.channels}")
        if len(images) < 2:
            raise InputError("training images", "at least 2 are needed, one to train on and one to validate with")
        self.settings, self.arch = settings, arch
        order = np.random.default_rng(settings.seed).permutation(len(images))
        n_validation = min(settings.validation, max(1, len(images) // 10))
        self.validation = [images[i] for i in order[:n_validation]]
        self.images = [images[i] for i in order[n_validation:]]
        largest = max(max(image.shape[:2]) for image in self.images[:1000])
        if settings.crop % arch.stride:
            raise OptionError("crop", settings.crop, f"a multiple of {arch.stride}")
        self.crop = min(settings.crop, -(-largest // arch.stride) * arch.stride)
        torch.manual_seed(settings.seed)
        if start:
            self.model = loaded_for_training(start)
        else:
            self.model = Model(arch, exact=exact, **(encoder or {}))
            self.model.start_linear(self.images, settings.coarsest, settings.finest, seed=settings.seed)
        for _, layer in models.exact_layers(self.model.decoder):
            layer.weight_limit = settings.weight_limit
        found = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(found if settings.device == "auto" else settings.device)
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).eval()
        groups: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                factor = next((f for part, f in RATES.items() if name.startswith(part)), 1.0)
                groups.setdefault(factor, []).append(parameter)
        self.optimiser = torch.optim.Adam([{"params": p, "factor": f} for f, p in groups.items()], lr=settings.learning_rate)
        self._parameters = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        self.random = np.random.default_rng(settings.seed + 1)
        self.step, self.seconds = 0, 0.0
        self.started_at = 0
        """The step that this run began with, which may go on from an earlier one."""
        self.skipped = 0
        """Steps without a finite gradient since the last look."""
        self.log: list[dict[str, Any]] = []
        self.caution = 1.0  # factor of the learning rate, lowered whenever training ran away
        self.best_loss = float("inf")
        self.good: tuple[dict[str, Any], ...] | None = None

    @property
    def done(self) -> float:
        """Part of the run, from 0 to 1."""
        return min(1.0, self.seconds / max(1e-9, 60 * self.settings.minutes))

    def batch(self) -> Tensor:
        """Random crops, gray levels, float32 [B, C, crop, crop]."""
        picks = self.random.integers(len(self.images), size=self.settings.batch)
        stack = np.stack([random_crop(self.images[i], self.crop, self.random) for i in picks])
        if self.settings.flip and self.random.integers(2):
            stack = stack[:, :, ::-1].copy()
        return self._gray_levels(stack)

    def _gray_levels(self, stack: Pixels) -> Tensor:
        x = torch.from_numpy(stack).to(self.device).permute(0, 3, 1, 2).float()
        return x.contiguous(memory_format=torch.channels_last)

    def train_step(self) -> float:
        """One step; its loss."""
        warm_up = (self.step - self.started_at + 1) / WARM_UP  # also for a run that goes on, after rates near zero
        rate = self.caution * self.settings.learning_rate * min(1.0, warm_up, 2 * (1 - self.done)) + 1e-6
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        self.model.use_low_precision(self.settings.bfloat16 and self.done < 0.85)
        low, high = self.settings.qualities
        quality = low - 1 + torch.rand(self.settings.batch, device=self.device) * (high - low)
        loss = self._gradients(self.batch(), quality)
        norm = torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self.step += 1
        if not torch.isfinite(norm):  # one bad batch must not spoil all weights
            self.skipped += 1
            return loss
        self.optimiser.step()
        decay = min(0.999, self.step / (self.step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), 1 - decay)
        return loss

    def _gradients(self, x: Tensor, quality: Tensor) -> float:
        """Set the gradients of the loss, which is returned.

        Each thread takes a part of the batch through the whole network. That scales; threads within a layer hardly do,
        since layers are small and wait for each other.
        """
        n_parts = min(self.settings.threads, len(x)) if self.device.type == "cpu" else 1

        def part(i: int) -> tuple[float, tuple[Tensor | None, ...]]:
            torch.set_num_threads(1)
            rows = slice(len(x) * i // n_parts, len(x) * (i + 1) // n_parts)
            share = (rows.stop - rows.start) / len(x)
            loss = self.model.loss(self.model(x[rows], quality[rows]), quality[rows]) * share
            return float(loss.detach()), torch.autograd.grad(loss, self._parameters, allow_unused=True)

        if n_parts > 1:
            with ThreadPoolExecutor(n_parts) as pool:
                parts = list(pool.map(part, range(n_parts)))
        else:
            parts = [part(0)]
        for parameter, *grads in zip(self._parameters, *(grads for _, grads in parts), strict=True):
            found = [grad for grad in grads if grad is not None]
            parameter.grad = sum(found[1:], found[0]) if found else None
        return sum(loss for loss, _ in parts)

    @torch.no_grad()
    def validate(self) -> dict[str, Any]:
        """Estimated bits per pixel and mean PSNR at some qualities, of the averaged weights on the held-out images."""
        row: dict[str, Any] = {"step": self.step, "seconds": round(self.seconds), "points": []}
        rng = np.random.default_rng(0)
        side = min(128, -(-max(max(v.shape[:2]) for v in self.validation) // self.arch.stride) * self.arch.stride)
        stack = np.stack([random_crop(image, side, rng) for image in self.validation])
        for number in VALIDATION_QUALITIES:
            rates, psnrs = [], []
            for at in range(0, len(stack), 32):
                cost = self.cost_of(stack[at : at + 32], number)
                rates.append(cost.bits_per_pixel)
                psnrs.append(10 * torch.log10(255**2 / cost.mse.clamp_min(1e-2)))
            rate, psnr = float(torch.cat(rates).mean()), float(torch.cat(psnrs).mean())
            row["points"].append({"quality": number, "bits_per_pixel": round(rate, 4), "psnr": round(psnr, 2)})
        self.log.append(row)
        return row

    @torch.no_grad()
    def cost_of(self, images: Pixels, quality: int) -> Cost:
        """What the averaged weights make of uint8 [N, side, side, C] at a quality 1..100."""
        x = self._gray_levels(images)
        cost: Cost = self.average(x, torch.full((len(x),), quality - 1.0, device=self.device), noise=False)
        return Cost(cost.bits_per_pixel.cpu(), cost.mse.cpu())

    def run(
        self,
        checkpoint: Path | None = None,
        progress: Callable[[Status], None] | None = None,
        *,
        validate_every: float = 300.0,
        until: float = 1.0,
    ) -> None:
        """Train until the time, or this part of it, is up; a KeyboardInterrupt leaves a checkpoint behind."""
        earlier, started = self.seconds, time.monotonic()
        last_checkpoint = last_validation = last_progress = started
        loss = float("nan")
        with numerics():
            try:
                while self.done < until:
                    value = self.train_step()
                    if math.isfinite(value):  # else the batch was skipped
                        loss = value if loss != loss else 0.98 * loss + 0.02 * value
                    if self.step % CHECKED_STEPS == 0:
                        loss = self.go_back_if_lost(loss)
                    now = time.monotonic()
                    self.seconds = earlier + now - started
                    if now - last_validation > validate_every:
                        self.validate()
                        last_validation = now
                    if checkpoint and now - last_checkpoint > CHECKPOINT_SECONDS:
                        self.save(checkpoint)
                        last_checkpoint = now
                    if progress and now - last_progress > 0.2:
                        progress(Status(self.done, self.step, loss, self.log))
                        last_progress = now
            finally:
                if checkpoint:
                    self.save(checkpoint)
            if until >= 1:
                self.validate()

    def go_back_if_lost(self, loss: float) -> float:
        """Remember the state where the loss is sound; else go back to the last that was, and more slowly."""
        parts: tuple[Any, ...] = (self.model, self.average, self.optimiser)
        stuck = self.skipped > CHECKED_STEPS // 2  # where no gradient is finite, weights stay and nothing leads away
        self.skipped = 0
        if loss < 1.5 * self.best_loss and not stuck:
            self.best_loss = min(self.best_loss, loss)
            self.good = tuple(copy.deepcopy(part.state_dict()) for part in parts)
        elif self.good and (stuck or not loss < 2 * self.best_loss):
            for part, state in zip(parts, copy.deepcopy(self.good), strict=True):
                part.load_state_dict(state)
            self.caution *= 0.7
            self.started_at = self.step
            self.log.append({"step": self.step, "seconds": round(self.seconds), "went_back": "stuck" if stuck else loss})
            return self.best_loss
        return loss

    # ---- files

    def save(self, path: Path) -> None:
        """All state, as one safetensors file."""
        tensors = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            tensors |= {f"adam.{key}.{name}": value for key, value in self.optimiser.state.get(parameter, {}).items()}
        document = {
            "checkpoint": models.CODEC_ID,
            "settings": asdict(self.settings),
            "arch": self.arch.to_json(),
            "step": self.step,
            "seconds": self.seconds,
            "caution": self.caution,
            "log": self.log,
            "random": self.random.bit_generator.state,
        }
        write_atomically(path, model_file.dump({k: v.detach().cpu().numpy() for k, v in tensors.items()}, document))

    def load(self, path: Path) -> None:
        """Go on where a run of the same architecture stopped.

        Raises:
            ModelError: it is no checkpoint of such a run.
        """
        tensors, document = model_file.parse(model_file.read(path))
        if document.get("checkpoint") != models.CODEC_ID or document.get("arch") != self.arch.to_json():
            raise ModelError(f"checkpoint {path}: of another architecture", path=path)

        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: torch.from_numpy(v.copy()) for k, v in tensors.items() if k.startswith(prefix)}

        try:
            self.model.load_state_dict(part("model."))
            self.average.load_state_dict(part("average."))
            parameters = dict(self.model.named_parameters())
            for key, tensor in part("adam.").items():
                kind, name = key.split(".", 1)
                self.optimiser.state[parameters[name]][kind] = tensor if kind == "step" else tensor.to(self.device)
            self.random.bit_generator.state = document["random"]
            self.step, self.seconds, self.log = int(document["step"]), float(document["seconds"]), list(document["log"])
            self.caution = float(document.get("caution", 1.0))
        except (KeyError, ValueError, TypeError, RuntimeError) as exc:
            raise ModelError(f"checkpoint {path}: {exc}", path=path) from exc
        self.started_at = self.step
        torch.manual_seed(self.settings.seed + self.step)

    def release(self, **extra: Any) -> bytes:
        """The model file: integers of the averaged decoder, float16 encoder, tables counted on the training images."""
        nominal = cast(Tensor, self.average.nominal).tolist()
        document = {
            "nominal": nominal,
            "training": {
                "settings": asdict(self.settings),
                "steps": self.step,
                "n_train": len(self.images),
                "log": self.log[-1:],
            },
            **extra,
        }
        average = self.average.cpu()
        untrained = {**tables.hyper_tables(np.zeros((1, self.arch.hyper), np.int64))}
        first = models.dump(average.decoder, average.encoder, untrained, document)
        counted, typical = measured(models.LoadedModel(first), self.images, self.crop, self.settings)
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
            conditions = coding.Conditions.of(model.decoder, qualities)
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
