"""Proof of the decoded pixels: an exact digest, and for inexact codecs a sketch with a tolerance.

The digest is XXH3-64 of the decoded samples [N, H, W, C] in C order, little-endian. A codec that is exact must reproduce it.

A codec that decodes in floats may differ between machines, by at most 1 in any sample. No hash tolerates that, so its groups
also keep a sketch: the samples in C order are cut into `SKETCH_LENGTH` runs of equal length (the last ones may be one
shorter), and the sum of each run is stored. If each sample is within 1, each sum is within the length of its run. A wrong model
or a broken kernel moves some sum much further.
"""

from __future__ import annotations

import numpy as np

from batchcodec.archive.wire import checksum
from batchcodec.errors import DriftError
from batchcodec.types import Pixels

SKETCH_LENGTH = 8
TOLERANCE = 1
"""Steps that a sample of an inexact codec may differ by between machines."""


def digest(pixels: Pixels) -> int:
    """XXH3-64 of uint8 or uint16 samples in C order, little-endian."""
    little = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<"))
    return checksum(little.reshape(-1).view(np.uint8).data)


def sketch(pixels: Pixels, length: int = SKETCH_LENGTH) -> tuple[int, ...]:
    """Sums of `length` equal runs of the samples in C order."""
    runs = np.array_split(pixels.reshape(-1), length)
    return tuple(int(run.sum(dtype=np.uint64)) for run in runs)


def check(pixels: Pixels, expected_digest: int, expected_sketch: tuple[int, ...], *, exact: bool, where: str) -> None:
    """Compare decoded pixels with what was stored when they were packed.

    Raises:
        DriftError: they differ by more than the codec is allowed to.
    """
    if digest(pixels) == expected_digest:
        return
    if exact or not expected_sketch:
        raise DriftError(f"{where}: decoding gave other pixels than were packed (their digest differs)", where=where)
    n_samples = pixels.size
    for run, (got, stored) in enumerate(zip(sketch(pixels, len(expected_sketch)), expected_sketch, strict=True)):
        length = n_samples // len(expected_sketch) + (run < n_samples % len(expected_sketch))
        if abs(got - stored) > TOLERANCE * length:
            raise DriftError(
                f"{where}: decoding gave pixels that differ by more than {TOLERANCE} from those packed "
                f"(sum {got} instead of {stored} over {length} samples): wrong library, machine or model",
                where=where,
            )
