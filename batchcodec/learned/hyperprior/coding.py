"""Latents to bytes and back: the one walk through slices and passes that encoder and decoder share.

Order of the coded integers, all images of the group in each step: qualities (where they differ), hyper-latents, then for each
slice its two passes. `docs/hyperprior-1.md` is the law.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from batchcodec.entropy import gaussian
from batchcodec.learned.exact import GRID_BITS
from batchcodec.learned.hyperprior.network import (
    HYPER_LIMIT,
    LATENT_LIMIT,
    SCALE_STEPS,
    Decoder,
    Slice,
    features,
    log_steps,
    passes,
    put,
    take,
)

Code = Callable[[int, Tensor, Tensor, Tensor, Tensor], Tensor]
"""Of one pass of a slice: (slice, positions, means, steps, table index) -> k, the coded integers; float32 [N, C, 1, n] each."""


@dataclass(frozen=True)
class Steps:
    """What the networks are told of an image beside its bits, for each of the qualities 1..100.

    Attributes:
        steps: quantiser steps, integers, float32 [100, M, 1, 1].
        log_step: log2 of them in eighths, int64 [100, M, 1, 1].
        plane: the quality plane, float32 [100, 1, 1, 1].
    """

    steps: Tensor
    log_step: Tensor
    plane: Tensor

    @classmethod
    def of(cls, decoder: Decoder) -> Steps:
        """Of a decoder."""
        steps, plane = decoder.steps_at(torch.arange(100.0))
        return cls(steps.detach(), torch.from_numpy(log_steps())[steps.detach().long()], plane)

    @cached_property
    def arrays(self) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16], npt.NDArray[np.int8]]:
        """The same for `engine`: steps and their logarithms, int16 [100, M], and planes as activations, int8 [100]."""
        steps = self.steps.flatten(1).numpy().astype(np.int16)
        log_step = self.log_step.flatten(1).numpy().astype(np.int16)
        return steps, log_step, (self.plane.flatten().numpy() * 2.0**GRID_BITS).astype(np.int8)

    def to(self, device: torch.device) -> Steps:
        """On a device."""
        return Steps(self.steps.to(device), self.log_step.to(device), self.plane.to(device))


@dataclass(frozen=True)
class Conditions:
    """The same for images, looked up when it is asked for: reading one image wants the arrays alone.

    Attributes:
        every: for each of the qualities.
        qualities: of the images, 1..100, uint8 [N].
    """

    every: Steps
    qualities: npt.NDArray[np.uint8]

    @classmethod
    def of(cls, decoder: Decoder, qualities: npt.NDArray[np.uint8]) -> Conditions:
        """For the qualities 1..100 of the images, uint8 [N]."""
        return cls(Steps.of(decoder), qualities)

    @cached_property
    def _rows(self) -> npt.NDArray[np.int64]:
        return self.qualities.astype(np.int64) - 1

    def _taken(self, every: Tensor) -> Tensor:
        return every.index_select(0, torch.from_numpy(self._rows).to(every.device))

    @cached_property
    def steps(self) -> Tensor:
        """Quantiser steps, integers, float32 [N, M, 1, 1]."""
        return self._taken(self.every.steps)

    @cached_property
    def log_step(self) -> Tensor:
        """log2 of them in eighths, int64 [N, M, 1, 1]."""
        return self._taken(self.every.log_step)

    @cached_property
    def plane(self) -> Tensor:
        """The quality plane, float32 [N, 1, 1, 1]."""
        return self._taken(self.every.plane)

    @cached_property
    def arrays(self) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int16], npt.NDArray[np.int8]]:
        """The same for `engine`: steps and their logarithms, int16 [N, M], and planes as activations, int8 [N]."""
        steps, log_step, plane = self.every.arrays
        return steps[self._rows], log_step[self._rows], plane[self._rows]

    def __getitem__(self, rows: slice | list[int]) -> Conditions:
        return Conditions(self.every, self.qualities[rows])

    def to(self, device: torch.device) -> Conditions:
        """On a device."""
        return Conditions(self.every.to(device), self.qualities)


def table_index(scale: Tensor, log_step: Tensor) -> Tensor:
    """The Gaussian table of scales [N, C, 1, n] at steps of log2 `log_step` [N, C, 1, 1]: 0..80."""
    start = -gaussian.FIRST_LOG2 * SCALE_STEPS
    return (scale - log_step + start).clamp(0, gaussian.N_SCALES - 1)


def walk(decoder: Decoder, z: Tensor, conditions: Conditions, height: int, width: int, code: Code) -> Tensor:
    """The latents [N, M, height, width], pass by pass: `code` is asked for the integers of each.

    Args:
        decoder: the networks.
        z: hyper-latents, integers, float32 [N, Z, ceil(height / 4), ceil(width / 4)].
        conditions: of the same images.
        height: of the latents.
        width: of the latents.
        code: gives the integers of a pass, from its means, steps and tables.
    """
    arch = decoder.arch
    h = decoder.hyper_synthesis(z, height, width)
    plane = conditions.plane.expand(-1, 1, height, width)
    positions = passes(height, width, z.device)
    done: list[Tensor] = []
    for i, module in enumerate(decoder.slices):
        part = cast(Slice, module)
        channels = arch.channels_of(i)
        steps, log_step = conditions.steps[:, channels], conditions.log_step[:, channels]
        earlier = features(torch.cat(done, 1), decoder.exact) if done else None
        shared = part.shared(h, plane, earlier)
        coded: list[Tensor] = []
        for n_pass, at in enumerate(positions):
            if not len(at):  # a single position has no second pass
                continue
            own = None
            if n_pass:
                first = put(coded, positions[:1], height, width)
                own = take(part.own(features(first, decoder.exact)), at)
            mean, scale = part.parameters_at(take(shared, at), own)
            k = code(i, at, mean, steps, table_index(scale, log_step))
            coded.append((mean + k * steps).clamp(-LATENT_LIMIT, LATENT_LIMIT))
        done.append(put(coded, positions[: len(coded)], height, width))
    return torch.cat(done, 1)


def clamp_hyper(z: Tensor) -> Tensor:
    """Rounded hyper-latents."""
    return torch.round(z).clamp(-HYPER_LIMIT, HYPER_LIMIT)
