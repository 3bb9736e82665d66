"""A self-check that a model carries: does this machine compute the very numbers that the model's maker computed?

The probe walks through all networks of the decoder with made-up integers and hashes what they decide: means, tables, latents,
pixels. The hash is in the model file. Where it comes out otherwise, decoding would give other pixels or garbage, so the model
is refused before it decodes anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor

from batchcodec.errors import InexactMachineError
from batchcodec.learned.exact import numerics
from batchcodec.learned.hyperprior import coding
from batchcodec.learned.hyperprior.architecture import Architecture
from batchcodec.learned.hyperprior.engine import Engine
from batchcodec.learned.hyperprior.layer_engine import LayerEngine
from batchcodec.learned.hyperprior.network import Decoder

SIDE = 5
"""Latents of the probe are SIDE x SIDE: odd, with inner and outer positions, and hyper-latents of 2 x 2."""
QUALITIES = (1, 60)


def numbers(count: int, reach: int, seed: int) -> npt.NDArray[np.int64]:
    """Integers in -reach..reach, [count]: the high half of Knuth's multiplicative hash of seed, seed + 1, ..."""
    hashed = (np.arange(seed, seed + count, dtype=np.uint64) * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
    return ((hashed >> np.uint64(16)) % np.uint64(2 * reach + 1)).astype(np.int64) - reach


class _Probe:
    """The made-up integers, and the hash (XXH3-64) of what networks decide for them, in the order [N, C, ...]."""

    def __init__(self, arch: Architecture) -> None:
        shape = (len(QUALITIES), arch.hyper, 2, 2)
        self.z = numbers(int(np.prod(shape)), 7, 1).reshape(shape)
        self._hash = xxhash.xxh3_64()
        self._seed = 1000

    def code(self, mean: npt.NDArray[Any], index: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Integers for means and tables [N, C, n]."""
        self._seed += mean.size
        self._hash.update(mean.astype("<i4").tobytes())
        self._hash.update(index.astype("<i4").tobytes())
        return numbers(mean.size, 3, self._seed).reshape(mean.shape)

    def result(self, latents: npt.NDArray[Any], pixels: npt.NDArray[np.uint8]) -> int:
        """The hash, with latents [N, M, h, w] and pixels [N, C, H, W]."""
        self._hash.update(latents.astype("<i4").tobytes())
        self._hash.update(pixels.tobytes())
        return self._hash.intdigest()


def run(decoder: Decoder) -> int:
    """The hash of what the decoder's networks decide, as `network` has them."""
    probe = _Probe(decoder.arch)

    def code(i: int, at: Tensor, mean: Tensor, steps: Tensor, index: Tensor) -> Tensor:
        return torch.from_numpy(probe.code(mean.squeeze(2).numpy(), index.squeeze(2).numpy())).unsqueeze(2).float()

    with numerics(), torch.no_grad():
        conditions = coding.Conditions.of(decoder, np.array(QUALITIES, np.uint8))
        latents = coding.walk(decoder, torch.from_numpy(probe.z).float(), conditions, SIDE, SIDE, code)
        pixels = decoder.pixels(latents, conditions.plane.expand(-1, 1, SIDE, SIDE))
    return probe.result(latents.numpy(), pixels.numpy())


def run_engine(engine: Engine | LayerEngine, decoder: Decoder) -> int:
    """The hash of what the same networks decide as `engine` lays them out."""
    arch, probe = engine.arch, _Probe(engine.arch)

    def code(i: int, at: npt.NDArray[Any], mean: npt.NDArray[Any], index: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        k = probe.code(mean.transpose(0, 2, 1), index.transpose(0, 2, 1).astype(np.int64) - arch.hyper)
        return np.ascontiguousarray(k.transpose(0, 2, 1), np.int32)

    with numerics(), torch.no_grad():
        conditions = coding.Conditions.of(decoder, np.array(QUALITIES, np.uint8))
        latents = engine.walk(probe.z.transpose(0, 2, 3, 1), conditions, SIDE, SIDE, code)
        pixels = np.empty((len(latents), SIDE * arch.stride, SIDE * arch.stride, arch.channels), np.uint8)
        engine.pixels(latents, conditions.arrays[2], pixels)
    return probe.result(latents.transpose(0, 3, 1, 2), pixels.transpose(0, 3, 1, 2))


def checked(decoder: Decoder, expected: int) -> Engine:
    """An engine that computes what the hash in the model file says.

    Raises:
        InexactMachineError: this machine, or its libraries, compute other numbers.
    """
    engine = Engine(decoder)
    found = run_engine(engine, decoder)
    if found != expected:
        raise InexactMachineError(found, expected)
    return engine
