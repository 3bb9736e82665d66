"""Training of `comcnn-1`: RecCNN and ComCNN in turns, with a real codec between them.

A codec has no gradient, so the paper trains the two networks in turns (Jiang et al. 2017, section III):

- RecCNN's turn: images go through ComCNN and the codec, and RecCNN learns to restore them from what came out.
- ComCNN's turn: RecCNN stays as it is, and the codec is taken for an identity, so that the gradient reaches ComCNN. What the
  codec does is still there, as a constant that is added.

The loss of an image is ln(MSE + 1), in gray levels squared, which serves the mean PSNR over all qualities alike. The paper's
ComCNN looks at nothing else. Two things are added in its turn. Half of the error is that of the upsampled image without the
residual: else ComCNN learns faster than RecCNN to shift and stretch gray levels, which RecCNN then has to undo. And a compact
image that is easier to restore may be harder to code, so ComCNN pays `rate_weight` times ln(bits), with bits estimated as
those of a transform codec: log2(1 + |coefficient| / step), over the 8x8 DCT of the compact image but its mean. A logarithm,
since bits and error of a codec trade in proportion.

Each step draws one of the base codecs and a quality; all crops of a batch are one group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from batchcodec.codec import Codec
from batchcodec.errors import InputError, ModelError, OptionError
from batchcodec.learned.comcnn import base as bases
from batchcodec.learned.comcnn import model as models
from batchcodec.learned.comcnn.architecture import Architecture
from batchcodec.learned.comcnn.network import Networks, rounded
from batchcodec.learned.data import Crops
from batchcodec.learned.devices import bfloat16_is_fast
from batchcodec.learned.loop import Trainer, thinned
from batchcodec.learned.settings import RunSettings
from batchcodec.types import GroupSpec, Pixels

ALIGNED = 16
"""Sides of crops are multiples of it: then compact images have whole blocks of 8x8."""
COMCNN_EVERY = 3
"""Every so many steps it is ComCNN's turn."""
BLOCK = 8
STEP_AT_50 = 24.0
"""Gray levels: the quantiser step that bits are estimated with at quality 50, about the mean of JPEG's luma table there."""
CHROMA = 2.0
"""How many times as large the steps of chroma are."""


@dataclass(frozen=True)
class ComcnnSettings(RunSettings):
    """Of one run.

    Attributes:
        base: ids of the classical codecs that are trained with, between commas.
        qualities: the lowest and the highest quality of theirs.
        rate_weight: how many times as much the logarithm of the bits counts as that of the error; 0 leaves bits out.
        validation: images that are held out, at most a tenth of them.
    """

    base: str = "jpeg"
    qualities: tuple[int, int] = (10, 80)
    rate_weight: float = 1.0
    validation: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        low, high = self.qualities
        if not (type(low) is int and type(high) is int and 1 <= low <= high <= 99):
            raise OptionError("qualities", f"{low},{high}", "two numbers from 1 to 99, the lower one first")
        self.check({"rate_weight": (0, 100), "validation": (1, 1 << 20)})
        self.coders(low)

    def coders(self, quality: int) -> list[Codec]:
        """The base codecs at a quality; one that has none, such as a lossless one, as it is."""
        found = []
        for ident in self.base.split(","):
            kind = type(bases.made(ident, {}))
            found.append(bases.made(ident, {"quality": quality} if "quality" in kind.options_help else {}))
        return found

    def held_out(self, n_images: int) -> int:
        """How many of so many images are held out."""
        return min(self.validation, max(1, n_images // 10))


class ComcnnTrainer(Trainer[ComcnnSettings]):
    """A run over images in memory.

    Args:
        images: uint8 [H, W, C] each, all of one number of channels.
        settings: of the run.
        arch: of new networks; its channels are those of the images.
        start: a model to go on from in place of new networks; it needs its ComCNN.
    """

    codec_id = models.CODEC_ID
    rates = {"encoder.*": 0.25}  # noqa: RUF012 - RecCNN must be able to follow

    def __init__(
        self,
        images: Sequence[Pixels],
        settings: ComcnnSettings,
        arch: Architecture | None = None,
        start: models.LoadedModel | None = None,
    ) -> None:
        if start is not None and not start.has_encoder:
            raise ModelError("this model came from an archive: it has no encoder and cannot be trained")
        arch = start.arch if start is not None else arch or Architecture(channels=images[0].shape[2])
        data = Crops(images, settings.held_out(len(images)), settings.crop, ALIGNED, seed=settings.seed, flip=settings.flip)
        if arch.channels != data.channels:
            raise InputError("training images", f"they have {data.channels} channels, the model {arch.channels}")
        torch.manual_seed(settings.seed)
        networks = Networks(arch)
        if start is not None:
            networks.load_state_dict(start.networks.state_dict())
        super().__init__(networks, data, settings)
        self.arch = arch
        self.coder, self.quality = settings.coders(settings.qualities[0])[0], settings.qualities[0]

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on."""
        s = self.settings
        return {"arch": self.arch.to_json(), "base": s.base, "qualities": list(s.qualities), "rate_weight": s.rate_weight}

    def schedule(self) -> float:
        """Along a cosine."""
        return 0.5 + 0.5 * math.cos(math.pi * self.done)

    def badness(self, loss: float) -> float:
        """The loss is a logarithm of the squared error, which differs much between qualities."""
        return math.exp(min(loss / 2, 100.0)) if not math.isnan(loss) else loss

    def before_step(self) -> None:
        """Draw base codec and quality. Low qualities as often as high ones, in proportion."""
        low, high = (math.log(value) for value in self.settings.qualities)
        self.quality = round(math.exp(low + (high - low) * float(torch.rand(()))))
        coders = self.settings.coders(self.quality)
        self.coder = coders[int(torch.randint(len(coders), ()))]

    def loss(self, x: Tensor, *drawn: Tensor) -> Tensor:
        """Of the network whose turn it is, see above."""
        networks = cast(Networks, self.model)
        low_precision = self.done < 0.9 and bfloat16_is_fast(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low_precision):
            if networks.encoder is None or self.step % COMCNN_EVERY:
                with torch.no_grad():
                    decoded = coded(self.coder, networks.compact(x))
                plain, residual = networks.decoder(decoded)
                return torch.log(squared_error(plain + residual, x) + 1).mean()
            compact = networks.encoder(x)
            with torch.no_grad():
                change = coded(self.coder, compact) - compact
            frozen = {name: parameter.detach() for name, parameter in networks.decoder.named_parameters()}
            plain, residual = functional_call(networks.decoder, frozen, (compact + change,))
        errors = torch.stack([squared_error(plain, x), squared_error(plain + residual, x)])
        cost = torch.log(errors + 1).mean(0)
        if self.settings.rate_weight:
            cost = cost + self.settings.rate_weight * torch.log(estimated_bits(compact, self.quality) + 1e-2)
        return cost.mean()

    def measure(self) -> dict[str, Any]:
        """Real bits per pixel of the first base codec and mean PSNR, at three qualities."""
        networks = cast(Networks, self.average)
        stack = self.data.held_out(min(self.data.side, 256))
        points, losses = [], []
        for quality in np.unique(np.rint(np.geomspace(*self.settings.qualities, 3)).astype(int)).tolist():
            coder, n_bytes, errors = self.settings.coders(quality)[0], 0, []
            for at in range(0, len(stack), 16):
                x = self.gray_levels(stack[at : at + 16])
                images = to_pixels(networks.compact(x))
                payload = coder.encode(images)
                n_bytes += len(payload)
                decoded = self.gray_levels(coder.decode(payload, GroupSpec.of(images)))
                plain, residual = networks.decoder(decoded)
                errors.append(squared_error(rounded(plain + residual), x))
            error = torch.cat(errors)
            rate = 8 * n_bytes / stack[..., 0].size
            losses.append(float(torch.log(error + 1).mean()) + self.settings.rate_weight * math.log(rate))
            psnr = float((10 * torch.log10(255**2 / error.clamp_min(1e-2))).mean())
            points.append({"quality": quality, "bits_per_pixel": round(rate, 4), "psnr": round(psnr, 2)})
        # A logarithm may be negative, which a loss that is compared by ratios must not be.
        return {"loss": round(math.exp(float(np.mean(losses))), 5), "points": points}

    def release(self, **extra: Any) -> bytes:
        """The model file of the averaged weights."""
        self.take_best()
        training = {
            "settings": asdict(self.settings),
            "n_train": len(self.data.train),
            "n_validation": len(self.data.validation),
            "steps": self.step,
            "seconds": round(self.seconds, 1),
            "log": thinned(self.log),
        }
        return models.dump(cast(Networks, self.average), training=training, **extra)


def squared_error(x: Tensor, y: Tensor) -> Tensor:
    """MSE of each image, [N], of [N, C, H, W]."""
    return (x.float() - y).square().mean((1, 2, 3))


def to_pixels(x: Tensor) -> Pixels:
    """Float [N, C, H, W] as uint8 [N, H, W, C]."""
    return np.ascontiguousarray(rounded(x.float()).permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy())


def coded(coder: Codec, compact: Tensor) -> Tensor:
    """What a codec makes of images [N, C, h, w], rounded and clamped before; float32."""
    images = to_pixels(compact)
    decoded = coder.decode(coder.encode(images), GroupSpec.of(images))
    return torch.from_numpy(decoded).to(compact.device).permute(0, 3, 1, 2).float()


def estimated_bits(x: Tensor, quality: int) -> Tensor:
    """Bits per sample of images [N, C, h, w] in a transform codec at a quality, [N]: not to scale, but in proportion."""
    channels, height, width = x.shape[1:]
    steps = torch.full((channels,), STEP_AT_50 * (50 / quality if quality < 50 else 2 - quality / 50))
    if channels == 3:
        x = torch.einsum("oc,nchw->nohw", _ycc().to(x.device), x)
        steps[1:] *= CHROMA
    x = x[:, :, : height // BLOCK * BLOCK, : width // BLOCK * BLOCK]
    blocks = x.unfold(2, BLOCK, BLOCK).unfold(3, BLOCK, BLOCK)  # [N, C, h/8, w/8, 8, 8]
    transform = dct(BLOCK).to(x.device)
    coefficients = transform @ blocks @ transform.T
    bits = torch.log2(1 + coefficients.abs() / steps.to(x.device)[:, None, None, None, None])
    return bits.flatten(4)[..., 1:].flatten(1).mean(1)


@lru_cache(1)
def dct(side: int) -> Tensor:
    """The orthonormal DCT-II, float32 [side, side]: a row for each frequency."""
    k, i = torch.arange(side)[:, None], torch.arange(side)[None]
    matrix = torch.cos(math.pi * (2 * i + 1) * k / (2 * side)) * math.sqrt(2 / side)
    matrix[0] /= math.sqrt(2)
    return matrix


@lru_cache(1)
def _ycc() -> Tensor:
    """RGB to luma and chroma differences, [3, 3] (ITU-R BT.601)."""
    return torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
