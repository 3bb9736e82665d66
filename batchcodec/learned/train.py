"""Training of `autoencoder-1`.

The loss is the paper's (reconstruction error), taken as the logarithm of each image's mean squared error so that it serves the
mean PSNR, plus `rate_weight` times the estimated bits per pixel:

    loss = mean over images of ln(MSE + 0.1) + rate_weight * bits per pixel        (MSE in steps of 1/255, squared)

`rate_weight=0` trains for reconstruction alone, as the paper does. With a rate, latents are rounded to integers with
straight-through gradients on the way to the decoder, and get uniform noise in the rate term (Balle et al. 2017, section 3).

Weights are averaged (EMA) and the average is what is validated and kept. The learning rate warms up, then falls to zero along
a cosine over the whole time or number of epochs. All state is in the checkpoint beside the model (`MODEL.checkpoint`), also
safetensors, so that `resume` goes on where it stopped.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from batchcodec.atomic import write_atomically
from batchcodec.entropy.tables import quantise_counts
from batchcodec.errors import InputError, ModelError
from batchcodec.learned import model_file
from batchcodec.learned.data import random_crop
from batchcodec.learned.networks import STRIDE, Autoencoder, FactorizedPrior
from batchcodec.learned.quantiser import LEVELS, Quantiser
from batchcodec.learned.settings import TrainOptions, TrainReport, TrainStatus
from batchcodec.types import Pixels

CALIBRATION_IMAGES = 20_000
"""Most images whose latents set the ranges and tables."""

LOGGED = 60
"""Most rows of the log that are kept in a model file."""


class _Run:
    """One training run: networks, optimiser, data and the best weights so far."""

    def __init__(self, images: Sequence[Pixels], options: TrainOptions) -> None:
        self.options = options
        self.device = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
        )
        channels = {image.shape[2] for image in images}
        if len(channels) != 1 or not channels <= {1, 3}:
            raise InputError("training images", "they must all be gray or all be RGB; use --mode gray or --mode rgb")
        if any(image.dtype != np.uint8 for image in images):
            raise InputError("training images", "autoencoder-1 takes 8-bit images")
        self.channels = channels.pop()
        # Images all smaller than the crop are not filled up further than the network's stride asks for.
        largest = max(max(image.shape[:2]) for image in images)
        self.crop = min(options.crop, -(-largest // STRIDE) * STRIDE)
        order = np.random.default_rng(options.seed).permutation(len(images))
        n_validation = min(1000, max(1, round(len(images) * options.validation)))
        if len(images) < 2:
            raise InputError("training images", "at least 2 are needed, one to train on and one to validate with")
        self.validation = [images[i] for i in order[:n_validation]]
        self.train = [images[i] for i in order[n_validation:]]

        torch.manual_seed(options.seed)
        self.net = Autoencoder(self.channels, options.latent, options.widths).to(self.device)
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.prior = FactorizedPrior(options.latent).to(self.device)
        self.average = copy.deepcopy(self.net).eval()
        self.best: dict[str, Tensor] = {}
        self.best_cost = math.inf
        self.optimiser = torch.optim.Adam(
            [
                {"params": self.net.parameters(), "factor": 1.0},
                {"params": self.prior.parameters(), "factor": 5.0},
            ],
            lr=options.learning_rate,
        )
        self.random = np.random.default_rng(options.seed + 1)
        self.step = 0
        self.seconds = 0.0
        self.log: list[dict[str, float]] = []

    @property
    def done(self) -> float:
        if self.options.minutes is not None:
            return min(1.0, self.seconds / (60 * self.options.minutes))
        return min(1.0, self.step * self.options.batch / (self.options.epochs * len(self.train)))

    def batch(self) -> Tensor:
        """Random crops, float32 [B, C, crop, crop] in [0, 1]."""
        picks = self.random.integers(len(self.train), size=self.options.batch)
        stack = np.stack([random_crop(self.train[i], self.crop, self.random) for i in picks])
        x = torch.from_numpy(stack).to(self.device).permute(0, 3, 1, 2)
        return x.float().div_(255).contiguous(memory_format=torch.channels_last)

    def train_step(self) -> float:
        options, done = self.options, self.done
        rate = options.learning_rate * min(1, (self.step + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-6
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        x = self.batch()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=_bfloat16_is_fast(self.device)):
            y = self.net.encoder(x)
            rounded = y + (torch.round(y) - y).detach() if options.rate_weight else y
            decoded = self.net.decoder(rounded)
        distortion = _log_mse(decoded.float(), x).mean()
        loss = distortion
        if options.rate_weight:
            noisy = y.float() + torch.rand_like(y, dtype=torch.float32) - 0.5
            loss = distortion + options.rate_weight * self.prior.bits(noisy).mean() / (x.shape[2] * x.shape[3])
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        decay = min(0.999, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, value in zip(self.average.state_dict().values(), self.net.state_dict().values(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - decay)
        return float(loss.detach())

    @torch.no_grad()
    def validate(self) -> tuple[float, float, float]:
        """Cost, mean PSNR in dB and bits per pixel of the averaged weights on the held-out images.

        Without a rate term nothing is known of the rate before the ranges and tables are made: it is nan.
        """
        costs, psnrs, rates = [], [], []
        rng = np.random.default_rng(0)
        for start in range(0, len(self.validation), 32):
            images = [random_crop(image, self.crop, rng) for image in self.validation[start : start + 32]]
            x = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2).float() / 255
            y = self.average.encoder(x)
            if self.options.rate_weight:
                y = torch.round(y)
            decoded = torch.round(self.average.decoder(y) * 255) / 255
            mse = ((decoded - x) ** 2).mean((1, 2, 3)).double() * 255**2
            bits = self.prior.bits(y) / (x.shape[2] * x.shape[3]) if self.options.rate_weight else torch.zeros(len(x))
            psnrs += (10 * torch.log10(255**2 / mse.clamp_min(1e-3))).tolist()
            rates += bits.tolist()
            costs += (torch.log(mse + 0.1) + self.options.rate_weight * bits).tolist()
        return float(np.mean(costs)), float(np.mean(psnrs)), float(np.mean(rates)) if self.options.rate_weight else math.nan

    def remember_if_best(self) -> tuple[float, float]:
        """Validate, log, keep the weights if they are the best so far; PSNR and bits per pixel of this validation."""
        cost, psnr, bits_per_pixel = self.validate()
        row = {"step": self.step, "seconds": round(self.seconds, 1), "loss": round(cost, 4), "psnr": round(psnr, 3)}
        self.log.append(row | ({"bits_per_pixel": round(bits_per_pixel, 4)} if self.options.rate_weight else {}))
        if cost < self.best_cost:
            self.best_cost = cost
            self.best = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}
        return psnr, bits_per_pixel

    def save_checkpoint(self, path: Path) -> None:
        """All state, as one safetensors file."""
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"prior.{k}": v for k, v in self.prior.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{i}.{k}": v for k, v in state.items()}
        document = {
            "checkpoint": 1,
            "options": asdict(self.options),
            "channels": self.channels,
            "step": self.step,
            "seconds": self.seconds,
            "best_cost": self.best_cost,
            "log": self.log,
            "random": self.random.bit_generator.state,
        }
        blob = model_file.dump({k: v.detach().cpu().numpy() for k, v in tensors.items()}, document)
        write_atomically(path, blob)

    def load_checkpoint(self, path: Path) -> None:
        """Go on where a run with the same options and images stopped."""
        tensors, document = model_file.parse(model_file.read(path))
        ours = json.loads(json.dumps(asdict(self.options)))
        free = {"minutes", "epochs", "device", "threads"}
        theirs = document.get("options", {})
        other = sorted(k for k in ours if k not in free and theirs.get(k) != ours[k])
        if other or document.get("channels") != self.channels:
            raise ModelError(f"checkpoint {path}: made with other settings ({', '.join(other) or 'channels'})", path=path)

        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: torch.from_numpy(v.copy()) for k, v in tensors.items() if k.startswith(prefix)}

        try:
            self.net.load_state_dict(part("net."))
            self.prior.load_state_dict(part("prior."))
            self.average.load_state_dict(part("average."))
            state: dict[int, dict[str, Tensor]] = {}
            for key, tensor in part("adam.").items():
                index, name = key.split(".", 1)
                state.setdefault(int(index), {})[name] = tensor
            self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
            self.best = part("best.")
            self.random.bit_generator.state = document["random"]
            self.step, self.seconds = int(document["step"]), float(document["seconds"])
            self.best_cost, self.log = float(document["best_cost"]), list(document["log"])
        except (KeyError, ValueError, TypeError, RuntimeError) as exc:
            raise ModelError(f"checkpoint {path}: {exc}", path=path) from exc

    def release(self) -> bytes:
        """The model file of the best weights: folded, float16, with ranges and tables from the training images."""
        if self.best:
            self.average.load_state_dict(self.best)
        net = self.average.cpu().folded()
        weights = {name: tensor.to(torch.float16) for name, tensor in net.state_dict().items()}
        # Ranges and tables are measured with the very weights that are stored.
        net.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        quantiser, counts = _calibrated(net, self.train, self.crop, self.options)
        tensors: model_file.Tensors = {name: tensor.numpy() for name, tensor in weights.items()}
        tensors["quantiser.low"], tensors["quantiser.step"] = quantiser.low, quantiser.step
        # Every symbol has a frequency of at least 1 of 65,536, so the largest one fits 16 bits.
        tensors["tables"] = quantise_counts(counts).astype(np.uint16)
        config = {"channels": self.channels, "latent": self.options.latent, "widths": list(self.options.widths)}
        training = {
            "options": asdict(self.options),
            "n_train": len(self.train),
            "n_validation": len(self.validation),
            "steps": self.step,
            "seconds": round(self.seconds, 1),
            "log": [self.log[i] for i in sorted({round(x) for x in np.linspace(0, len(self.log) - 1, LOGGED)})],
        }
        return model_file.dump(tensors, {"codec": "autoencoder-1", "config": config, "training": training})


def train(
    images: Sequence[Pixels],
    out: Path,
    options: TrainOptions | None = None,
    *,
    resume: bool = False,
    progress: Callable[[TrainStatus], None] | None = None,
) -> TrainReport:
    """Train an autoencoder and write it to `out`; Ctrl-C ends the run early and keeps the best so far.

    Args:
        images: uint8 [H, W, C] each, all gray or all RGB.
        out: the model file to write. Its checkpoint is `out` + ".checkpoint" and is removed at the end.
        options: settings.
        resume: go on from the checkpoint if there is one.
        progress: called a few times a second.

    Raises:
        InputError: images that it cannot train on.
        ModelError: a checkpoint that does not fit.
    """
    options = options or TrainOptions()
    run = _Run(images, options)
    if run.device.type == "cpu":
        torch.set_num_threads(options.threads or _fastest_threads(run))
    checkpoint = model_file.checkpoint_path(out)
    if resume and checkpoint.exists():
        run.load_checkpoint(checkpoint)
    psnr = bits_per_pixel = loss = math.nan
    interrupted = False
    started = last = time.monotonic()
    first_step, last_validation = run.step, run.step
    earlier = run.seconds
    try:
        while run.done < 1:
            value = run.train_step()
            loss = value if math.isnan(loss) else 0.98 * loss + 0.02 * value
            now = time.monotonic()
            run.seconds = earlier + now - started
            if run.step - last_validation >= 1000 or (run.step == 100 and first_step == 0):
                psnr, bits_per_pixel = run.remember_if_best()
                run.save_checkpoint(checkpoint)
                last_validation = run.step
            if progress and now - last > 0.2:
                speed = (run.step - first_step) * options.batch / max(1e-9, now - started)
                progress(TrainStatus(run.done, run.step, loss, psnr, bits_per_pixel, speed))
                last = now
    except KeyboardInterrupt:
        interrupted = True
        run.save_checkpoint(checkpoint)
    psnr, bits_per_pixel = run.remember_if_best()
    blob = run.release()
    write_atomically(out, blob)
    if not interrupted:
        checkpoint.unlink(missing_ok=True)
    return TrainReport(
        path=out,
        options=options,
        steps=run.step,
        seconds=run.seconds,
        psnr=psnr,
        bits_per_pixel=bits_per_pixel,
        n_train=len(run.train),
        n_validation=len(run.validation),
        interrupted=interrupted,
        model_bytes=len(blob),
        log=run.log,
    )


def _fastest_threads(run: _Run) -> int:
    """How many CPU threads train fastest here and now.

    Steps are small, and threads wait for each other many times in each: with a core taken by somebody else, two threads
    were measured at an eighth of the speed of one.
    """
    net = copy.deepcopy(run.net)
    x = torch.zeros(run.options.batch, run.channels, run.crop, run.crop).contiguous(memory_format=torch.channels_last)
    seconds: dict[int, float] = {}
    for n_threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(n_threads)
        for timed in (False, True):
            started = time.perf_counter()
            for _ in range(6 if timed else 2):
                with torch.autocast("cpu", torch.bfloat16, enabled=_bfloat16_is_fast(run.device)):
                    y = net(x)
                y.float().square().mean().backward()
            seconds[n_threads] = time.perf_counter() - started
    return min(seconds, key=lambda n: seconds[n])


def _log_mse(decoded: Tensor, x: Tensor) -> Tensor:
    """ln(MSE + 0.1) of each image on the scale of 8-bit pixels: [N]."""
    return torch.log(((decoded - x) ** 2).mean((1, 2, 3)) * 255**2 + 0.1)


def _bfloat16_is_fast(device: torch.device) -> bool:
    """Whether matrix units for bfloat16 are there: GPUs, and CPUs with AMX (2.5 times faster steps, measured)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    supported: Callable[[], bool] = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return bool(supported())


@torch.no_grad()
def _calibrated(
    net: Autoencoder, images: Sequence[Pixels], crop: int, options: TrainOptions
) -> tuple[Quantiser, np.ndarray[Any, Any]]:
    """Ranges of the latents, and how often each of the 256 levels occurs in each channel: int64 [C, 256]."""
    rng = np.random.default_rng(options.seed)
    picks = rng.permutation(len(images))[:CALIBRATION_IMAGES]
    parts = []
    for start in range(0, len(picks), 64):
        crops = np.stack([random_crop(images[i], crop, rng) for i in picks[start : start + 64]])
        x = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
        parts.append(net.encoder(x).numpy())
    latents = np.concatenate(parts)  # [N, C, h, w]
    quantiser = Quantiser.spanning(latents.min((0, 2, 3)), latents.max((0, 2, 3)), unit_step=options.rate_weight > 0)
    levels = quantiser.quantise(latents)
    counts = np.stack([np.bincount(levels[:, c].ravel(), minlength=LEVELS) for c in range(levels.shape[1])])
    return quantiser, counts
