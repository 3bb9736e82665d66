"""From the density of a channel to integer tables, by integers alone.

Latents have one density for each channel, whatever the quality: quality only says how wide the bins are that they are rounded
to. So a model holds that density once, piecewise constant as in Balle et al. 2017 (section 3.1), and of each quality and
channel the width of a bin. Tables follow from both; the same model gives the same tables on every machine.

- `masses`, uint16 [C, CELLS]: in proportion to the mass of each cell. The cells of a channel are equally wide, and zero lies
  between the two in the middle.
- `widths`, uint16 [100, C]: of a bin at quality 1 to 100, in cells / UNITS.

The bin of the integer k reaches from (k - 1/2) to (k + 1/2) widths; what is in part of a cell is in proportion to the part.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from batchcodec.entropy.tables import quantise_counts
from batchcodec.entropy.values import Bank
from batchcodec.errors import ModelError

CELLS = 256
UNITS = 1024
"""Parts of a cell that widths are counted in."""
N_QUALITIES = 100
MAX_INTEGER = 1000
"""Largest |k| with a symbol of its own."""
RARE = 15
"""Symbols beyond which there is no more than 2^-RARE of all mass have none of their own; the escape has at least that."""

Masses = npt.NDArray[np.uint16]


def check(masses: npt.NDArray[Any], widths: npt.NDArray[Any]) -> None:
    """Raise `ModelError` for a channel without mass, or without width."""
    if not masses.any(axis=1).all():
        raise ModelError(f"the model's density of channel {int(np.argmin(masses.any(axis=1)))} has no mass")
    if not widths.all():
        raise ModelError("the model has a bin without width")


def bank(masses: Masses, widths: npt.NDArray[np.uint16]) -> Bank:
    """The tables of one quality, one for each channel.

    Args:
        masses: uint16 [C, CELLS].
        widths: uint16 [C], those of the quality.
    """
    return Bank([_frequencies(row.astype(np.int64), int(width)) for row, width in zip(masses, widths, strict=True)])


def _frequencies(masses: npt.NDArray[np.int64], width: int) -> npt.NDArray[np.uint32]:
    """Frequencies of 0, 1, -1, 2, -2, ... and the escape, as `entropy.values` orders them."""
    half = 2 * UNITS  # ends of bins are odd multiples of half a width: all is counted in halves of a unit
    middle = CELLS // 2 * half
    last = min(MAX_INTEGER, (middle // width + 1) // 2)  # its bin still begins inside
    ends = np.arange(-2 * last - 1, 2 * last + 2, 2, dtype=np.int64) * width + middle  # [2 last + 2]
    cells, parts = np.divmod(np.clip(ends, 0, CELLS * half), half)
    below = np.concatenate(([0], np.cumsum(masses))) * half  # [CELLS + 1]
    inside = np.concatenate((masses, [0]))  # nothing beyond the last cell
    bins = np.diff(below[cells] + inside[cells] * parts)  # [2 last + 1], of -last .. last
    total = int(below[-1])
    order = np.zeros(2 * last + 1, np.int64)
    order[1::2], order[2::2] = np.arange(1, last + 1), -np.arange(1, last + 1)
    counts = bins[last + order]
    beyond = total - np.cumsum(counts)  # what is not in the first 1, 2, ... symbols
    n_kept = int(np.argmax(beyond <= total >> RARE)) + 1 if int(beyond[-1]) <= total >> RARE else len(counts)
    escape = max(1, int(beyond[n_kept - 1]), total >> RARE)
    frequencies: npt.NDArray[np.uint32] = quantise_counts(np.append(counts[:n_kept], escape)[None])[0]
    return frequencies


def histogram(
    values: npt.NDArray[np.float32], finest: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Widths of the cells [C] that latents [C, n] want, and how many fall into each cell, int64 [C, CELLS].

    Args:
        values: a sample of each channel.
        finest: of each channel the width of its narrowest bins: cells need not be narrower than a quarter of it.
    """
    reach = np.quantile(np.abs(values), 1 - 1e-4, axis=1) * 1.5
    cell = np.maximum(reach / (CELLS // 2), finest / 4)
    index = np.floor(values / cell[:, None]).astype(np.int64) + CELLS // 2
    index = np.clip(index, 0, CELLS - 1)
    counts = np.stack([np.bincount(row, minlength=CELLS) for row in index])
    return cell, counts


def to_masses(weights: npt.NDArray[np.float64]) -> Masses:
    """Weights [C, CELLS], none negative and not all zero in a row, as masses."""
    share = weights / weights.sum(axis=1, keepdims=True)
    found: Masses = np.rint(share * 65535).astype(np.uint16)
    return found


def to_widths(widths: npt.NDArray[np.float64], cell: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    """Widths of bins [100, C] in cells / UNITS, for cells [C] of that width."""
    found: npt.NDArray[np.uint16] = np.clip(np.rint(widths / cell * UNITS), 1, 65535).astype(np.uint16)
    return found
