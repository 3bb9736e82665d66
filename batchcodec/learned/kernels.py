"""Loops after the products of an exact network, in machine code: sums to activations.

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
from numba import types
from numpy.typing import NDArray

from batchcodec.entropy._jit import jit
from batchcodec.learned.exact import ACT_LIMIT, SLOPE
from batchcodec.learned.products import Seen, zero_of

_LIMIT = np.float32(ACT_LIMIT)
_SLOPE = np.float32(SLOPE)
_MAGIC = np.float32(3 << 22)

i32_in = types.Array(types.int32, 1, "C", readonly=True)
f32_in = types.Array(types.float32, 1, "C", readonly=True)
i8_out = types.Array(types.int8, 1, "C")
_i16_out = types.Array(types.int16, 1, "C")
_u8_out = types.Array(types.uint8, 1, "C")


@jit([types.void(i32_in, f32_in, f32_in, out) for out in (i8_out, _i16_out, _u8_out)])
def activate(
    sums: NDArray[np.int32], scale: NDArray[np.float32], bias: NDArray[np.float32], out: NDArray[np.int8] | Seen
) -> None:
    """LeakyReLU, rounding and clamp, to int8 or to inputs of the next layer; flat arrays of one length."""
    step, zero = len(scale), np.int32(zero_of(out))
    for start in range(0, len(sums), step):
        n = min(step, len(sums) - start)
        row, to = sums[start : start + n], out[start : start + n]
        for t in range(n):
            x = np.float32(row[t]) * scale[t] + bias[t]
            x = max(x, x * _SLOPE)
            x = min(max(x, -_LIMIT), _LIMIT)
            to[t] = np.int32((x + _MAGIC) - _MAGIC) + zero


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
