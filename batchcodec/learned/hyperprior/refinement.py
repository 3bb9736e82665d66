"""Latents improved by descent on their true cost, through the very decoder (Campos et al. 2019), in two ways.

*Descent*: a few damped Newton steps from the integers as they are. Cheap: a handful do most of what they can.

*Annealing*: rounding is relaxed by stochastic Gumbel annealing (Yang, Bamler & Mandt 2020). Each latent is its floor or its
ceiling, with a probability that hardens as the steps go by. It needs many steps, and finds more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from batchcodec.entropy import gaussian
from batchcodec.learned.hyperprior import coding
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.network import HYPER_LIMIT, passes, put, take
from batchcodec.learned.hyperprior.quantising import bits_of_magnitudes, gray_levels, optimised
from batchcodec.learned.hyperprior.training import gaussian_bits
from batchcodec.types import Pixels

REFINED_PIXELS = 1 << 18
"""Pixels that are refined together: gradients take memory."""
DAMPING = 0.4
"""Part of a Newton step that is taken: neighbours move at the same time."""
LEARNING_RATE = 0.02
"""In quantiser steps, at the start; it falls to a tenth."""
TEMPERATURES = (0.5, 0.1)
"""Of the relaxed rounding, at the start and at the end."""


def refined(
    model: LoadedModel,
    images: Pixels,
    conditions: coding.Conditions,
    y: Tensor,
    z: Tensor,
    worth: Tensor,
    descent: int,
    annealing: int,
) -> tuple[Tensor, Tensor]:
    """Latents and hyper-latents that cost less.

    Args:
        model: the decoder whose cost counts.
        images: uint8 [N, H, W, C].
        conditions: of these images.
        y: latents to begin with, [N, M, h, w].
        z: hyper-latents to begin with, integers.
        worth: of a squared gray level, in bits, [N].
        descent: Newton steps.
        annealing: steps of annealing after them.

    Returns:
        Latents, not rounded, and hyper-latents, rounded.
    """
    together = max(1, REFINED_PIXELS // (images.shape[1] * images.shape[2]))
    ys, zs = [], []
    for start in range(0, len(images), together):
        part = slice(start, start + together)
        work = _Refinement(model, images[part], conditions[part], worth[part])
        better = work.descend(y[part], z[part], descent), z[part]
        if annealing:
            better = work.anneal(*better, annealing)
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

    def anneal(self, y: Tensor, z: Tensor, n_steps: int) -> tuple[Tensor, Tensor]:
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

    def descend(self, y: Tensor, z: Tensor, n_steps: int) -> Tensor:
        """Latents after so many damped Newton steps, each from the integers that the latents so far are coded as.

        The curvature is that of an orthonormal transform. The rate of an integer itself is left to the quantiser, that of the
        contexts it is part of is in the gradient.
        """
        model, arch = self.model, self.model.arch
        curvature = 2 * self.worth[:, None, None, None]
        table = torch.from_numpy(bits_of_magnitudes(model))
        shape = y.shape[2], y.shape[3]
        positions = passes(*shape)
        for _ in range(n_steps):
            values: dict[int, list[Tensor]] = {}
            with torch.enable_grad():
                bits = torch.zeros(())

                def code(
                    i: int, at: Tensor, mean: Tensor, steps: Tensor, index: Tensor, y: Tensor = y, values: Any = values
                ) -> Tensor:
                    nonlocal bits
                    exact = ((take(y[:, arch.channels_of(i)], at) - mean) / steps).detach()
                    k = optimised(exact, index.detach(), table, self.worth[:, None, None, None] * steps**2)
                    value = (mean.detach() + k * steps).requires_grad_()
                    values.setdefault(i, []).append(value)
                    log2 = index / gaussian.SCALES_PER_OCTAVE + gaussian.FIRST_LOG2
                    # the value stays where it is when its mean moves
                    bits = bits + gaussian_bits(k + (mean.detach() - mean) / steps, torch.exp2(log2)).sum()
                    return (value - mean) / steps

                latents = coding.walk(model.decoder, z, self.conditions, *shape, code)
                cost = bits + self._distortion(latents)
                flat = [value for i in sorted(values) for value in values[i]]
                slopes = dict(zip(map(id, flat), torch.autograd.grad(cost, flat), strict=True))
            better = [
                put([v.detach() - slopes[id(v)] / curvature for v in values[i]], positions[: len(values[i])], *shape)
                for i in sorted(values)
            ]
            y = y + DAMPING * (torch.cat(better, 1) - y)
        return y

    def _distortion(self, latents: Tensor) -> Tensor:
        """Squared error of all images, in bits."""
        decoded = self.model.decoder.synthesis(latents, self.conditions.plane.expand(-1, 1, *latents.shape[2:]))
        height, width = self.size
        error = (decoded - self.x)[:, :, :height, :width]
        return (self.worth * (error**2).sum((1, 2, 3))).sum()

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
        return bits + self._distortion(latents)

    def _relaxed(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A value between floor and ceiling, the nearer to one of them the colder it is, and how far up it is."""
        floor = torch.floor(x.detach())
        part = (x - floor).clamp(1e-4, 1 - 1e-4)
        odds = (torch.atanh(part) - torch.atanh(1 - part)) / self.temperature  # for the ceiling
        uniform = torch.rand(x.shape, generator=self.generator).clamp(1e-6, 1 - 1e-6)
        up = torch.sigmoid((odds + torch.logit(uniform)) / self.temperature)
        return floor + up, up
