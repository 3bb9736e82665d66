"""Streams, tables and damage for the tests of the entropy coders."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from hypothesis import strategies as st

from batchcodec.entropy.tables import quantise_counts


def stream(seed: int, n: int, n_tables: int, n_symbols: int, skew: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Symbols uint16 [n], index uint16 [n] and freqs [T, S]; the symbols follow the tables. `skew` 0 is flat, 40 extreme."""
    rng = np.random.default_rng(seed)
    counts = np.floor(1e9 * rng.random((n_tables, n_symbols)) ** (skew + 1)).astype(np.int64)
    freqs = quantise_counts(counts)
    index = rng.integers(0, n_tables, n).astype(np.uint16)
    slots = rng.integers(0, 1 << 16, n)
    ends = np.cumsum(freqs, axis=1)
    symbols = np.zeros(n, np.uint16)
    for t in range(n_tables):
        symbols[index == t] = np.searchsorted(ends[t], slots[index == t], side="right")
    return symbols, index, freqs


@st.composite
def streams(draw: st.DrawFn, max_n: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Streams of any shape, sometimes with symbols that their tables find unlikely."""
    n = draw(st.one_of(st.integers(0, 5), st.integers(0, max_n)))
    n_tables = draw(st.sampled_from([1, 1, 2, 3, 17]))
    n_symbols = draw(st.one_of(st.integers(2, 5), st.sampled_from([255, 256, 257, 1000, 4096])))
    seed = draw(st.integers(0, 2**32 - 1))
    symbols, index, freqs = stream(seed, n, n_tables, n_symbols, draw(st.sampled_from([0, 1, 10, 40, 1000])))
    if draw(st.booleans()):
        symbols = np.random.default_rng(seed).integers(0, n_symbols, n).astype(np.uint16)
    return symbols, index, freqs


def damaged(data: bytes, seed: int, n_flips: int) -> Iterator[bytes]:
    """Every truncation, some extensions, and random changes of bits and bytes."""
    rng = np.random.default_rng(seed)
    yield from (data[:n] for n in range(len(data)))
    yield from (data + b"\0", data + b"\0\0", data + data, b"\xff" * len(data), b"\0" * len(data))
    for _ in range(n_flips):
        bad = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            bad[at] ^= int(rng.integers(1, 256))
        yield bytes(bad)
    for _ in range(n_flips // 4):
        yield rng.bytes(int(rng.integers(0, 2 * len(data))))


def outcome(decode: Callable[..., np.ndarray], error: type[Exception], *args: object) -> list[int] | None:
    """The symbols that a decoder gives, or None where it raises `error`. Any other exception is a failure."""
    try:
        return [int(symbol) for symbol in decode(*args)]
    except error:
        return None
