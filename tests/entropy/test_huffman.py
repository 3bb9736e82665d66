"""Huffman: code lengths, round trips, the reference, golden bytes and hostile data."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.entropy import huffman, reference
from batchcodec.entropy.tables import code_length_bits, quantise_counts
from batchcodec.errors import ModelError, PayloadError

from .streams import damaged, outcome, stream, streams

Stream = tuple[np.ndarray, np.ndarray, np.ndarray]


def unlimited_cost(freqs: list[int]) -> int:
    """Bits of an optimal code without a limit: the sum of all merged weights (Huffman 1952)."""
    heap = list(freqs)
    heapq.heapify(heap)
    cost = 0
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        cost += both
        heapq.heappush(heap, both)
    return cost


@given(streams(max_n=150))
@settings(max_examples=100)
def test_round_trip_and_reference(case: Stream) -> None:
    symbols, index, freqs = case
    lengths = huffman.code_lengths(freqs)
    data = huffman.encode(symbols, index, lengths)
    assert data == reference.huffman_encode_reference(symbols, index, lengths)
    assert np.array_equal(huffman.decode(data, index, lengths), symbols)
    assert np.array_equal(reference.huffman_decode_reference(data, index, lengths), symbols)


@pytest.mark.parametrize(("n_symbols", "skew"), [(2, 0), (3, 4), (17, 1), (256, 0), (256, 3), (256, 30), (300, 1000)])
def test_lengths_are_optimal_and_match_the_reference(n_symbols: int, skew: int) -> None:
    _, _, freqs = stream(n_symbols + skew, 0, 3, n_symbols, skew)
    lengths = huffman.code_lengths(freqs)
    assert np.array_equal(lengths, reference.code_lengths_reference(freqs))
    for row, out in zip(freqs.tolist(), lengths.tolist(), strict=True):
        assert sum(1 << (16 - length) for length in out) == 1 << 16
        cost = sum(f * length for f, length in zip(row, out, strict=True))
        assert cost >= unlimited_cost(row)
        if max(out) < 16:  # the limit did not bind
            assert cost == unlimited_cost(row)


def test_the_limit_binds() -> None:
    fibonacci = [1, 1]
    while sum(fibonacci) < 60000:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    freqs = quantise_counts(np.array([fibonacci[:-1]]))
    lengths = huffman.code_lengths(freqs)
    assert lengths.max() == 16
    cost = int((freqs * lengths).sum())
    assert unlimited_cost(freqs[0].tolist()) < cost < unlimited_cost(freqs[0].tolist()) * 1.001


@pytest.mark.parametrize("n_symbols", [2, 256, 4096])
def test_one_dominant_symbol(n_symbols: int) -> None:
    freqs = quantise_counts(np.array([[1] + [0] * (n_symbols - 1)]))
    lengths = huffman.code_lengths(freqs)
    assert lengths[0, 0] == 1
    symbols = np.zeros(8001, np.uint16)
    data = huffman.encode(symbols, symbols, lengths)
    assert len(data) == 1001
    assert not huffman.decode(data, symbols, lengths).any()
    every = np.arange(n_symbols)
    assert np.array_equal(huffman.decode(huffman.encode(every, every * 0, lengths), every * 0, lengths), every)


# These bytes are the format: a change here is a new bitstream.
GOLDEN_LENGTHS = np.array([[1, 3, 3, 2], [2, 2, 2, 2]])
GOLDEN = [
    ([], [], ""),
    ([0], [0], "00"),
    ([2], [0], "e0"),
    ([0, 1, 2, 3], [0, 0, 0, 0], "6f00"),
    ([0, 1, 2, 3, 3], [1, 1, 1, 1, 0], "1b80"),
]


@pytest.mark.parametrize(("symbols", "index", "coded"), GOLDEN)
def test_golden_bytes(symbols: list[int], index: list[int], coded: str) -> None:
    chosen = np.array(index, np.uint8)
    assert huffman.encode(np.array(symbols, np.uint8), chosen, GOLDEN_LENGTHS).hex() == coded
    assert huffman.decode(bytes.fromhex(coded), chosen, GOLDEN_LENGTHS).tolist() == symbols


def test_golden_lengths() -> None:
    freqs = np.array([[32768, 8192, 8192, 16384], [16384] * 4, [65533, 1, 1, 1], [21846, 21845, 21844, 1]])
    assert huffman.code_lengths(freqs).tolist() == [[1, 3, 3, 2], [2, 2, 2, 2], [1, 3, 3, 2], [1, 2, 3, 3]]


@pytest.mark.parametrize(("n_tables", "n_symbols", "skew"), [(1, 256, 0), (40, 256, 3), (1, 4096, 0)])
def test_a_million_symbols(n_tables: int, n_symbols: int, skew: int) -> None:
    symbols, index, freqs = stream(5, 1_000_000, n_tables, n_symbols, skew)
    lengths = huffman.code_lengths(freqs)
    data = huffman.encode(symbols, index, lengths)
    assert len(data) == -(-int(lengths[index, symbols].sum()) // 8)
    assert len(data) <= 1.05 * code_length_bits(symbols, index, freqs) / 8
    assert np.array_equal(huffman.decode(data, index, lengths), symbols)


@pytest.mark.parametrize("seed", range(6))
def test_damage_never_crashes_and_the_reference_agrees(seed: int) -> None:
    symbols, index, freqs = stream(seed, 60 + seed, [1, 3][seed % 2], [2, 256, 1000][seed % 3], 4 * seed)
    lengths = huffman.code_lengths(freqs)
    data = huffman.encode(symbols, index, lengths)
    for bad in damaged(data, seed, 100):
        got = outcome(huffman.decode, PayloadError, bad, index, lengths)
        assert got == outcome(reference.huffman_decode_reference, PayloadError, bad, index, lengths)
        if len(bad) != len(data) and (bad.startswith(data) or data.startswith(bad)):
            assert got is None


@given(st.binary(max_size=80), streams(max_n=40))
@settings(max_examples=100)
def test_any_bytes(data: bytes, case: Stream) -> None:
    _, index, freqs = case
    lengths = huffman.code_lengths(freqs)
    assert outcome(huffman.decode, PayloadError, data, index, lengths) == outcome(
        reference.huffman_decode_reference, PayloadError, data, index, lengths
    )


@pytest.mark.parametrize(
    "lengths",
    [
        np.array([[1, 2]]),
        np.array([[1, 1, 1]]),
        np.array([[0, 1]]),
        np.array([[1, 17]]),
        np.array([[1, 257]]),
        np.array([[1, -1]]),
        np.array([1, 1]),
        np.array([[1.0, 1.0]]),
        np.array([[1, 1], [2, 1]]),
        np.zeros((1, 0), np.uint8),
    ],
)
def test_malformed_lengths(lengths: np.ndarray) -> None:
    with pytest.raises(ModelError):
        huffman.encode(np.zeros(1, int), np.zeros(1, int), lengths)
    with pytest.raises(ModelError):
        huffman.decode(b"\0", np.zeros(1, int), lengths)


def test_out_of_range() -> None:
    lengths = np.array([[1, 1]])
    for symbol, table in ((2, 0), (-1, 0), (0, 1), (0, -1)):
        with pytest.raises(ModelError):
            huffman.encode(np.array([symbol]), np.array([table]), lengths)
    with pytest.raises(ModelError):
        huffman.decode(b"\0", np.array([1]), lengths)
