"""Scalar quantisation of latents to uint8 with one range for each channel, fixed at training.

A latent y of channel c becomes `q = clip(round((y - low[c]) / step[c]), 0, 255)` and comes back as `low[c] + q * step[c]`.
With plain training (the paper) the range spans what the training images reached: `step = (max - min) / 255`. With a rate term
the network itself learned on a grid of step 1, so the range is 256 such steps around the middle, and entropy coding gains
from the levels that are never used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVELS = 256
LARGEST = 1 << 32
"""Of latents: float32 holds their squares as well, and nothing sensible is near it."""


@dataclass(frozen=True)
class Quantiser:
    """`low` and `step`: float32 [C]."""

    low: npt.NDArray[np.float32]
    step: npt.NDArray[np.float32]

    @property
    def largest(self) -> float:
        """The largest magnitude of a latent that comes back."""
        low, step = self.low.astype(np.float64), self.step.astype(np.float64)
        return float(np.abs([low, low + (LEVELS - 1) * step]).max())

    @classmethod
    def spanning(cls, smallest: npt.NDArray[np.float32], largest: npt.NDArray[np.float32], *, unit_step: bool) -> Quantiser:
        """A range for latents between these values ([C] each).

        Args:
            smallest: of each channel over the training images.
            largest: of each channel over the training images.
            unit_step: keep the integer grid where 256 levels of it are enough.
        """
        step = np.maximum((largest - smallest) / (LEVELS - 1), 1e-6).astype(np.float32)
        if not unit_step:
            return cls(smallest.astype(np.float32), step)
        step = np.maximum(step, 1)
        middle = np.rint((smallest + largest) / 2 / step) * step
        return cls((middle - LEVELS // 2 * step).astype(np.float32), step)

    def quantise(self, y: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
        """Float32 latents [N, C, h, w] to uint8."""
        low, step = self.low[:, None, None], self.step[:, None, None]
        levels: npt.NDArray[np.uint8] = np.clip(np.rint((y - low) / step), 0, LEVELS - 1).astype(np.uint8)
        return levels

    def dequantise(self, q: npt.NDArray[np.uint8 | np.float32]) -> npt.NDArray[np.float32]:
        """uint8 latents [N, C, h, w], or float32 values between them, back to float32."""
        return (self.low[:, None, None] + q.astype(np.float32) * self.step[:, None, None]).astype(np.float32)
