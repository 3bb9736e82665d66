"""Training of `hyperprior-1`: rate-distortion optimisation of encoder and decoder together, at all qualities at once.

For an image at quality q with the quantiser step D(q), the loss is its cost in bits,

    bits per pixel + kappa / D^2 * channels * MSE            (MSE in gray levels, squared)

times D / D_mid, which makes the relative gain of all qualities count alike. `kappa` = 8.66 is 6 / ln 2, the exchange rate of a
uniform quantiser at high rate (MSE = D^2 / 12); the networks find the best effective steps for it on their own.

Latents are rounded with straight-through gradients on the way to the decoder and to their own contexts; in the rate term they
get uniform noise instead (Balle et al. 2017, section 3).

With a share s of MS-SSIM, (1 - s) MSE + s * SIMILARITY_UNIT * (1 - MS-SSIM) stands for the MSE.

The start is the linear transform: principal components of the patches, with the nonlinear parts scaled down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from batchcodec.learned.exact import ExactConv2d, straight_through
from batchcodec.learned.hyperprior.architecture import Architecture
from batchcodec.learned.hyperprior.network import (
    HYPER_LIMIT,
    LATENT_LIMIT,
    SCALE_STEPS,
    Decoder,
    Encoder,
    Slice,
    features,
    log_steps,
    passes,
    put,
    take,
)
from batchcodec.learned.networks import FactorizedPrior
from batchcodec.learned.similarity import ms_ssim
from batchcodec.types import Pixels

KAPPA = 6 / math.log(2)
SIMILARITY_UNIT = 1500.0
"""MSE that an MS-SSIM of 0 counts as: about the ratio of the weights that are used for models of either kind at one rate (the
pairs of CompressAI's, Begaint et al. 2020, lie between 1200 and 2500)."""
LOG_RATIO_RANGE = (-3.0, 7.0)
"""log2 of a standard deviation in steps: what the tables cover."""


@dataclass(frozen=True)
class Cost:
    """What a batch cost, of each image: [N].

    Attributes:
        bits_per_pixel: an estimate, from the model's densities.
        mse: of gray levels, squared.
        similarity: MS-SSIM, where it is trained for; else 1.
    """

    bits_per_pixel: Tensor
    mse: Tensor
    similarity: Tensor


class Model(nn.Module):
    """Encoder, decoder and the hyper-latents' density: what is trained."""

    def __init__(self, arch: Architecture, *, exact: bool = True, **encoder: int) -> None:
        super().__init__()
        self.arch = arch
        self.encoder = Encoder(arch, **encoder)
        self.decoder = Decoder(arch, exact=exact)
        self.prior = FactorizedPrior(arch.hyper)
        # the steps that define what each quality is worth; the trained ones may move away from them
        self.register_buffer("nominal", torch.ones(arch.anchors))
        self.similarity_share = 0.0
        """What part of the distortion is that of MS-SSIM, from 0 to 1."""

    def nominal_step(self, quality: Tensor) -> Tensor:
        """The step D that the loss has for qualities [N] in 0..99."""
        last = self.arch.anchors - 1
        place = quality * last / 99
        low = place.floor().clamp(max=last - 1).long()
        nominal = cast(Tensor, self.nominal)
        return nominal[low] * (1 - (place - low)) + nominal[low + 1] * (place - low)

    def forward(self, x: Tensor, quality: Tensor, *, noise: bool = True) -> Cost:
        """The cost of gray levels [N, C, H, W] (sides multiples of the stride) at qualities [N] in 0..99."""
        decoder, arch = self.decoder, self.arch
        y = self.encoder.analysis(x - decoder.offset)
        height, width = y.shape[2:]
        steps, plane = decoder.steps_at(quality)
        plane = plane.expand(-1, 1, height, width)
        z = self.encoder.hyper_analysis(y, plane)
        z_hat = straight_through(z, torch.round(z.detach()).clamp_(-HYPER_LIMIT, HYPER_LIMIT))
        z_bits = self.prior.bits(z + torch.rand_like(z) - 0.5 if noise else z_hat)
        h = decoder.hyper_synthesis(z_hat, height, width)

        positions = passes(height, width, y.device)
        table = torch.from_numpy(log_steps()).to(y.device)
        log_step = straight_through(torch.log2(steps), table[steps.detach().long()].float() / SCALE_STEPS)
        bits = torch.zeros(len(x), device=y.device)
        done: list[Tensor] = []
        for i, part in enumerate(decoder.slices):
            part = cast(Slice, part)
            channels = arch.channels_of(i)
            d, log_d = steps[:, channels], log_step[:, channels]
            earlier = features(torch.cat(done, 1), decoder.exact) if done else None
            shared = part.shared(h, plane, earlier)
            coded: list[Tensor] = []
            own = None
            for at in positions:
                if not len(at):  # a single position has no second pass
                    continue
                here = take(y[:, channels], at)
                mean, scale = part.parameters_at(take(shared, at), own)
                residual = (here - mean) / d
                rounded = torch.round(residual.detach())
                value = mean + straight_through(residual, rounded) * d
                value = straight_through(value, value.detach().clamp(-LATENT_LIMIT, LATENT_LIMIT))
                coded.append(value)
                ratio = torch.exp2((scale / SCALE_STEPS - log_d).clamp(*LOG_RATIO_RANGE))
                noisy = residual + torch.rand_like(residual) - 0.5 if noise else rounded
                bits = bits + gaussian_bits(noisy, ratio).sum((1, 2, 3))
                if own is None and len(positions[1]):
                    first = put(coded, positions[:1], height, width)
                    own = take(part.own(features(first, decoder.exact)), positions[1])
            done.append(put(coded, positions[: len(coded)], height, width))
        decoded = decoder.synthesis(torch.cat(done, 1), plane)
        if not noise:
            decoded = torch.round(decoded).clamp(0, 255)
        n_pixels = x.shape[2] * x.shape[3]
        similarity = ms_ssim(x, decoded) if self.similarity_share else x.new_ones(len(x))
        return Cost((bits + z_bits) / n_pixels, ((decoded - x) ** 2).mean((1, 2, 3)), similarity)

    def loss(self, cost: Cost, quality: Tensor) -> Tensor:
        """The scalar that training minimises."""
        step = self.nominal_step(quality)
        weight = step / cast(Tensor, self.nominal).log().mean().exp()
        share = self.similarity_share
        distortion = (1 - share) * cost.mse + share * SIMILARITY_UNIT * (1 - cost.similarity)
        per_image = cost.bits_per_pixel + KAPPA / step**2 * self.arch.channels * distortion
        return (weight * per_image).mean()

    @torch.no_grad()
    def start_linear(self, images: Sequence[Pixels], coarsest: float, finest: float, *, seed: int = 0) -> None:
        """Set the linear path to the principal components of patches, and scale the nonlinear parts down."""
        arch, rng = self.arch, np.random.default_rng(seed)
        side = arch.stride
        patches = np.stack([_patch(images[i], side, rng) for i in rng.integers(len(images), size=40_000)]).astype(np.float64)
        self.decoder.offset.fill_(float(np.median(patches)))
        flat = patches.transpose(0, 3, 1, 2).reshape(len(patches), -1) - float(np.median(patches))  # [P, C * s * s]
        _, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
        basis = np.zeros((arch.latent, flat.shape[1]))
        count = min(arch.latent, flat.shape[1])
        basis[:count] = vectors[:, ::-1][:, :count].T
        weight = torch.from_numpy(basis).float()  # [M, C * s * s]
        self.encoder.linear.weight.copy_(weight.reshape(self.encoder.linear.weight.shape))
        cast(Tensor, self.encoder.linear.bias).zero_()
        self.decoder.linear.weight.copy_(weight.T[:, :, None, None])
        cast(Tensor, self.decoder.linear.bias).zero_()
        small = [cast(nn.Conv2d, self.encoder.nonlinear[-1])] + ([self.decoder.last] if arch.width else [])
        small += [cast(Slice, part).out for part in self.decoder.slices]
        for conv in small:
            conv.weight.mul_(0.05)
            cast(Tensor, conv.bias).zero_()
        # a scale per channel to begin with
        deviation = np.sqrt(np.maximum((flat @ basis.T).var(0), 1e-6))
        for i, part in enumerate(self.decoder.slices):
            at = arch.channels_of(i)
            start = torch.from_numpy(np.log2(np.maximum(deviation[at], 1.0)) - 3).float()
            cast(Tensor, cast(Slice, part).out.bias)[arch.slices[i] :] = start
        nominal = torch.from_numpy(np.geomspace(coarsest, finest, arch.anchors)).float()
        cast(Tensor, self.nominal).copy_(nominal)
        self.decoder.log_steps.copy_(torch.log2(nominal)[:, None].expand_as(self.decoder.log_steps))

    def use_low_precision(self, on: bool) -> None:
        """Run the decoder's wide layers in bfloat16 while training, where the last bit is not needed."""
        for module in self.decoder.modules():
            if isinstance(module, ExactConv2d):
                module.low_precision = on and module is not self.decoder.linear
        for part in self.decoder.slices:
            cast(Slice, part).out.low_precision = False


def gaussian_bits(value: Tensor, deviation: Tensor) -> Tensor:
    """-log2 of the mass of a zero-mean Gaussian within half a step of `value`, elementwise.

    Beyond 15 bits it goes on in a line: that is near what an escape costs, and it leads what has strayed back, where the mass
    itself has no gradient any more (without it, training was seen to run away and not to return).
    """
    size = value.abs()
    unit = math.sqrt(0.5) / deviation
    mass = 0.5 * (torch.erfc((size - 0.5) * unit) - torch.erfc((size + 0.5) * unit))
    return -torch.log2(mass.clamp_min(2.0**-15)) + 0.25 * F.relu(size / deviation - 4.5)


def _patch(image: Pixels, side: int, rng: np.random.Generator) -> Pixels:
    top, left = (int(rng.integers(max(1, n - side + 1))) for n in image.shape[:2])
    patch = image[top : top + side, left : left + side]
    if patch.shape[:2] == (side, side):  # padding is slow, and there are many patches
        return patch
    return np.pad(patch, ((0, side - patch.shape[0]), (0, side - patch.shape[1]), (0, 0)), mode="edge")
