"""Latents improved by gradient descent on their true cost, through the very decoder (Campos et al. 2019).

Rounding is relaxed by stochastic Gumbel annealing (Yang, Bamler & Mandt 2020): each latent is its floor or its ceiling, with a
probability that hardens as the steps go by.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from batchcodec.entropy import gaussian
from batchcodec.learned.hyperprior import coding
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.network import HYPER_LIMIT, take
from batchcodec.learned.hyperprior.quantising import gray_levels
from batchcodec.learned.hyperprior.training import gaussian_bits
from batchcodec.types import Pixels

REFINED_PIXELS = 1 << 18
"""Pixels that are refined together: gradients take memory."""
LEARNING_RATE = 0.02
"""In quantiser steps, at the start; it falls to a tenth."""
TEMPERATURES = (0.5, 0.1)
"""Of the relaxed rounding, at the start and at the end."""


def refined(
    model: LoadedModel, images: Pixels, conditions: coding.Conditions, y: Tensor, z: Tensor, worth: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Latents and hyper-latents that cost less.

    Args:
        model: the decoder whose cost counts.
        images: uint8 [N, H, W, C].
        conditions: of these images.
        y: latents to begin with, [N, M, h, w].
        z: hyper-latents to begin with, integers.
        worth: of a squared gray level, in bits, [N].
        steps: of gradient descent.

    Returns:
        Latents, not rounded, and hyper-latents, rounded.
    """
    together = max(1, REFINED_PIXELS // (images.shape[1] * images.shape[2]))
    ys, zs = [], []
    for start in range(0, len(images), together):
        part = slice(start, start + together)
        better = _Refinement(model, images[part], conditions[part], worth[part]).run(y[part], z[part], steps)
        ys.append(better[0])
        zs.append(better[1])
    return torch.cat(ys), torch.cat(zs)


class _Refinement:
    """Gradient descent for some images together; each is for itself, but for the order of the random numbers."""

    def __init__(self, model: LoadedModel, images: Pixels, conditions: coding.Conditions, worth: Tensor) -> None:
        self.model, self.conditions, self.worth = model, conditions, worth
        self.size = images.shape[1:3]
        self.x = gray_levels(model, images)
        self.generator = torch.Generator().manual_seed(0)  # the same bytes whenever the same images are packed
        self.temperature = TEMPERATURES[0]
        numbers = np.arange(-HYPER_LIMIT, HYPER_LIMIT + 1)
        channels = np.repeat(np.arange(model.arch.hyper), len(numbers))
        bits = model.bank.bits(np.tile(numbers, model.arch.hyper), channels)
        self.hyper_bits = torch.from_numpy(bits.reshape(model.arch.hyper, -1))  # [Z, 127]

    def run(self, y: Tensor, z: Tensor, n_steps: int) -> tuple[Tensor, Tensor]:
        """Latents and rounded hyper-latents after so many steps."""
        first, last = TEMPERATURES
        with torch.enable_grad():
            shift = torch.zeros_like(y).requires_grad_()  # in quantiser steps
            z = z.clone().requires_grad_()
            optimiser = torch.optim.Adam([shift, z], lr=LEARNING_RATE, betas=(0.9, 0.99))
            for step in range(n_steps):
                done = step / n_steps
                self.temperature = first * (last / first) ** done
                optimiser.param_groups[0]["lr"] = LEARNING_RATE * (1 - 0.9 * done)
                cost = self._cost(y + shift * self.conditions.steps, z)
                optimiser.zero_grad(set_to_none=True)
                cost.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
        return (y + shift * self.conditions.steps).detach(), coding.clamp_hyper(z.detach())

    def _cost(self, y: Tensor, z: Tensor) -> Tensor:
        """Bits of all images, and their squared error in bits."""
        z_soft, up = self._relaxed(z)
        floor = torch.floor(z.detach()).clamp(-HYPER_LIMIT, HYPER_LIMIT - 1).long() + HYPER_LIMIT
        channel = torch.arange(z.shape[1])[None, :, None, None].expand_as(floor)
        low, high = self.hyper_bits[channel, floor], self.hyper_bits[channel, floor + 1]
        bits = (low + (high - low) * up).sum()

        def code(i: int, at: Tensor, mean: Tensor, steps: Tensor, index: Tensor) -> Tensor:
            nonlocal bits
            k, _ = self._relaxed((take(y[:, self.model.arch.channels_of(i)], at) - mean) / steps)
            log2 = index / gaussian.SCALES_PER_OCTAVE + gaussian.FIRST_LOG2
            bits = bits + gaussian_bits(k, torch.exp2(log2)).sum()
            return k

        latents = coding.walk(self.model.decoder, z_soft, self.conditions, y.shape[2], y.shape[3], code)
        decoded = self.model.decoder.synthesis(latents, self.conditions.plane.expand(-1, 1, *y.shape[2:]))
        height, width = self.size
        error = (decoded - self.x)[:, :, :height, :width]
        return bits + (self.worth * (error**2).sum((1, 2, 3))).sum()

    def _relaxed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A value between floor and ceiling, the nearer to one of them the colder it is, and how far up it is."""
        floor = torch.floor(x.detach())
        part = (x - floor).clamp(1e-4, 1 - 1e-4)
        odds = (torch.atanh(part) - torch.atanh(1 - part)) / self.temperature  # for the ceiling
        uniform = torch.rand(x.shape, generator=self.generator).clamp(1e-6, 1 - 1e-6)
        up = torch.sigmoid((odds + torch.logit(uniform)) / self.temperature)
        return floor + up, up
