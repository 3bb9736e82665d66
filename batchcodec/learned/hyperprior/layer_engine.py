"""The decoder's networks by the layers that they are defined by: on a GPU, and to compare with.

It does what `engine.Engine` does, for another device: integers go to it and from it as arrays, and stay on the CPU for entropy
coding. In between, everything is on the device. Exactness there rests on `exact.ExactConv2d`, which on CUDA is a matrix product
in IEEE float32, and on the self-check of each model, which runs on the device before it decodes anything.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchcodec.learned.exact import GRID_BITS
from batchcodec.learned.hyperprior import coding
from batchcodec.learned.hyperprior.engine import Activations, Code, Latents
from batchcodec.learned.hyperprior.network import Decoder


class LayerEngine:
    """The networks of a decoder on a device.

    Args:
        decoder: with frozen weights.
        device: such as "cuda"; "cpu" computes the same, slower than `engine.Engine`.
    """

    def __init__(self, decoder: Decoder, device: str) -> None:
        self.arch, self.device = decoder.arch, torch.device(device)
        self._decoder = copy.deepcopy(decoder).to(self.device)

    def walk(self, z: NDArray[np.integer[Any]], conditions: coding.Conditions, height: int, width: int, code: Code) -> Latents:
        """The latents, int16 [N, height, width, M], pass by pass; see `engine.Engine.walk`."""

        def on_device(i: int, at: Tensor, mean: Tensor, steps: Tensor, index: Tensor) -> Tensor:
            tables = _rows(index).astype(np.uint16) + np.uint16(self.arch.hyper)
            k = code(i, at.cpu().numpy(), _rows(mean).astype(np.int16), tables)
            # beyond this a latent is clamped whatever it is, and float32 would no longer be exact
            numbers = torch.from_numpy(np.clip(k, -(1 << 13), 1 << 13).astype(np.float32))
            return numbers.to(self.device).permute(0, 2, 1).unsqueeze(2)

        tensor = torch.from_numpy(z.astype(np.float32)).permute(0, 3, 1, 2).to(self.device)
        latents = coding.walk(self._decoder, tensor, conditions.to(self.device), height, width, on_device)
        return np.ascontiguousarray(latents.permute(0, 2, 3, 1).cpu().numpy().astype(np.int16))

    def pixels(self, latents: Latents, plane: Activations, out: NDArray[np.uint8], first: int = 0) -> None:
        """Gray levels of some lines of latents, into uint8 [N, lines * stride, w * stride, C]; see `engine.Engine.pixels`."""
        y = torch.from_numpy(latents).to(self.device).permute(0, 3, 1, 2).float()
        y = y.contiguous(memory_format=torch.channels_last)
        planes = torch.from_numpy(plane).to(self.device).float()[:, None, None, None] * 2.0**-GRID_BITS
        pixels = self._decoder.pixels(y, planes.expand(-1, 1, *y.shape[2:]))
        top = first * self.arch.stride
        out[...] = pixels[:, :, top : top + out.shape[1]].permute(0, 2, 3, 1).cpu().numpy()


def _rows(x: Tensor) -> NDArray[Any]:
    """[N, C, 1, n] in the order of the bitstream, [N, n, C], contiguous."""
    return np.ascontiguousarray(x.squeeze(2).permute(0, 2, 1).cpu().numpy())
