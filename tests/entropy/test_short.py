"""Banks whose tables have alphabets of different sizes: each stream is that of the tables without what they do not have."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.entropy import huffman, rans, reference, tables, values
from batchcodec.entropy.codes import ENTROPY_CODERS, most_symbols, pack_symbols, unpack_symbols
from batchcodec.errors import ModelError, PayloadError

from .streams import damaged, outcome, stream

Stream = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def short_streams(draw: st.DrawFn) -> Stream:
    """Symbols, index and freqs [T, 256], rows of 2 to 256 symbols."""
    sizes = draw(st.lists(st.one_of(st.integers(2, 6), st.integers(2, 256)), min_size=1, max_size=5))
    seed, skew = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0, 3, 40, 1000]))
    freqs = np.zeros((len(sizes), 256), np.uint32)
    for t, size in enumerate(sizes):
        freqs[t, :size] = stream(seed + t, 0, 1, size, skew)[2][0]
    rng = np.random.default_rng(seed)
    index = rng.integers(0, len(sizes), draw(st.integers(0, 150))).astype(np.uint16)
    symbols = (rng.random(len(index)) * np.array(sizes)[index]).astype(np.uint8)
    return symbols, index, freqs


@given(short_streams())
@settings(max_examples=100)
def test_round_trip_and_reference(case: Stream) -> None:
    symbols, index, freqs = case
    for kind in ENTROPY_CODERS:
        data = pack_symbols(kind, symbols, index, freqs)
        assert np.array_equal(unpack_symbols(kind, data, index, freqs), symbols)
        assert len(symbols) <= most_symbols(kind, len(data), freqs)
    cdfs, lengths = tables.cumulative(freqs), huffman.code_lengths(freqs)
    assert rans.encode(symbols, index, cdfs) == reference.encode_reference(symbols, index, cdfs)
    assert np.array_equal(lengths, reference.code_lengths_reference(freqs))
    assert huffman.encode(symbols, index, lengths) == reference.huffman_encode_reference(symbols, index, lengths)


@given(short_streams())
@settings(max_examples=50)
def test_a_table_is_that_of_its_own_alphabet(case: Stream) -> None:
    symbols, index, freqs = case
    for t, row in enumerate(freqs):
        alone, own = symbols[index == t], row[row > 0][None]
        zeros = np.zeros(len(alone), np.uint16)
        assert rans.encode(alone, zeros, tables.cumulative(row[None])) == rans.encode(alone, zeros, tables.cumulative(own))
        lengths = huffman.code_lengths(own)
        assert np.array_equal(huffman.code_lengths(row[None])[:, : own.size], lengths)
        assert huffman.encode(alone, zeros, huffman.code_lengths(row[None])) == huffman.encode(alone, zeros, lengths)
    bank = values.Bank([row[row > 0] for row in freqs])
    assert np.array_equal(bank.cdfs, tables.cumulative(freqs)[:, : bank.cdfs.shape[1]])


@pytest.mark.parametrize("kind", ENTROPY_CODERS)
def test_damage(kind: str) -> None:
    freqs = np.zeros((2, 256), np.uint32)
    freqs[0, :3], freqs[1, :20] = (60000, 5000, 536), stream(1, 0, 1, 20, 5)[2][0]
    index = np.arange(100, dtype=np.uint16) % 2
    symbols = (np.random.default_rng(1).random(100) * np.array([3, 20])[index]).astype(np.uint8)
    data = pack_symbols(kind, symbols, index, freqs)
    for bad in damaged(data, 1, 200):
        got = outcome(unpack_symbols, PayloadError, kind, bad, index, freqs)
        assert got is None or freqs[index, got].all()


@pytest.mark.parametrize("kind", ENTROPY_CODERS)
def test_a_symbol_that_its_table_does_not_have(kind: str) -> None:
    freqs = np.zeros((2, 256), np.uint32)
    freqs[0, :2], freqs[1, :5] = 32768, (65532, 1, 1, 1, 1)
    for symbol, table in ((2, 0), (255, 0), (5, 1)):
        with pytest.raises(ModelError, match="its table does not have"):
            pack_symbols(kind, np.array([symbol], np.uint8), np.array([table]), freqs)


def test_zstd_blocks_end_where_tables_change() -> None:
    """Channels of different alphabets do not share a code: that is smaller than one block of all."""
    rng = np.random.default_rng(0)
    freqs = np.zeros((2, 256), np.uint32)
    freqs[0, :2], freqs[1, :64] = 32768, 1024
    symbols = np.concatenate([rng.integers(0, 2, 8000), rng.integers(0, 64, 8000)]).astype(np.uint8)
    index = np.repeat(np.arange(2), 8000)
    data = pack_symbols("zstd", symbols, index, freqs)
    assert len(data) < 0.97 * len(pack_symbols("zstd", symbols, index, np.full((2, 256), 256)))
    assert np.array_equal(unpack_symbols("zstd", data, index, freqs), symbols)


@pytest.mark.parametrize("kind", ["none", "zstd"])
def test_data_of_a_symbol_that_its_table_does_not_have(kind: str) -> None:
    freqs = np.full((1, 256), 256)
    data = pack_symbols(kind, np.array([1, 2], np.uint8), np.zeros(2, np.uint8), freqs)
    freqs[0] = 0
    freqs[0, :2] = 32768
    with pytest.raises(PayloadError, match="its table does not have"):
        unpack_symbols(kind, data, np.zeros(2, np.uint8), freqs)


@pytest.mark.parametrize("row", [[65536, 0, 0], [0, 65536, 0], [65535, 0, 1], [0, 0, 0], [65537, -1, 0]], ids=str)
def test_rows_that_are_none(row: list[int]) -> None:
    for check in (tables.cumulative, huffman.code_lengths):
        with pytest.raises(ModelError):
            check(np.array([row]))


def test_models_bring_whole_rows() -> None:
    with pytest.raises(ModelError, match=r"expected 1\.\."):
        tables.check_freqs(np.array([[32768, 32768, 0]]))
