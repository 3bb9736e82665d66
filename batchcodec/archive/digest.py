"""Proof of the decoded pixels: an exact digest, and for inexact codecs a sketch with a tolerance.

The digest is XXH3-64 of the decoded samples [N, H, W, C] in C order, little-endian. A codec that is exact must reproduce it.

A codec that decodes in floats, or by another library's routines, may differ a little between machines. No hash tolerates that,
so its groups also keep a sketch: the samples in C order are cut into `SKETCH_LENGTH` runs of equal length (the last ones may
be one shorter), and of each run two sums are kept, modulo 2^32: of the samples, and of the samples with pseudo-random signs.
Pixels with another digest are still accepted if, for the n samples of each run,

- the sums differ by at most n: that bounds a change of brightness to 1;
- the signed sums differ by at most 10 sqrt(n). Whatever the errors are, as long as they do not know the signs, their signed sum
  spreads like their root mean square times sqrt(n): 1 or 2 always pass, and 20 is found in 1,999 of 2,000 groups.

The sign of sample i is + where bit i mod 64 of the (i // 64)-th output of SplitMix64 with seed 0 is set (Steele, Lea & Flood
2014, "Fast splittable pseudorandom number generators").
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchcodec.archive.wire import checksum
from batchcodec.errors import DriftError
from batchcodec.types import Pixels

SKETCH_LENGTH = 8
SPREAD = 10
"""Signed sums may differ by this times the square root of the number of samples."""

_MODULUS = 1 << 32


def digest(pixels: Pixels) -> int:
    """XXH3-64 of uint8 or uint16 samples in C order, little-endian."""
    little = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return checksum(little.reshape(-1).view(np.uint8).data)


def signs(n_samples: int) -> npt.NDArray[np.int8]:
    """1 or -1 for each sample: int8 [n_samples]."""
    state = np.arange(1, -(-n_samples // 64) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        state = (state ^ (state >> np.uint64(shift))) * np.uint64(factor)
    state ^= state >> np.uint64(31)
    bits = np.unpackbits(state.astype("<u8").view(np.uint8), bitorder="little")[:n_samples]
    return 2 * bits.astype(np.int8) - 1


def sketch(pixels: Pixels, length: int = SKETCH_LENGTH) -> tuple[int, ...]:
    """Of each of `length` runs of the samples: the sum, and the signed sum times 2^32, each modulo 2^32."""
    samples = pixels.reshape(-1)
    values = []
    for run, sign in zip(np.array_split(samples, length), np.array_split(signs(samples.size), length), strict=True):
        total, positive = int(run.sum(dtype=np.int64)), int(run.sum(dtype=np.int64, where=sign > 0))
        values.append(total % _MODULUS | (2 * positive - total) % _MODULUS << 32)
    return tuple(values)


def check(pixels: Pixels, expected_digest: int, expected_sketch: tuple[int, ...], *, exact: bool, where: str) -> bool:
    """Compare decoded pixels with what was stored when they were packed; whether they are the very same.

    Raises:
        DriftError: they differ by more than the codec is allowed to.
    """
    if digest(pixels) == expected_digest:
        return True
    if exact or not expected_sketch:
        raise DriftError(f"{where}: decoding gave other pixels than were packed (their digest differs)", where=where)
    n_samples, length = pixels.size, len(expected_sketch)
    for run, (got, stored) in enumerate(zip(sketch(pixels, length), expected_sketch, strict=True)):
        n = n_samples // length + (run < n_samples % length)
        if abs(_difference(got, stored)) > n or _difference(got >> 32, stored >> 32) ** 2 > SPREAD**2 * n:
            raise DriftError(
                f"{where}: decoding gave pixels that differ by more than rounding from those packed: "
                "wrong library, machine or model",
                where=where,
            )
    return False


def _difference(a: int, b: int) -> int:
    """The difference a - b modulo 2^32, from -2^31 to 2^31 - 1."""
    return (a - b + _MODULUS // 2) % _MODULUS - _MODULUS // 2
