"""Grain: noise in the place of what was too faint to be coded.

A latent whose integer is 0 was something between half a step less and half a step more than its mean. Its mean is the best
guess where squared error is what counts, and a picture of best guesses is smooth: texture that is fainter than a quantiser step
is gone, and a network that learns from such pictures does not know it when it sees it. But the entropy model says how large
such latents are. With grain they get noise of that size, which brings back how rough a texture is, though not the texture
itself. Audio codecs have long done so (perceptual noise substitution: Herre and Schulz 1998); film grain synthesis in video
codecs is akin (Norkin and Birkbeck 2018).

The noise is integers made of integers, the same on every machine and for whichever images of a group are asked for.
`docs/hyperprior-1.md` is the law.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from batchcodec.entropy import gaussian
from batchcodec.entropy._jit import jit
from batchcodec.learned.hyperprior.network import LATENT_LIMIT

SIZES = np.full(gaussian.N_SCALES, 128, np.int32)
"""For each scale of the Gaussian bank, the largest noise in 2^-8 of a step, half a step at most: int32 [81].

Noise that is even from -a to a is as strong as what is lost where the integer is 0: a is sqrt(3) times the root mean square
that was measured there, of satellite tiles with the model `photo-rgb`; it hardly depends on the quality (1, 25 and 55 were
tried). It is below what a Gaussian would leave, as latents have longer tails, and far below it with table 0, which is for all
that is smaller still.
"""
SIZES[:40] = [
    *(24, 56, 61, 66, 71, 76, 81, 85, 90, 94, 98, 101, 105, 108, 110, 113, 115, 117, 118, 119),
    *(120, 121, 122, 123, 123, 124, 124, 125, 125, 126, 126, 126, 126, 126, 127, 127, 127, 127, 127, 127),
]  # fmt: skip

_GOLDEN, _FIRST, _SECOND = np.uint32(0x9E3779B9), np.uint32(0x7FEB352D), np.uint32(0x846CA68B)
_16, _15, _18, _HUNDRED = np.uint32(16), np.uint32(15), np.uint32(18), np.uint32(100)


@njit(inline="always")
def _mixed(x: np.uint32) -> np.uint32:
    """32 bits to 32 others, each of which depends on all: the constants are Wellons' "lowbias32" (2018)."""
    x = np.uint32(np.uint32(x ^ (x >> _16)) * _FIRST)
    x = np.uint32(np.uint32(x ^ (x >> _15)) * _SECOND)
    return np.uint32(x ^ (x >> _16))


@jit(
    types.void(
        types.Array(types.int32, 2, "C", readonly=True),
        types.Array(types.int64, 1, "C", readonly=True),
        types.Array(types.uint32, 1, "C"),
    )
)
def seeds_of(z: NDArray[np.int32], places: NDArray[np.int64], out: NDArray[np.uint32]) -> None:
    """What the noise of each plane starts from: its place in the group, and its hyper-latents.

    Args:
        z: hyper-latents of each plane, int32 [N, n].
        places: of the planes in their group, int64 [N].
        out: uint32 [N], output.
    """
    for i in range(len(z)):
        seed = _mixed(np.uint32(places[i]))
        for t in range(z.shape[1]):
            seed = _mixed(np.uint32(seed + np.uint32(z[i, t]) + _GOLDEN))
        out[i] = seed


@jit(
    types.void(
        types.Array(types.int32, 3, "C", readonly=True),
        types.Array(types.uint16, 3, "C", readonly=True),
        types.Array(types.int16, 2, "C", readonly=True),
        types.Array(types.int64, 1, "C", readonly=True),
        *[types.int64] * 3,
        types.Array(types.uint32, 1, "C", readonly=True),
        types.Array(types.int16, 3, "C"),
    )
)
def sprinkle(
    k: NDArray[np.int32],
    index: NDArray[np.uint16],
    steps: NDArray[np.int16],
    positions: NDArray[np.int64],
    column: int,
    n_hyper: int,
    grain: int,
    seeds: NDArray[np.uint32],
    out: NDArray[np.int16],
) -> None:
    """The noise of one pass, into its places.

    Args:
        k: the integers, int32 [N, n, C].
        index: their tables, uint16 [N, n, C].
        steps: quantiser steps, int16 [N, M].
        positions: of the pass, int64 [n], places among the h * w.
        column: the first channel of the slice.
        n_hyper: tables before those of the Gaussian bank.
        grain: percent, 1 to 100.
        seeds: of the planes, from `seeds_of`, uint32 [N].
        out: gray levels, int16 [N, h * w, M], output.
    """
    n_planes, n_positions, channels = k.shape
    depth = out.shape[2]
    step, largest, draws = np.empty(channels, np.uint32), np.empty(channels, np.int32), np.empty(channels, np.int32)
    numbered = np.arange(channels).astype(np.uint32)
    for plane in range(n_planes):
        for c in range(channels):
            step[c] = np.uint32(grain) * np.uint32(steps[plane, column + c])
        seed = seeds[plane]
        for i in range(n_positions):
            numbers, tables = k[plane, i], index[plane, i]
            noise = out[plane, positions[i], column : column + channels]
            for c in range(channels):  # in 2^-8 gray levels, below 2^17
                size = np.uint32(SIZES[np.int32(tables[c]) - np.int32(n_hyper)])
                largest[c] = np.int32(np.uint32(step[c] * size) // _HUNDRED) * np.int32(numbers[c] == 0)
            first = np.uint32(seed + np.uint32(positions[i] * depth + column))
            for c in range(channels):
                draws[c] = np.int32(_mixed(np.uint32(first + numbered[c])) >> _18)
            for c in range(channels):
                draw = np.int32(draws[c] - np.int32(8192))  # 14 bits
                part = np.int32(largest[c] * np.int32(np.int32(draw + draw) + np.int32(1)))  # within 31 bits
                noise[c] = np.int16(np.int32(part + np.int32(1 << 21)) >> np.int32(22))


def add(noise: NDArray[np.int16], latents: NDArray[np.int16]) -> None:
    """Noise, 512 at most, to latents, in place and within their limits; arrays of one shape."""
    np.clip(latents + noise, -LATENT_LIMIT, LATENT_LIMIT, out=latents)
