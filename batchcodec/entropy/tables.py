"""Static integer models: one row of frequencies per table, chosen for each symbol by an index.

All coders of this package take a stream as two arrays of one length n: `symbols`, and `index`, which names the table that
codes each symbol (a channel, a context, a Gaussian scale). A bank of T tables over an alphabet of S symbols is

- `freqs`, uint32 [T, S]: each at least 1, each row sums to exactly 2^16 (`TOTAL`); or
- `cdfs`, uint32 [T, S + 1]: the exclusive running sums of `freqs`, so each row rises strictly from 0 to 2^16, and symbol s
  owns the slots cdfs[t, s] <= slot < cdfs[t, s + 1].

Every symbol has a frequency of at least 1, so every stream can be coded, also one that the model did not expect. Where tables
of one bank have alphabets of different sizes, the rows of the smaller ones end in zeros (*short* rows; at least two symbols
are there), and their sums stay at 2^16: those symbols do not exist for that table.

Everything that decides a bit is integer arithmetic: the same counts give the same tables, and so the same bytes, on every
machine. Only `code_length_bits`, which decides nothing, uses floats.

Limits: 2 <= S <= 4096, 1 <= T <= 4096, T * (S + 1) <= 2^22. They bound what a table from a file can cost.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from batchcodec.errors import ModelError

PRECISION = 16
"""Bits of a frequency: a row sums to 2 to this power."""

TOTAL = 1 << PRECISION
MAX_SYMBOLS = 4096
MAX_TABLES = 4096
MAX_ENTRIES = 1 << 22
MAX_COUNT = 1 << 46
"""Largest sum of a row of counts: times 2^16 it stays below 2^63."""

Integers = NDArray[np.integer[Any]]
U16 = NDArray[np.uint16]
U32 = NDArray[np.uint32]


def count_symbols(symbols: Integers, index: Integers, n_tables: int, n_symbols: int) -> NDArray[np.int64]:
    """Histogram of a stream per table, int64 [T, S]: what `quantise_counts` takes.

    Raises:
        ModelError: a symbol or an index is out of range.
    """
    symbols, index = check_stream(symbols, index, n_tables, n_symbols)
    cells = index.astype(np.int64) * n_symbols + symbols
    return np.bincount(cells, minlength=n_tables * n_symbols).reshape(n_tables, n_symbols).astype(np.int64, copy=False)


def quantise_counts(counts: Integers) -> U32:
    """Frequencies that sum to 2^16 per row, each at least 1, as near to the counts as integers can be.

    The rule, per row. All symbols are in play, with 2^16 to share in proportion to their counts. Symbols whose share is
    below 1 get exactly 1 and leave play; what is left is shared anew among the others, until all shares in play are at least 1.
    Each share is rounded down; what is then missing is given out by ones to the largest remainders (the lower symbol first
    where they are equal). A row of zeros counts as a row of ones.

    This keeps the cost over the counts' own entropy near its minimum: adding 1 to all, the simpler rule, costs a skewed row
    of 256 symbols up to 0.0056 bits per symbol more.

    Args:
        counts: integer [T, S], all at least 0, each row's sum at most 2^46.

    Raises:
        ValueError: the counts are not such an array.
    """
    check_shape(counts, "counts", "[T, S]", 0, ValueError)
    if int(counts.min()) < 0 or int(counts.max()) > MAX_COUNT:
        raise ValueError(f"counts lie in {counts.min()}..{counts.max()}, expected 0..2^46")
    weights = counts.astype(np.int64)  # no overflow below: 4096 * 2^46 = 2^58 for sums, 2^46 * 2^16 = 2^62 for products
    if int(weights.sum(axis=1).max()) > MAX_COUNT:
        raise ValueError("a row of counts sums to more than 2^46")
    weights[weights.sum(axis=1) == 0] = 1
    in_play = np.ones(weights.shape, np.bool_)
    while True:
        room = TOTAL - (~in_play).sum(axis=1, keepdims=True, dtype=np.int64)  # [T, 1]
        total = (weights * in_play).sum(axis=1, keepdims=True)  # [T, 1], above 0: the largest count never leaves play
        leaves = in_play & (weights * room < total)
        if not leaves.any():
            break
        in_play &= ~leaves
    shares, remainders = np.divmod(weights * room, total)
    freqs = np.where(in_play, shares, 1)
    missing = TOTAL - freqs.sum(axis=1, keepdims=True)  # fewer than the symbols in play
    order = np.argsort(np.where(in_play, -remainders, 1), axis=1, kind="stable")  # largest remainder first
    bonus = (np.arange(freqs.shape[1]) < missing).astype(np.int64)
    np.put_along_axis(freqs, order, np.take_along_axis(freqs, order, axis=1) + bonus, axis=1)
    return freqs.astype(np.uint32)


def cumulative(freqs: Integers) -> U32:
    """The `cdfs`, uint32 [T, S + 1], of `freqs` [T, S], whose rows may be short.

    Raises:
        ModelError: the frequencies are malformed.
    """
    freqs = check_freqs(freqs, short=True)
    cdfs = np.zeros((freqs.shape[0], freqs.shape[1] + 1), np.uint32)
    np.cumsum(freqs, axis=1, dtype=np.uint32, out=cdfs[:, 1:])
    return cdfs


def check_freqs(freqs: Integers, *, short: bool = False) -> U32:
    """The same frequencies as C-contiguous, aligned uint32 [T, S].

    Args:
        freqs: integer [T, S].
        short: whether rows may end in zeros.

    Raises:
        ModelError: not an integer [T, S] within the limits, a frequency below 1, or a row that does not sum to 2^16.
    """
    check_shape(freqs, "frequencies", "[T, S]", 0, ModelError)
    least = 0 if short else 1
    if int(freqs.min()) < least or int(freqs.max()) > TOTAL:  # before the sum, which then cannot wrap
        raise ModelError(f"frequencies lie in {freqs.min()}..{freqs.max()}, expected {least}..{TOTAL}")
    if short and not (freqs[:, 1].all() and ((freqs[:, :-1] > 0) | (freqs[:, 1:] == 0)).all()):
        raise ModelError("frequencies: a row with fewer than two symbols, or a zero before others")
    sums = freqs.sum(axis=1, dtype=np.int64)
    if (sums != TOTAL).any():
        row = int((sums != TOTAL).argmax())
        raise ModelError(f"frequencies of table {row} sum to {sums[row]}, expected {TOTAL}", table=row)
    return np.require(freqs, np.uint32, ["C", "A"])


def check_cdfs(cdfs: Integers) -> U32:
    """The same tables as C-contiguous, aligned uint32 [T, S + 1], for tables that come from a file.

    Raises:
        ModelError: not an integer [T, S + 1] within the limits, or a row that does not rise strictly from 0 to 2^16.
    """
    check_shape(cdfs, "cumulative frequencies", "[T, S + 1]", 1, ModelError)
    # A row that starts at 0, ends at 2^16 and rises at every step lies within 0..2^16.
    rises = (cdfs[:, 1:] > cdfs[:, :-1]) | ((cdfs[:, 1:] == TOTAL) & (cdfs[:, :-1] == TOTAL))
    bad = (cdfs[:, 0] != 0) | (cdfs[:, 1] == TOTAL) | (cdfs[:, -1] != TOTAL) | ~rises.all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        raise ModelError(f"cumulative frequencies of table {row} do not rise strictly from 0 to {TOTAL}", table=row)
    return np.require(cdfs, np.uint32, ["C", "A"])


def check_stream(symbols: Integers, index: Integers, n_tables: int, n_symbols: int) -> tuple[U16, U16]:
    """Both arrays as C-contiguous, aligned uint16 [n].

    Raises:
        ValueError: not two integer arrays of one length.
        ModelError: a symbol is outside the alphabet, or an index names no table.
    """
    if symbols.shape != index.shape:
        raise ValueError(f"symbols and index have the shapes {symbols.shape} and {index.shape}, expected one length")
    return _as_uint16(symbols, n_symbols, "symbols"), check_index(index, n_tables)


def check_index(index: Integers, n_tables: int) -> U16:
    """The same index as C-contiguous, aligned uint16 [n].

    Raises:
        ValueError: not an integer array [n].
        ModelError: it names a table that is not there.
    """
    return _as_uint16(index, n_tables, "table index")


def check_present(symbols: U16, index: U16, present: NDArray[np.bool_]) -> None:
    """Check that each symbol [n] is one that its table has.

    Args:
        symbols: within 0..S-1.
        index: within 0..T-1.
        present: bool [T, S].

    Raises:
        ModelError: one is beyond the end of a short row.
    """
    if not present.all() and not present[index, symbols].all():
        raise ModelError("a symbol that its table does not have: the model does not fit")


def code_length_bits(symbols: Integers, index: Integers, freqs: Integers) -> float:
    """Ideal size in bits of a stream under its model: sum of -log2(frequency / 2^16). For tests and reports.

    Raises:
        ModelError: the frequencies are malformed, or a symbol or an index is out of range.
    """
    freqs = check_freqs(freqs)
    counts = count_symbols(symbols, index, *freqs.shape)
    return float((counts * (PRECISION - np.log2(freqs))).sum())


def _as_uint16(values: Integers, bound: int, what: str) -> U16:
    if values.ndim != 1 or values.dtype.kind not in "iu":
        raise ValueError(f"{what}: got {values.dtype} {list(values.shape)}, expected integers [n]")
    if values.size and (int(values.max()) >= bound or (values.dtype.kind == "i" and int(values.min()) < 0)):
        raise ModelError(f"{what} lie in {values.min()}..{values.max()}, expected 0..{bound - 1}: the model does not fit")
    if values.dtype == np.uint16 and values.flags.carray:
        return cast(U16, values)
    return np.require(values, np.uint16, ["C", "A"])


def check_shape(array: Integers, what: str, shape: str, extra: int, error: type[Exception]) -> None:
    """Hold the limits; `extra` is how many columns there are more than symbols."""
    if array.ndim != 2 or array.dtype.kind not in "iu":
        raise error(f"{what}: got {array.dtype} {list(array.shape)}, expected integers {shape}")
    n_tables, n_symbols = array.shape[0], array.shape[1] - extra
    if not (1 <= n_tables <= MAX_TABLES and 2 <= n_symbols <= MAX_SYMBOLS and n_tables * (n_symbols + 1) <= MAX_ENTRIES):
        raise error(
            f"{what}: {n_tables} tables of {n_symbols} symbols, expected 1..{MAX_TABLES} of 2..{MAX_SYMBOLS}"
            f" and at most {MAX_ENTRIES} entries"
        )
