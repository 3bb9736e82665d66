"""What the context model says of some positions, in one loop.

Layer by layer, such small matrices are as much calls and memory as products. Here a block of positions goes through all layers
while it is in the first caches, without the interpreter's lock.

numba keeps machine code for as long as the file of a function stays as it is. The loops called here are in other files: whoever
changes one of them has to change this file as well, or to delete `__pycache__`.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from batchcodec.entropy._jit import jit
from batchcodec.learned.hyperprior.kernels import copy, means, neighbours_of, tables
from batchcodec.learned.kernels import activate
from batchcodec.learned.layers import KINDS, Layer, words_type
from batchcodec.learned.products import ROOM, ROWS, Seen, convolved, room_for

BLOCK = 8 * ROWS
"""Positions that go through all layers together."""


@njit(inline="always")
def _sums(layer: Layer, x: Seen, n: int, sums: NDArray[np.int32]) -> None:
    """Of n positions."""
    weights, begins, _, _, n_in, n_out = layer
    convolved(x, 1, n, n_in, 1, weights, begins, n_out, sums[: n * n_out + ROOM])


@njit(inline="always")
def _active(layer: Layer, x: Seen, n: int, sums: NDArray[np.int32], out: Seen) -> None:
    """Activations of n positions as inputs [n, O], flat, to the beginning of `out`."""
    _sums(layer, x, n, sums)
    _, _, scale, bias, _, n_out = layer
    activate(sums[: n * n_out], scale, bias, out[: n * n_out])


@jit(
    [
        types.void(
            types.Array(types.int8, 3, "C", readonly=True),
            types.Array(types.int16, 4, "C", readonly=True),
            types.int64,
            types.Array(types.int64, 1, "C", readonly=True),
            types.Tuple([words_type, kind, kind, kind, kind]),  # type: ignore[no-untyped-call]
            types.Array(types.int16, 2, "C", readonly=True),
            types.int64,
            types.Array(types.int16, 3, "C"),
            types.Array(types.uint16, 3, "C"),
        )
        for kind in KINDS
    ]
)
def predict(
    known: NDArray[np.int8],
    features: NDArray[np.int16],
    column: int,
    positions: NDArray[np.int64],
    layers: tuple[Layer, Layer, Layer, Layer, Layer],
    log_step: NDArray[np.int16],
    n_hyper: int,
    mean: NDArray[np.int16],
    index: NDArray[np.uint16],
) -> None:
    """Means and tables of a pass.

    Args:
        known: what both passes look at, int8 [N, h * w, K].
        features: of all slices, int16 [N, h, w, M]; looked at where `mix` takes more than K channels.
        column: the first channel of the slice.
        positions: int64 [n], places among the h * w.
        layers: what the second pass makes of the first at its neighbours; then `mix`, the one after it, and the last ones for
            means and for scales. The first is of words, the others are alike.
        log_step: int16 [N, C], log2 of the quantiser steps in eighths.
        n_hyper: tables before those of the Gaussian bank.
        mean: int16 [N, n, C], output.
        index: uint16 [N, n, C], output.
    """
    own, mix, hidden, middle, spread = layers
    n_known, n_positions, depth = known.shape[2], len(positions), mix[4]
    n_seen, n_told, channels = own[4], own[5], middle[5]
    widest = max(max(n_told, mix[5]), max(hidden[5], channels))
    seen, told = room_for(own[0], BLOCK * n_seen), room_for(mix[0], BLOCK * n_told)
    x, mixed = room_for(mix[0], BLOCK * depth), room_for(hidden[0], BLOCK * mix[5])
    more = room_for(middle[0], BLOCK * hidden[5])
    sums = np.empty(BLOCK * widest + ROOM, np.int32)
    everything, earlier = known.reshape(-1), features.reshape(-1)
    total = known.shape[0] * n_positions
    for first in range(0, total, BLOCK):
        n = min(BLOCK, total - first)
        image, place = first // n_positions, first % n_positions
        for r in range(n):
            at = positions[place]
            copy(everything, (image * known.shape[1] + at) * n_known, x, r * depth, n_known)
            if depth > n_known:
                neighbours_of(earlier, features.shape, image, column, at, seen, r * n_seen, n_seen // 4)
            place += 1
            if place == n_positions:
                image, place = image + 1, 0
        if depth > n_known:
            _active(own, seen, n, sums, told)
            for r in range(n):
                copy(told, r * n_told, x, r * depth + n_known, n_told)
        _active(mix, x, n, sums, mixed)
        _active(hidden, mixed, n, sums, more)
        part = slice(first * channels, (first + n) * channels)
        _sums(middle, more, n, sums)
        means(sums[: n * channels], middle[2], middle[3], mean.reshape(-1)[part])
        _sums(spread, more, n, sums)
        tables(sums[: n * channels], spread[2], spread[3], first, n_positions, log_step, n_hyper, index.reshape(-1)[part])
