"""Loops around the matrix products of an exact network, in machine code: inputs to rows, sums to activations.

Activations are int8, integers of -127..127 in steps of their grid. *Sums* are what weights and inputs as integers add up to,
int32; times the `scale` of their channel and plus its `bias` they are in units of the grid
that they go to, whole numbers and fractions. All of it is exact (see `batchcodec.learned.exact`).

The loops run over flat arrays, channels last: `scale` and `bias` are float32 [c * O] for some c, repeated for c positions, so
that the inner loop is long. It has no call and no branch, and is vectorised.

Rounding: float32 + 1.5 * 2^23 has no room for a fraction, so adding and taking away that number rounds to the nearest, with
ties to even, as torch does.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numpy.typing import NDArray

from batchcodec.entropy._jit import jit
from batchcodec.learned.exact import ACT_LIMIT, SLOPE

_LIMIT = np.float32(ACT_LIMIT)
_SLOPE = np.float32(SLOPE)
_MAGIC = np.float32(3 << 22)
_HALF, _HIGH, _BYTE = np.int16(128), np.int16(-256), np.int16(8)

i32_in = types.Array(types.int32, 1, "C", readonly=True)
f32_in = types.Array(types.float32, 1, "C", readonly=True)
i8_out = types.Array(types.int8, 1, "C")
_i16_in = types.Array(types.int16, 1, "C", readonly=True)
_i16_out = types.Array(types.int16, 1, "C")
_i64_in = types.Array(types.int64, 1, "C", readonly=True)
_i64_out = types.Array(types.int64, 1, "C")


@njit(inline="always")
def _columns(x: NDArray[np.int64], height: int, width: int, depth: int, first: int, out: NDArray[np.int64]) -> None:
    """`columns`, for one depth."""
    run, line = 3 * depth, (width + 2) * depth
    j, i, n = first % width, (first // width) % height, first // (width * height)
    at = (n * (height + 2) + i) * line + j * depth
    for start in range(0, len(out), 3 * run):
        above, here, below = x[at : at + run], x[at + line : at + line + run], x[at + 2 * line : at + 2 * line + run]
        to, then, last = out[start : start + run], out[start + run : start + 2 * run], out[start + 2 * run : start + 3 * run]
        for t in range(run):
            to[t] = above[t]
        for t in range(run):
            then[t] = here[t]
        for t in range(run):
            last[t] = below[t]
        at += depth
        j += 1
        if j == width:  # over the border, to the next row
            j = 0
            i += 1
            at += 2 * depth
            if i == height:
                i = 0
                at += 2 * line


@jit(types.int64(_i16_in, types.int64, _i16_out))
def n_wide(x: NDArray[np.int16], channels: int, flags: NDArray[np.int16]) -> int:
    """How many of the channels, from the first, have to be looked at to see all that need more than a byte.

    Args:
        x: int16 [positions, channels], flat.
        channels: number of channels.
        flags: int16 [c * channels] for some c, zeros at first, overwritten.
    """
    step = len(flags)
    for start in range(0, len(x), step):
        n = min(step, len(x) - start)
        row = x[start : start + n]
        for t in range(n):
            flags[t] |= (row[t] + _HALF) & _HIGH
    last = 0
    for t in range(step):
        if flags[t]:
            last = max(last, t % channels + 1)
    return last


@jit(types.void(_i16_in, types.int64, types.int64, types.int64, types.int64, types.boolean, i8_out))
def bordered(
    x: NDArray[np.int16], height: int, width: int, channels: int, padded: int, high: bool, out: NDArray[np.int8]
) -> None:
    """The low or high bytes of images with a border of zeros.

    Args:
        x: int16 [N, height, width, channels], flat; x = 256 * high + low, with low from -128 to 127.
        height: of the images.
        width: likewise.
        channels: of x.
        padded: channels of the output: the first ones of x, or all of them and zeros.
        high: whether high bytes are wanted.
        out: int8 [N, height + 2, width + 2, padded], zeros at first, output; flat.
    """
    some = min(channels, padded)
    for line in range(len(x) // (width * channels)):
        n, i = line // height, line % height
        start = ((n * (height + 2) + i + 1) * (width + 2) + 1) * padded
        for j in range(width):
            row, to = x[(line * width + j) * channels :], out[start + j * padded :]
            if high:
                for c in range(some):
                    to[c] = np.int8((row[c] + _HALF) >> _BYTE)
            else:
                for c in range(some):
                    to[c] = np.int8(row[c])


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
    # constants of few words unroll: a loop of three rounds costs more than what it copies
    if depth == 1:
        _columns(x, height, width, 1, first, out)
    elif depth == 2:
        _columns(x, height, width, 2, first, out)
    elif depth == 3:
        _columns(x, height, width, 3, first, out)
    else:
        _columns(x, height, width, depth, first, out)


@jit([types.void(i32_in, f32_in, f32_in, out) for out in (i8_out, _i16_out)])
def activate(
    sums: NDArray[np.int32], scale: NDArray[np.float32], bias: NDArray[np.float32], out: NDArray[np.int8] | NDArray[np.int16]
) -> None:
    """LeakyReLU, rounding and clamp; flat arrays of one length."""
    step = len(scale)
    for start in range(0, len(sums), step):
        n = min(step, len(sums) - start)
        row, to = sums[start : start + n], out[start : start + n]
        for t in range(n):
            x = np.float32(row[t]) * scale[t] + bias[t]
            x = max(x, x * _SLOPE)
            x = min(max(x, -_LIMIT), _LIMIT)
            to[t] = np.int32((x + _MAGIC) - _MAGIC)


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


@jit(types.void(i32_in, f32_in, f32_in, types.Array(types.float32, 1, "C")))
def accumulate(
    sums: NDArray[np.int32], scale: NDArray[np.float32], bias: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    """What sums give is added to an output, not rounded; flat arrays of one length."""
    step = len(scale)
    for start in range(0, len(sums), step):
        n = min(step, len(sums) - start)
        row, to = sums[start : start + n], out[start : start + n]
        for t in range(n):
            to[t] += np.float32(row[t]) * scale[t] + bias[t]
