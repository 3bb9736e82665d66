"""Coarser quantisers of latents: the 256 levels of a channel fall into fewer cells, and tables and values follow.

A channel of b bits, 0 to 8, has cells of neighbouring levels. A latent in a cell comes back as one value, the mean of the
cell's levels by the channel's table; the cell's frequency is the sum of theirs. So nothing but b needs to be stored.

The table gives each level a frequency of at least 1 of 65,536, whether it was ever seen or not. What decides about cells and
their values is the *weight* of a level, its frequency less 1. All that decides is integer arithmetic.

`fixed`, for latents that cost b bits whatever they are: 2^b cells with the least weighted squared error. That is Lloyd-Max
quantisation of the table, found by dynamic programming (Bruce 1965; Wu & Rokne 1989). Of partitions that are as good, the one
whose last cells begin earliest.

`equal`, where rare cells are cheap: cells of one width, w levels. At a given entropy this is close to the best of all scalar
quantisers (Gish & Pierce 1968; for few bits Farvardin & Modestino 1984). w is ceil(R / 2^b), with R the levels from the first
to the last that have a weight; one cell has the level of most weight (the lowest of several) in its middle, at place
floor(w / 2). Cells go on to the ends of the 256 levels, so there may be more than 2^b, most of them hardly ever used.

8 bits are the levels themselves. 0 bits are one cell.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from batchcodec.entropy.tables import TOTAL, U32, Integers
from batchcodec.learned.quantiser import LEVELS

MAX_BITS = 8
Starts = npt.NDArray[np.int64]
Rule = Callable[[npt.NDArray[np.int64], int], Starts]
"""Weights int64 [256] and bits 1..7 to the first level of each cell, rising from 0."""


@dataclass(frozen=True)
class Cells:
    """The cells of all channels.

    Attributes:
        bits: of each channel, uint8 [C].
        number: the cell of each level, uint8 [C, 256].
        value: of each cell, in levels, float32 [C, 256]; 0 where there is no cell.
        freqs: of each cell, uint32 [C, 256], rows that sum to 2^16 and end in zeros.
    """

    bits: npt.NDArray[np.uint8]
    number: npt.NDArray[np.uint8]
    value: npt.NDArray[np.float32]
    freqs: U32

    @classmethod
    def of(cls, tables: Integers, bits: Integers, rule: Rule) -> Cells:
        """For the tables [C, 256] of the levels, each frequency at least 1, and bits [C] from 0 to 8."""
        levels = np.arange(LEVELS)
        number = np.empty(tables.shape, np.uint8)
        value = np.zeros(tables.shape, np.float32)
        freqs = np.zeros(tables.shape, np.uint32)
        for c, (row, n) in enumerate(zip(tables.astype(np.int64), bits.tolist(), strict=True)):
            weights = row - 1
            if n == MAX_BITS:
                starts = levels
            elif n == 0:
                starts = levels[:1]
            else:
                starts = rule(weights, n)
            sizes = np.diff(starts, append=LEVELS)
            number[c] = np.repeat(np.arange(len(starts)), sizes)
            freqs[c, : len(starts)] = np.add.reduceat(row, starts)
            mass, moment = (np.add.reduceat(x, starts) for x in (weights, weights * levels))
            middle = starts + (sizes - 1) / 2
            value[c, : len(starts)] = np.where(mass > 0, moment / np.maximum(mass, 1), middle)
        return cls(np.asarray(bits, np.uint8), number, value, freqs)

    def numbers_of(self, levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The cells of latents [N, C, h, w], of the same shape."""
        return self.number[np.arange(len(self.number))[:, None, None], levels]

    def values_of(self, numbers: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The values, in levels, of cells [N, C, h, w]: float32 of the same shape."""
        return self.value[np.arange(len(self.value))[:, None, None], numbers]

    def entropy(self) -> npt.NDArray[np.float64]:
        """Bits of a latent of each channel, by the tables: [C]."""
        part = self.freqs / TOTAL
        found: npt.NDArray[np.float64] = -(part * np.log2(np.where(part > 0, part, 1))).sum(axis=1)
        return found


def equal(weights: npt.NDArray[np.int64], bits: int) -> Starts:
    """Cells of one width, see above."""
    used = np.flatnonzero(weights)
    reach = int(used[-1] - used[0]) + 1 if len(used) else LEVELS
    width = -(-reach >> bits)
    first = (int(weights.argmax()) - width // 2) % width
    return np.unique(np.maximum(np.arange(first - width, LEVELS, width), 0))


def fixed(weights: npt.NDArray[np.int64], bits: int) -> Starts:
    """As many cells as fit the bits, with the least error, see above."""
    n_cells = 1 << bits
    cost = _costs(weights)
    least = np.full((n_cells + 1, LEVELS + 1), np.inf)  # of the first j levels in k cells
    least[0, 0] = 0
    for k in range(1, n_cells + 1):
        least[k, k:] = (least[k - 1, k - 1 : LEVELS, None] + cost[k - 1 : LEVELS, k:]).min(axis=0)
    starts = np.empty(n_cells, np.int64)
    end = LEVELS
    for k in range(n_cells, 0, -1):
        end = starts[k - 1] = int((least[k - 1, :end] + cost[:end, end]).argmin())
    return starts


def _costs(weights: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Weighted squared error of the cell from level i to before j, in units of 2^-8, rounded down: [256, 257].

    Infinite where j <= i. Integers, which float64 holds exactly: below 2^41, and so are sums of them.
    """
    levels = np.arange(LEVELS)
    mass, moment, square = (
        _differences(np.concatenate([[0], np.cumsum(x)])) for x in (weights, weights * levels, weights * levels**2)
    )
    # mass * square stays below 2^48
    cost = (((square * mass - moment**2) << 8) // np.maximum(mass, 1)).astype(np.float64)
    return np.where(levels[:, None] < np.arange(LEVELS + 1), cost, np.inf)


def _differences(sums: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Of running sums [257], what lies from i to before j: [256, 257]."""
    return sums[None, :] - sums[:LEVELS, None]


RULES: dict[str, Rule] = {"fixed": fixed, "equal": equal}


def rule_of(entropy: str) -> Rule:
    """The rule that goes with an entropy coder."""
    return RULES["fixed" if entropy == "none" else "equal"]
