"""Frequencies and cumulative tables."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batchcodec.entropy import tables
from batchcodec.errors import ModelError

count_arrays = hnp.arrays(
    np.int64,
    st.tuples(st.integers(1, 3), st.integers(2, 40)),
    elements=st.one_of(st.just(0), st.integers(0, 9), st.integers(0, 2**40)),
)


@given(count_arrays)
def test_rows_sum_to_total_and_follow_the_counts(counts: np.ndarray) -> None:
    freqs = tables.quantise_counts(counts)
    assert freqs.dtype == np.uint32
    assert freqs.min() >= 1
    assert (freqs.sum(axis=1) == tables.TOTAL).all()
    for row, out in zip(counts, freqs, strict=True):
        order = np.argsort(row, kind="stable")
        assert (np.diff(out[order].astype(np.int64)) >= np.where(np.diff(row[order]) > 0, 0, -1)).all()
    tables.check_cdfs(tables.cumulative(freqs))


def test_golden_rows() -> None:
    counts = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 0], [70000, 1, 0], [5, 3, 2], [1 << 45, 1, 1 << 40]])
    assert tables.quantise_counts(counts).tolist() == [
        [21846, 21845, 21845],
        [21846, 21845, 21845],
        [65534, 1, 1],
        [65534, 1, 1],
        [32768, 19661, 13107],
        [63549, 1, 1986],
    ]


@pytest.mark.parametrize("n_symbols", [2, 256, 4096])
def test_an_empty_row_is_flat(n_symbols: int) -> None:
    freqs = tables.quantise_counts(np.zeros((2, n_symbols), np.int64))
    assert freqs.max() - freqs.min() <= 1


@pytest.mark.parametrize("skew", [1, 4, 12, 60])
def test_cost_is_near_the_optimum(skew: int) -> None:
    counts = np.floor(1e6 * np.random.default_rng(skew).random((1, 200)) ** skew).astype(np.int64)
    best = np.ones(200, np.int64)  # greedy: the cost is convex in each frequency, so the best single step is always right
    gains = [(-c * np.log2(2.0), s) for s, c in enumerate(counts[0].tolist())]
    heapq.heapify(gains)
    for _ in range(tables.TOTAL - 200):
        _, s = heapq.heappop(gains)
        best[s] += 1
        heapq.heappush(gains, (-counts[0, s] * np.log2((best[s] + 1) / best[s]), s))
    cost = (counts * (16 - np.log2(tables.quantise_counts(counts)))).sum()
    assert cost <= (counts * (16 - np.log2(best))).sum() * 1.00002


def test_bad_counts() -> None:
    for counts in (
        np.zeros(3, np.int64),
        np.zeros((1, 3)),
        np.zeros((0, 3), np.int64),
        np.zeros((1, 1), np.int64),
        np.zeros((1, 4097), np.int64),
        np.array([[1, -1]]),
        np.array([[1 << 46, 1]]),
        np.array([[1 << 63, 1]], np.uint64),
    ):
        with pytest.raises(ValueError, match="count"):
            tables.quantise_counts(counts)


def test_cumulative() -> None:
    assert tables.cumulative(np.array([[1, 65534, 1]])).tolist() == [[0, 1, 65535, 65536]]


@pytest.mark.parametrize(
    "freqs",
    [
        np.array([[65536, 0]]),
        np.array([[65535, 2]]),
        np.array([[65537, -1]]),
        np.array([[0.5, 0.5]]),
        np.array([65535, 1]),
        np.array([[65536]]),
        np.array([[2**32 + 1, 65535]]),
        np.array([[2**64 - 1, 65537]], np.uint64),
        np.ones((1, 65536), np.int64),
        np.full((4097, 2), 32768),
        np.broadcast_to(np.uint32(16), (4096, 4096)),
        np.zeros((0, 2), np.int64),
    ],
)
def test_bad_frequencies(freqs: np.ndarray) -> None:
    with pytest.raises(ModelError):
        tables.cumulative(freqs)


@pytest.mark.parametrize(
    "cdfs",
    [
        np.array([[0, 5, 5, 65536]]),
        np.array([[0, 9, 5, 65536]]),
        np.array([[1, 5, 9, 65536]]),
        np.array([[0, 5, 9, 65535]]),
        np.array([[0, 70000, 65536]]),
        np.array([[0, -5, 65536]]),
        np.array([[0, 2**32 + 5, 65536]]),
        np.array([[0.0, 5.0, 65536.0]]),
        np.array([0, 5, 65536]),
        np.array([[0, 65536]]),
        np.array([[0, 5, 65536], [0, 0, 65536]]),
        np.zeros((0, 3), np.int64),
        np.broadcast_to(np.uint32(0), (1, 4098)),
        np.broadcast_to(np.uint32(0), (1 << 30, 1 << 20)),
    ],
)
def test_bad_cdfs(cdfs: np.ndarray) -> None:
    with pytest.raises(ModelError):
        tables.check_cdfs(cdfs)


def test_tables_from_files_may_be_unaligned_or_of_other_byte_order() -> None:
    good = np.array([[0, 5, 65536]], np.uint32)
    unaligned = np.frombuffer(b"x" + good.tobytes(), np.uint32, offset=1).reshape(1, 3)
    for cdfs in (unaligned, good.astype(">u4"), good.astype(np.uint64), np.asfortranarray(good)):
        out = tables.check_cdfs(cdfs)
        assert out.dtype == np.uint32
        assert out.dtype.isnative
        assert out.flags.aligned
        assert out.flags.c_contiguous
        assert out.tolist() == good.tolist()


def test_streams_out_of_range() -> None:
    zeros = np.zeros(3, np.int32)
    for bad in (np.array([0, 0, 4]), np.array([0, -1, 0]), np.array([0, 2**16, 0]), np.array([2**63, 0, 0], np.uint64)):
        with pytest.raises(ModelError):
            tables.check_stream(bad, zeros, 4, 4)
        with pytest.raises(ModelError):
            tables.check_stream(zeros, bad, 4, 4)
    for bad in (zeros[:2], zeros[None], zeros.astype(float), zeros.astype(bool)):
        with pytest.raises(ValueError, match="expected"):
            tables.check_stream(bad, zeros, 4, 4)
        with pytest.raises(ValueError, match="expected"):
            tables.check_stream(zeros, bad, 4, 4)


def test_count_symbols_and_code_length() -> None:
    symbols, index = np.array([0, 1, 1, 1], np.uint8), np.array([0, 0, 1, 1], np.int32)
    assert tables.count_symbols(symbols, index, 2, 3).tolist() == [[1, 1, 0], [0, 2, 0]]
    freqs = np.array([[32768, 16384, 16384], [1, 65534, 1]])
    assert tables.code_length_bits(symbols, index, freqs) == pytest.approx(1 + 2 + 2 * -np.log2(65534 / 65536))
    assert tables.code_length_bits(symbols[:0], index[:0], freqs) == 0
