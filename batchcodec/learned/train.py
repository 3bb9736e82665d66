"""Training of `autoencoder-1`.

The loss is the paper's (reconstruction error), taken as the logarithm of each image's mean squared error so that it serves the
mean PSNR, plus `rate_weight` times the estimated bits per pixel:

    loss = mean over images of ln(MSE + 0.1) + rate_weight * bits per pixel        (MSE in steps of 1/255, squared)

`rate_weight=0` trains for reconstruction alone, as the paper does. With a rate, latents are rounded to integers with
straight-through gradients on the way to the decoder, and get uniform noise in the rate term (Balle et al. 2017, section 3).

The learning rate falls to zero along a cosine. What all codecs share is in `loop`.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from batchcodec.entropy.tables import quantise_counts
from batchcodec.errors import InputError, OptionError
from batchcodec.learned import model_file
from batchcodec.learned.architecture import ACTIVATIONS, MAX_DEPTH, MAX_WIDTH, UPSAMPLINGS, Shape
from batchcodec.learned.data import Crops
from batchcodec.learned.devices import bfloat16_is_fast
from batchcodec.learned.loop import Trainer, thinned
from batchcodec.learned.networks import Autoencoder, FactorizedPrior
from batchcodec.learned.quantiser import LEVELS, Quantiser
from batchcodec.learned.run import run_to_file
from batchcodec.learned.settings import RunSettings, TrainReport, TrainStatus
from batchcodec.types import Pixels

CODEC_ID = "autoencoder-1"
CALIBRATION_IMAGES = 20_000
"""Most images whose latents set the ranges and tables."""
NORMS = ("batch", "none")


@dataclass(frozen=True)
class TrainOptions(RunSettings):
    """Settings of one training run.

    Attributes:
        latent: channels of the latents (12, 24 or 32 in the paper).
        widths: channels after each stride-2 stage.
        activation: between the layers: leaky-relu in the paper.
        norm: "batch" or "none", while training; a model file has it folded into its weights.
        upsample: of the synthesis: transpose in the paper, see `blocks`.
        rate_weight: weight of bits per pixel in the loss; 0 trains for reconstruction alone.
        validation: part of the images that is held out, at most 1,000 of them.
        threads: of the CPU; 0 measures whether one or all train faster.
    """

    latent: int = 12
    widths: tuple[int, ...] = (32, 64, 128)
    activation: str = "leaky-relu"
    norm: str = "batch"
    upsample: str = "transpose"
    rate_weight: float = 2.5
    validation: float = 0.05
    threads: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check({"latent": (1, 512), "rate_weight": (0, 1e6), "validation": (0.001, 0.5)})
        if not 1 <= len(self.widths) <= MAX_DEPTH or not all(1 <= width <= MAX_WIDTH for width in self.widths):
            raise OptionError("width", self.widths, f"1 to {MAX_DEPTH} numbers from 1 to {MAX_WIDTH}")
        for name, known in (("activation", ACTIVATIONS), ("norm", NORMS), ("upsample", UPSAMPLINGS)):
            if getattr(self, name) not in known:
                raise OptionError(name, getattr(self, name), " or ".join(known))
        if self.crop % self.shape.stride:
            raise OptionError("crop", self.crop, f"a multiple of {self.shape.stride}")

    @property
    def shape(self) -> Shape:
        """Of the networks."""
        return Shape(self.widths, self.activation, self.upsample)

    def held_out(self, n_images: int) -> int:
        """How many of so many images are held out."""
        return min(1000, max(1, round(n_images * self.validation)))


class Model(nn.Module):
    """All that is trained."""

    def __init__(self, channels: int, options: TrainOptions) -> None:
        super().__init__()
        self.net = Autoencoder(channels, options.latent, options.shape, norm=options.norm == "batch")
        self.prior = FactorizedPrior(options.latent)


class AutoencoderTrainer(Trainer[TrainOptions]):
    """A run over images in memory: uint8 [H, W, C] each, all gray or all RGB."""

    codec_id = CODEC_ID
    rates = {"prior.*": 5.0}  # noqa: RUF012
    splits_batches = False
    keeps_best = True

    def __init__(self, images: Sequence[Pixels], options: TrainOptions) -> None:
        data = Crops(
            images,
            options.held_out(len(images)),
            options.crop,
            options.shape.stride,
            seed=options.seed,
            flip=options.flip,
        )
        if data.channels not in (1, 3):
            raise InputError("training images", "they must all be gray or all be RGB; use --mode gray or --mode rgb")
        torch.manual_seed(options.seed)
        super().__init__(Model(data.channels, options), data, options)
        self.model: Model
        self.average: Model
        if self.device.type == "cpu":
            torch.set_num_threads(options.threads or _fastest_threads(self))

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on."""
        free = {"minutes", "epochs", "device", "threads", "patience"}
        options = {name: value for name, value in asdict(self.settings).items() if name not in free}
        found: dict[str, Any] = json.loads(json.dumps({**options, "channels": self.data.channels}))
        return found

    def schedule(self) -> float:
        """Along a cosine."""
        return 0.5 + 0.5 * math.cos(math.pi * self.done)

    def badness(self, loss: float) -> float:
        """The loss is a logarithm of the error."""
        return math.exp(min(loss, 100.0)) if not math.isnan(loss) else loss

    def loss(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """Rate and distortion, see above."""
        options, net, x = self.settings, self.model.net, x / 255
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bfloat16_is_fast(self.device)):
            y = net.encoder(x)
            rounded = y + (torch.round(y) - y).detach() if options.rate_weight else y
            decoded = net.decoder(rounded)
        distortion = torch.log(_squared_error(decoded.float(), x) + 0.1).mean()
        if not options.rate_weight:
            return distortion
        noisy = y.float() + torch.rand_like(y, dtype=torch.float32) - 0.5
        return distortion + options.rate_weight * self.model.prior.bits(noisy).mean() / (x.shape[2] * x.shape[3])

    def measure(self) -> dict[str, Any]:
        """Cost, mean PSNR in dB and bits per pixel.

        Without a rate term nothing is known of the rate before the ranges and tables are made: then there is none.
        """
        costs, psnrs, rates = [], [], []
        weight, net = self.settings.rate_weight, self.average.net
        stack = self.data.held_out()
        for start in range(0, len(stack), 32):
            x = self.gray_levels(stack[start : start + 32]) / 255
            y = net.encoder(x)
            if weight:
                y = torch.round(y)
            mse = _squared_error(torch.round(net.decoder(y) * 255) / 255, x).double()
            bits = self.average.prior.bits(y) / (x.shape[2] * x.shape[3]) if weight else torch.zeros(len(x))
            psnrs += (10 * torch.log10(255**2 / mse.clamp_min(1e-3))).tolist()
            rates += bits.tolist()
            costs += (torch.log(mse + 0.1) + weight * bits).tolist()
        row = {"loss": round(float(np.mean(costs)), 4), "psnr": round(float(np.mean(psnrs)), 3)}
        return row | ({"bits_per_pixel": round(float(np.mean(rates)), 4)} if weight else {})

    def release(self, **extra: Any) -> bytes:
        """The model file of the best weights: folded, float16, with ranges and tables from the training images."""
        self.take_best()
        options = self.settings
        net = self.average.cpu().net.folded()
        weights = {name: tensor.to(torch.float16) for name, tensor in net.state_dict().items()}
        # Ranges and tables are measured with the very weights that are stored.
        net.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        quantiser, counts = _calibrated(net, self.data, options)
        tensors: model_file.Tensors = {name: tensor.numpy() for name, tensor in weights.items()}
        tensors["quantiser.low"], tensors["quantiser.step"] = quantiser.low, quantiser.step
        # Every symbol has a frequency of at least 1 of 65,536, so the largest one fits 16 bits.
        tensors["tables"] = quantise_counts(counts).astype(np.uint16)
        config = {"channels": self.data.channels, "latent": options.latent, **options.shape.to_json()}
        training = {
            "options": asdict(options),
            "n_train": len(self.data.train),
            "n_validation": len(self.data.validation),
            "steps": self.step,
            "seconds": round(self.seconds, 1),
            "log": thinned(self.log),
        }
        return model_file.dump(tensors, {"codec": CODEC_ID, "config": config, "training": training, **extra})


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
    return run_to_file(AutoencoderTrainer(images, options or TrainOptions()), out, resume=resume, progress=progress)


def _fastest_threads(run: AutoencoderTrainer) -> int:
    """How many CPU threads train fastest here and now.

    Steps are small, and threads wait for each other many times in each: with a core taken by somebody else, two threads
    were measured at an eighth of the speed of one.
    """
    net = copy.deepcopy(run.model.net)
    side = run.data.side
    x = torch.zeros(run.settings.batch, run.data.channels, side, side).contiguous(memory_format=torch.channels_last)
    seconds: dict[int, float] = {}
    for n_threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(n_threads)
        for timed in (False, True):
            started = time.perf_counter()
            for _ in range(6 if timed else 2):
                with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_fast(run.device)):
                    y = net(x)
                y.float().square().mean().backward()
            seconds[n_threads] = time.perf_counter() - started
    return min(seconds, key=lambda n: seconds[n])


def _squared_error(decoded: Tensor, x: Tensor) -> Tensor:
    """MSE of each image on the scale of 8-bit pixels, [N], of images in [0, 1]."""
    return ((decoded - x) ** 2).mean((1, 2, 3)) * 255**2


@torch.no_grad()
def _calibrated(net: Autoencoder, data: Crops, options: TrainOptions) -> tuple[Quantiser, np.ndarray[Any, Any]]:
    """Ranges of the latents, and how often each of the 256 levels occurs in each channel: int64 [C, 256]."""
    stack = data.sample(CALIBRATION_IMAGES, seed=options.seed)
    parts = []
    for start in range(0, len(stack), 64):
        x = torch.from_numpy(stack[start : start + 64]).permute(0, 3, 1, 2).float() / 255
        parts.append(net.encoder(x).numpy())
    latents = np.concatenate(parts)  # [N, C, h, w]
    quantiser = Quantiser.spanning(latents.min((0, 2, 3)), latents.max((0, 2, 3)), unit_step=options.rate_weight > 0)
    levels = quantiser.quantise(latents)
    counts = np.stack([np.bincount(levels[:, c].ravel(), minlength=LEVELS) for c in range(levels.shape[1])])
    return quantiser, counts
