"""rANS: round trips, the reference, golden bytes, sizes, and hostile data."""

from __future__ import annotations

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.entropy import rans, reference
from batchcodec.entropy.tables import code_length_bits, count_symbols, cumulative, quantise_counts
from batchcodec.errors import ModelError, PayloadError

from .streams import damaged, outcome, stream, streams

Stream = tuple[np.ndarray, np.ndarray, np.ndarray]


@given(streams())
@settings(max_examples=150)
def test_round_trip_and_reference(case: Stream) -> None:
    symbols, index, freqs = case
    cdfs = cumulative(freqs)
    data = rans.encode(symbols, index, cdfs)
    assert data == reference.encode_reference(symbols, index, cdfs)
    assert np.array_equal(rans.decode(data, index, cdfs), symbols)
    assert np.array_equal(reference.decode_reference(data, index, cdfs), symbols)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 9999, 10000])
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_lengths_and_dtypes(n: int, dtype: type) -> None:
    symbols, index, freqs = stream(n, n, 5, 200, 3)
    data = rans.encode(symbols.astype(dtype), index.astype(dtype), cumulative(freqs).astype(np.int64))
    back = rans.decode(memoryview(data), index.astype(dtype), cumulative(freqs))
    assert back.dtype == np.uint16
    assert np.array_equal(back, symbols)


def test_inputs_may_be_strided_unaligned_or_read_only() -> None:
    symbols, index, freqs = stream(1, 50, 5, 200)
    cdfs = cumulative(freqs)
    data = rans.encode(symbols, index, cdfs)
    read_only = symbols.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"x" + index.tobytes(), np.uint16, offset=1)
    assert rans.encode(read_only, unaligned, cdfs) == data
    assert rans.encode(np.repeat(symbols, 2)[::2], np.repeat(index, 2)[::2], cdfs) == data


# These bytes are the format: a change here is a new bitstream.
GOLDEN = [
    ([], [], ""),
    ([0], [0], "00000200"),
    ([1, 2], [0, 1], "0080040006000100"),
    ([0, 1, 2, 0, 1, 2, 2], [0, 0, 0, 1, 1, 1, 1], "034005000080040001000600"),
    ([2] * 6, [1] * 6, "1200010012000100"),
    ([1, 0] * 4, [1] * 8, "01000010000001000100000001000000010000000000"),
]
GOLDEN_CDFS = np.array([[0, 32768, 49152, 65536], [0, 1, 3, 65536]])


@pytest.mark.parametrize(("symbols", "index", "words"), GOLDEN)
def test_golden_words(symbols: list[int], index: list[int], words: str) -> None:
    chosen = np.array(index, np.uint8)
    assert reference.decode_reference(bytes.fromhex(words), chosen, GOLDEN_CDFS).tolist() == symbols
    assert rans.encode(np.array(symbols, np.uint8), chosen, GOLDEN_CDFS).hex() == words
    assert rans.decode(bytes.fromhex(words), chosen, GOLDEN_CDFS).tolist() == symbols


@pytest.mark.parametrize(
    ("n_tables", "n_symbols", "skew"), [(1, 256, 0), (1, 2, 5), (40, 256, 8), (300, 16, 2), (1, 4096, 0), (7, 256, 200)]
)
def test_a_million_symbols_are_near_the_entropy(n_tables: int, n_symbols: int, skew: int) -> None:
    symbols, index, freqs = stream(5, 1_000_000, n_tables, n_symbols, skew)
    freqs = quantise_counts(count_symbols(symbols, index, n_tables, n_symbols))
    cdfs = cumulative(freqs)
    data = rans.encode(symbols, index, cdfs)
    assert np.array_equal(rans.decode(data, index, cdfs), symbols)
    ideal_bytes = code_length_bits(symbols, index, freqs) / 8
    assert ideal_bytes <= len(data) <= 1.005 * ideal_bytes


def test_a_sure_symbol_costs_nothing() -> None:
    symbols = np.zeros(1_000_000, np.uint8)
    data = rans.encode(symbols, symbols, np.array([[0, 65535, 65536]]))
    assert len(data) == 8
    assert not rans.decode(data, symbols, np.array([[0, 65535, 65536]])).any()


@pytest.mark.parametrize(("n_symbols", "skew"), [(256, 0), (256, 6), (3, 2)])
def test_size_beside_constriction(n_symbols: int, skew: int) -> None:
    symbols, index, freqs = stream(6, 200_000, 1, n_symbols, skew)
    model = constriction.stream.model.Categorical(freqs[0] / 65536, perfect=False)  # 24 bits: holds ours exactly
    other = constriction.stream.stack.AnsCoder()
    other.encode_reverse(symbols.astype(np.int32), model)
    data = rans.encode(symbols, index, cumulative(freqs))
    assert len(data) == pytest.approx(other.num_bits() / 8, rel=0.005)
    assert other.num_valid_bits() == pytest.approx(code_length_bits(symbols, index, freqs), rel=0.001)
    assert np.array_equal(other.decode(model, len(symbols)), rans.decode(data, index, cumulative(freqs)))


@pytest.mark.parametrize("seed", range(6))
def test_damage_never_crashes_and_the_reference_agrees(seed: int) -> None:
    symbols, index, freqs = stream(seed, 60 + seed, [1, 3][seed % 2], [2, 256, 4096][seed % 3], seed)
    cdfs = cumulative(freqs)
    data = rans.encode(symbols, index, cdfs)
    for bad in damaged(data, seed, 200):
        got = outcome(rans.decode, PayloadError, bad, index, cdfs)
        assert got == outcome(reference.decode_reference, PayloadError, bad, index, cdfs)
        if len(bad) < len(data) and data.startswith(bad):
            assert got is None
        if len(bad) > len(data) and bad.startswith(data):
            assert got is None


@given(st.binary(max_size=80), streams(max_n=40))
@settings(max_examples=150)
def test_any_bytes(data: bytes, case: Stream) -> None:
    _, index, freqs = case
    cdfs = cumulative(freqs)
    assert outcome(rans.decode, PayloadError, data, index, cdfs) == outcome(
        reference.decode_reference, PayloadError, data, index, cdfs
    )


def test_wrong_length_of_the_index() -> None:
    symbols, index, freqs = stream(3, 1000, 2, 256)
    data = rans.encode(symbols, index, cumulative(freqs))
    for other in (index[:-1], index[:-2], index[:0], np.append(index, index[:1]), np.tile(index, 50)):
        with pytest.raises(PayloadError):
            rans.decode(data, other, cumulative(freqs))


def test_bad_models_and_streams() -> None:
    good = np.array([[0, 5, 65536]])
    for cdfs in (good[:, :2], good + 1, good[0], good.astype(float)):
        with pytest.raises(ModelError):
            rans.encode(np.zeros(1, int), np.zeros(1, int), cdfs)
        with pytest.raises(ModelError):
            rans.decode(b"", np.zeros(0, int), cdfs)
    with pytest.raises(ModelError):
        rans.encode(np.array([2]), np.array([0]), good)
    with pytest.raises(ModelError):
        rans.encode(np.array([0]), np.array([1]), good)
    with pytest.raises(ModelError):
        rans.decode(bytes(4), np.array([-1]), good)
    with pytest.raises(ValueError, match="expected"):
        rans.decode(bytes(4), np.array([0.0]), good)
