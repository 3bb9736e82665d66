"""A self-check that a model carries: does this machine compute the very numbers that the model's maker computed?

The probe walks through all networks of the decoder with made-up integers and hashes what they decide: means, tables, latents,
pixels. The hash is in the model file. Where it comes out otherwise, decoding would give other pixels or garbage, so the model
is refused before it decodes anything.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import xxhash
from torch import Tensor

from batchcodec.errors import InexactMachineError
from batchcodec.learned.exact import numerics
from batchcodec.learned.hyperprior import coding
from batchcodec.learned.hyperprior.network import Decoder

SIDE = 5
"""Latents of the probe are SIDE x SIDE: odd, with inner and outer positions, and hyper-latents of 2 x 2."""
QUALITIES = (1, 60)


def numbers(count: int, reach: int, seed: int) -> npt.NDArray[np.int64]:
    """Integers in -reach..reach, [count]: the high half of Knuth's multiplicative hash of seed, seed + 1, ..."""
    hashed = (np.arange(seed, seed + count, dtype=np.uint64) * np.uint64(2654435761)) & np.uint64(0xFFFFFFFF)
    return ((hashed >> np.uint64(16)) % np.uint64(2 * reach + 1)).astype(np.int64) - reach


def run(decoder: Decoder) -> int:
    """The hash (XXH3-64) of what the decoder's networks decide for the made-up integers."""
    arch = decoder.arch
    digest = xxhash.xxh3_64()
    z = numbers(len(QUALITIES) * arch.hyper * 4, 7, 1).reshape(len(QUALITIES), arch.hyper, 2, 2)
    seed = 1000

    def code(i: int, at: Tensor, mean: Tensor, steps: Tensor, index: Tensor) -> Tensor:
        nonlocal seed
        seed += mean.numel()
        digest.update(mean.numpy().astype("<i4").tobytes())
        digest.update(index.numpy().astype("<i4").tobytes())
        return torch.from_numpy(numbers(mean.numel(), 3, seed).reshape(mean.shape)).float()

    with numerics(), torch.no_grad():
        conditions = coding.Conditions.of(decoder, np.array(QUALITIES, np.uint8))
        latents = coding.walk(decoder, torch.from_numpy(z).float(), conditions, SIDE, SIDE, code)
        pixels = decoder.pixels(latents, conditions.plane.expand(-1, 1, SIDE, SIDE))
    digest.update(latents.numpy().astype("<i4").tobytes())
    digest.update(pixels.numpy().tobytes())
    return digest.intdigest()


def check(decoder: Decoder, expected: int) -> None:
    """Compare with the hash in the model file.

    Raises:
        InexactMachineError: this machine, or its libraries, compute other numbers.
    """
    found = run(decoder)
    if found != expected:
        raise InexactMachineError(found, expected)
