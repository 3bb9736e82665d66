"""How many bits each latent channel gets: what was asked for, and reverse water-filling over what was measured.

The error of an image is, nearly, the sum of what each channel's quantiser adds to it. `auto:X` makes that sum as small as it
can be where the channels together take no more than X bits in each of them would. For many small steps the optimum is reverse
water-filling (Cover & Thomas, section 10.3.3): all channels end with the same error, but those that have less with no bits at
all. With whole bits, cells of whole levels and costs that are no whole numbers it is a knapsack, small enough to be solved.

What a bit costs goes by the coder: a bit, or what the tables say of the entropy of the cells, or of their Huffman codes.

What it buys is measured, not derived: a channel's real cells in place of its 256 levels, through the real decoder, since a
decoder is no linear map and cells are no small perturbation. It is measured on latents that are drawn from the model's own
tables, so any model will do, and no images are needed; on training images it comes out much the same, with more noise.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batchcodec.entropy import huffman
from batchcodec.entropy.tables import TOTAL, Integers
from batchcodec.errors import OptionError
from batchcodec.learned.cells import MAX_BITS, Cells, Rule, rule_of
from batchcodec.learned.quantiser import Quantiser

Floats = npt.NDArray[np.float64]
Synthesis = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
"""Latents float32 [N, C, h, w] to gray levels, not rounded, of any shape that begins with N."""

DRAWN = (16, 8)
"""Images, and positions each way, of latents that are drawn from tables."""
BUDGETS = 1 << 15
"""Costs that are told apart."""
MAX_MAP_BYTES = 1 << 16


def errors(synthesis: Synthesis, quantiser: Quantiser, tables: Integers, levels: npt.NDArray[np.uint8], rule: Rule) -> Floats:
    """Mean squared error, in squared gray levels, that 0 to 8 bits in one channel add to an image: [C, 9].

    Args:
        synthesis: the decoder's network.
        quantiser: of the levels.
        tables: of the levels, integer [C, 256].
        levels: latents of some images, [N, C, h, w].
        rule: of the cells.
    """
    y = quantiser.dequantise(levels)
    whole = synthesis(y)
    found = np.zeros((len(tables), MAX_BITS + 1))
    for bits in range(MAX_BITS):
        cells = Cells.of(tables, np.full(len(tables), bits), rule)
        coarse = quantiser.dequantise(cells.values_of(cells.numbers_of(levels)))
        for c in range(len(tables)):
            changed = y.copy()
            changed[:, c] = coarse[:, c]
            found[c, bits] = np.square(synthesis(changed) - whole, dtype=np.float64).mean()
    return found


def drawn(tables: Integers) -> npt.NDArray[np.uint8]:
    """Latents from the tables [C, 256] alone, each for itself: uint8 [N, C, h, w].

    A level of frequency 1 may never have been seen: it is not drawn where there are others.
    """
    n, side = DRAWN
    rng = np.random.default_rng(0)
    found = np.empty((len(tables), n * side * side), np.uint8)
    for row, table in zip(found, tables.astype(np.int64), strict=True):
        ends = np.cumsum(table - 1 if (table > 1).any() else table)
        row[:] = np.searchsorted(ends, rng.integers(0, ends[-1], row.size), side="right")
    return found.reshape(-1, n, side, side).transpose(1, 0, 2, 3)


def costs(tables: Integers, entropy: str) -> Floats:
    """Bits that a latent of each channel takes at 0 to 8 bits with this entropy coder, by the tables: [C, 9]."""
    found = np.zeros((len(tables), MAX_BITS + 1))
    for bits in range(1, MAX_BITS + 1):
        cells = Cells.of(tables, np.full(len(tables), bits), rule_of(entropy))
        if entropy == "none":
            found[:, bits] = bits
        elif entropy == "huffman":
            found[:, bits] = (cells.freqs * huffman.code_lengths(cells.freqs).astype(np.int64)).sum(axis=1) / TOTAL
        else:
            found[:, bits] = cells.entropy()
    return found


def allotted(added: Floats, price: Floats, average: float) -> npt.NDArray[np.uint8]:
    """Bits of each channel, uint8 [C], that add the least error and together cost no more than `average` bits in every channel.

    Args:
        added: what 0 to 8 bits in a channel add to the error, [C, 9].
        price: what they cost, [C, 9], rising from 0.
        average: 0 to 8; between whole numbers, costs are interpolated.
    """
    low = math.floor(average)
    more = price[:, min(low + 1, MAX_BITS)] - price[:, low]
    limit = float((price[:, low] + (average - low) * more).sum())
    found = knapsack(added, price, limit)
    if added[:, low].sum() < added[np.arange(len(added)), found].sum():  # can only be by what costs were rounded
        found[:] = low
    return found


def knapsack(added: Floats, price: Floats, limit: float) -> npt.NDArray[np.uint8]:
    """One choice for each channel, uint8 [C], that together add the least error at a price of no more than `limit`.

    By dynamic programming. Prices are rounded up to a small power of two, so that there are at most `BUDGETS` sums of them;
    whole numbers stay what they are. Of choices that are as good it is the cheapest.

    Args:
        added: to the error, by each choice of each channel, [C, L].
        price: of it, at least 0, [C, L]; the limit is no less than the cheapest choices together.
        limit: of the sum.
    """
    unit = 2.0 ** math.ceil(math.log2(max(limit, 1) / BUDGETS))
    slack = 1e-9  # for the rounding of float64
    cost = np.ceil(price / unit - slack).astype(np.int64)
    budget = max(int(limit / unit + slack), int(cost.min(axis=1).sum()))
    least = np.zeros(budget + 1)  # error of the channels so far, by what they may cost
    choice = np.zeros((len(added), budget + 1), np.uint8)
    for c in range(len(added)):
        before, least = least, np.full(budget + 1, np.inf)
        for n in range(added.shape[1]):
            if (start := int(cost[c, n])) <= budget:
                total = before[: budget + 1 - start] + added[c, n]
                better = total < least[start:]
                least[start:][better] = total[better]
                choice[c, start:][better] = n
    found = np.zeros(len(added), np.uint8)
    left = int(least.argmin())
    for c in range(len(added) - 1, -1, -1):
        found[c] = choice[c, left]
        left -= int(cost[c, found[c]])
    return found


# ---- options


def average_of(bits: object) -> float | None:
    """The X of `auto:X`; None if `bits` is a whole number.

    Raises:
        OptionError: it is neither.
    """
    allowed = f"a whole number from 1 to {MAX_BITS}, or auto:X with X from 0 to {MAX_BITS}, such as auto:4.5"
    if type(bits) is int and 1 <= bits <= MAX_BITS:
        return None
    if not isinstance(bits, str) or not bits.startswith("auto:"):
        raise OptionError("bits", bits, allowed)
    try:
        average = float(bits.removeprefix("auto:"))
    except ValueError:
        raise OptionError("bits", bits, allowed) from None
    if not 0 <= average <= MAX_BITS:  # nor not a number
        raise OptionError("bits", bits, allowed)
    return average


def from_map(given: object, n_channels: int) -> npt.NDArray[np.uint8]:
    """Bits of each channel, uint8 [C], from a list, or from a JSON file with one, also as `{"bits": [...]}`.

    Raises:
        OptionError: the file cannot be read, or it is not a list of so many whole numbers from 0 to 8.
    """
    found = listed(given)
    if len(found) != n_channels or not all(type(n) is int and 0 <= n <= MAX_BITS for n in found):
        allowed = f"{n_channels} whole numbers from 0 to {MAX_BITS}, one for each latent channel"
        raise OptionError("bits-map", str(given)[:100], allowed)
    return np.array(found, np.uint8)


def listed(given: object) -> list[Any]:
    """What a map lists: itself, or what its JSON file has, also as `{"bits": [...]}`.

    Raises:
        OptionError: the file cannot be read, or has no list.
    """
    found = list(given) if isinstance(given, list | tuple) else _read_map(given)
    if isinstance(found, dict) and set(found) == {"bits"}:
        found = found["bits"]
    if not isinstance(found, list):
        raise OptionError("bits-map", str(given)[:100], "a JSON file with a list of numbers")
    return found


def _read_map(given: object) -> object:
    if not isinstance(given, str | Path):
        raise OptionError("bits-map", given, "a JSON file with a list of numbers")
    path = Path(given)
    try:
        if not path.is_file() or path.stat().st_size > MAX_MAP_BYTES:
            raise OptionError("bits-map", str(given), f"a JSON file of at most {MAX_MAP_BYTES} bytes")
        found: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        raise OptionError("bits-map", str(given), f"a JSON file with a list of numbers ({exc})") from exc
    return found
