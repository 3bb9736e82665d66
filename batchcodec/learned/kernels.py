"""Loops around the matrix products of an exact network, in machine code: inputs to rows, sums to activations.

Activations are int8, integers of -127..127 in steps of their grid. *Sums* are int32, what weights and inputs as integers add
up to; times the `scale` of their channel and plus its `bias` they are in units of the grid that they go to, whole numbers and
fractions. All of it is exact (see `batchcodec.learned.exact`).

The loops run over flat arrays, channels last: `scale` and `bias` are float32 [c * O] for some c, repeated for c positions, so
that the inner loop is long. It has no call and no branch, and is vectorised.

Rounding: float32 + 1.5 * 2^23 has no room for a fraction, so adding and taking away that number rounds to the nearest, with
ties to even, as torch does.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numpy.typing import NDArray

from batchcodec.entropy._jit import jit
from batchcodec.learned.exact import ACT_LIMIT, SLOPE

_LIMIT = np.float32(ACT_LIMIT)
_SLOPE = np.float32(SLOPE)
_MAGIC = np.float32(3 << 22)

i32_in = types.Array(types.int32, 1, "C", readonly=True)
f32_in = types.Array(types.float32, 1, "C", readonly=True)
i8_out = types.Array(types.int8, 1, "C")
i32_out = types.Array(types.int32, 1, "C")
_i64_in = types.Array(types.int64, 1, "C", readonly=True)
_i64_out = types.Array(types.int64, 1, "C")


@jit(types.void(_i64_in, types.int64, types.int64, types.int64, types.int64, _i64_out))
def columns(x: NDArray[np.int64], height: int, width: int, depth: int, first: int, out: NDArray[np.int64]) -> None:
    """What a 3x3 kernel sees at some positions (im2col), eight channels in a word.

    Args:
        x: the words of int8 [N, height + 2, width + 2, 8 * depth], images with a border of zeros; flat.
        height: of the images without it.
        width: likewise.
        depth: words of a position.
        first: the first position, counted through all images row by row.
        out: the words of int8 [positions, 9 * 8 * depth], output: neighbour by neighbour; flat.
    """
    run, line = 3 * depth, (width + 2) * depth
    for r in range(len(out) // (3 * run)):
        at = first + r
        j, i, n = at % width, (at // width) % height, at // (width * height)
        start = (n * (height + 2) + i) * line + j * depth
        above = x[start : start + run]
        here = x[start + line : start + line + run]
        below = x[start + 2 * line : start + 2 * line + run]
        to = out[r * 3 * run : (r + 1) * 3 * run]
        for t in range(run):
            to[t] = above[t]
        for t in range(run):
            to[run + t] = here[t]
        for t in range(run):
            to[2 * run + t] = below[t]


@jit(types.void(i32_in, f32_in, f32_in, i8_out))
def activate(sums: NDArray[np.int32], scale: NDArray[np.float32], bias: NDArray[np.float32], out: NDArray[np.int8]) -> None:
    """LeakyReLU, rounding and clamp; flat arrays of one length."""
    step = len(scale)
    for start in range(0, len(sums), step):
        n = min(step, len(sums) - start)
        row, to = sums[start : start + n], out[start : start + n]
        for t in range(n):
            x = np.float32(row[t]) * scale[t] + bias[t]
            x = max(x, x * _SLOPE)
            x = min(max(x, -_LIMIT), _LIMIT)
            to[t] = np.int8(np.int32((x + _MAGIC) - _MAGIC))


@jit(types.void(i32_in, f32_in, f32_in, i8_out))
def add(sums: NDArray[np.int32], scale: NDArray[np.float32], bias: NDArray[np.float32], x: NDArray[np.int8]) -> None:
    """The end of a residual block: x + sums, rounded and clamped, in place; flat arrays of one length."""
    step = len(scale)
    for start in range(0, len(sums), step):
        n = min(step, len(sums) - start)
        row, to = sums[start : start + n], x[start : start + n]
        for t in range(n):
            y = np.float32(row[t]) * scale[t] + bias[t] + np.float32(to[t])
            y = min(max(y, -_LIMIT), _LIMIT)
            to[t] = np.int8(np.int32((y + _MAGIC) - _MAGIC))


@jit(types.void(i32_in, f32_in, f32_in, types.float32, i32_out))
def round_to(
    sums: NDArray[np.int32], scale: NDArray[np.float32], bias: NDArray[np.float32], limit: float, out: NDArray[np.int32]
) -> None:
    """Rounding and a clamp to at most 2^22, without a nonlinearity; flat arrays of one length."""
    step = len(scale)
    for start in range(0, len(sums), step):
        n = min(step, len(sums) - start)
        row, to = sums[start : start + n], out[start : start + n]
        for t in range(n):
            x = np.float32(row[t]) * scale[t] + bias[t]
            x = min(max(x, -limit), limit)
            to[t] = np.int32((x + _MAGIC) - _MAGIC)
