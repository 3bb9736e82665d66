"""A fixed bank of integer tables for rounded zero-mean Gaussians, on a logarithmic grid of standard deviations.

Table i = 0..80 is for the standard deviation sigma = 2^((i - 24) / 8): from an eighth of a step to 128 steps. Its symbols are
the integers -R..R and one escape, in the order of `batchcodec.entropy.values`, with R = min(255, ceil(4.5 sigma) + 1).

Everything is integer arithmetic, so the bank is the same on every machine. Numbers are fixed-point with F = 96 fractional bits;
">>" rounds down:

- 2^(j/8) for j = 0..7 is three integer square roots, each rounded down, of 2^(8 F + j).
- u = 1 / (sigma sqrt 2) is 2^(part/8) shifted by whole octaves, times floor(2^(F - 1/2)), >> F.
- A(k), the integral of exp(-t^2) from 0 to x = (2 k + 1) u >> 1, is the Maclaurin series sum of (-1)^n p(n) / (2 n + 1) with
  p(0) = x, p(n) = floor((p(n-1) x^2 >> F) / n) where x^2 = x x >> F, each term rounded down, until p(n) is 0. Beyond x = 7 it
  is A(infinity) = floor(sqrt(pi) / 2 * 2^F).
- The count of an integer k is A(|k|) - A(|k| - 1), that of 0 is 2 A(0), and that of the escape 2 (A(infinity) - A(R)); each at
  least 0 and >> 56.
- `tables.quantise_counts` makes frequencies of the counts.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from math import isqrt

import numpy as np

from batchcodec.entropy.tables import U32, quantise_counts

N_SCALES = 81
SCALES_PER_OCTAVE = 8
FIRST_LOG2 = -3
"""log2 of the smallest standard deviation."""

_F = 96
_ONE = 1 << _F
_COUNT_BITS = 40
_SQRT_PI_HALF = 70214130874287938027713472774
"""floor(sqrt(pi) / 2 * 2^96)."""


def _eighth_powers() -> list[int]:
    """floor(2^(F + j / 8)) for j = 0..7."""
    roots = []
    for j in range(8):
        # the eighth root of 2^(8 F + j), by three square roots, each rounded down
        x = 1 << (8 * _F + j)
        for _ in range(3):
            x = isqrt(x)
        roots.append(x)
    return roots


def _scaled_erf(numerator: int, inverse: int) -> int:
    """Integral of exp(-t^2) from 0 to x = numerator / 2 * inverse, all with F fractional bits."""
    x = numerator * inverse >> 1
    square = x * x >> _F
    total, power, n = 0, x, 0
    while power:
        term = power // (2 * n + 1)
        total += -term if n % 2 else term
        n += 1
        power = (power * square >> _F) // n
    return total


@cache
def frequencies() -> tuple[U32, ...]:
    """The bank: for each standard deviation the frequencies, uint32 [2 R + 2], summing to 2^16, the escape last."""
    roots = _eighth_powers()
    root_half = isqrt(1 << (2 * _F - 1))  # 2^(F - 1/2)
    rows = []
    for i in range(N_SCALES):
        # 1 / sigma = 2^((24 - i) / 8) = 2^octaves * 2^(part / 8)
        octaves, part = divmod(-FIRST_LOG2 * SCALES_PER_OCTAVE - i, 8)
        inverse = roots[part] << octaves if octaves >= 0 else roots[part] >> -octaves
        inverse_root2 = inverse * root_half >> _F
        sigma9 = (9 << (2 * _F)) // (2 * inverse)  # 4.5 sigma with F bits
        reach = min(255, -(-sigma9 >> _F) + 1)
        limit = 7 * _ONE  # erf differs from 1 by less than 2^-70 there, and the series would need more bits
        ends = []
        for k in range(reach + 1):
            beyond = (2 * k + 1) * inverse_root2 >> 1 > limit
            ends.append(_SQRT_PI_HALF if beyond else _scaled_erf(2 * k + 1, inverse_root2))
        drop = _F - _COUNT_BITS
        sizes = [2 * ends[0] >> drop]
        for low, high in pairwise(ends):
            sizes += [max(0, high - low) >> drop] * 2
        sizes.append(max(0, _SQRT_PI_HALF - ends[-1]) * 2 >> drop)
        rows.append(quantise_counts(np.array([sizes], np.int64))[0])
    return tuple(rows)
