"""Tables of a trained model: frequencies of the hyper-latents, and of the integers that each Gaussian scale is used for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from batchcodec.entropy import gaussian
from batchcodec.entropy.tables import quantise_counts

Counts = npt.NDArray[np.int64]
PRIOR_COUNT = 200
"""Of each scale, what the Gaussian weighs beside the counted integers."""


def hyper_tables(z: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.uint16]]:
    """Tables of hyper-latents, integers [n, Z]: for each channel -R..R and an escape, R the largest seen plus 1."""
    rows = []
    for column in z.T:
        reach = int(np.abs(column).max(initial=0)) + 1
        zigzag = np.where(column > 0, 2 * column - 1, -2 * column)
        counts = np.bincount(zigzag, minlength=2 * reach + 2).astype(np.int64)
        counts = counts * 64 + 1  # what was never seen still has a chance
        rows.append(quantise_counts(counts[None])[0])
    return _flat("hyper", rows)


def scale_tables(values: npt.NDArray[np.int64], index: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.uint16]]:
    """Tables of the Gaussian scales, from integers [n] and the scale 0..80 of each: counts beside the Gaussian."""
    zigzag = np.where(values > 0, 2 * values - 1, -2 * values)
    order = np.argsort(index, kind="stable")
    bounds = np.searchsorted(index[order], np.arange(gaussian.N_SCALES + 1))
    rows = []
    for i, prior in enumerate(gaussian.frequencies()):
        here = np.minimum(zigzag[order[bounds[i] : bounds[i + 1]]], len(prior) - 1)
        counts = np.bincount(here, minlength=len(prior)).astype(np.int64)
        # left and right of zero count alike: the Gaussian is symmetric, and so are residuals
        both = counts[1:-1].reshape(-1, 2).sum(1)
        counts[1:-1] = np.repeat(both, 2)
        counts[0] *= 2
        counts[-1] *= 2
        rows.append(quantise_counts((counts * 1000 + prior.astype(np.int64) * PRIOR_COUNT * 1000 * 2 // 65536 + 1)[None])[0])
    return _flat("scales", rows)


def _flat(name: str, rows: Sequence[npt.NDArray[np.uint32]]) -> dict[str, npt.NDArray[np.uint16]]:
    return {
        f"{name}.sizes": np.array([len(row) for row in rows], np.uint16),
        f"{name}.freqs": np.concatenate(rows).astype(np.uint16),
    }
