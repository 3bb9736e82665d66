"""Cells of levels: both rules beside plain search, tables that are sums, values that are means."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.entropy.tables import TOTAL, quantise_counts
from batchcodec.learned.cells import RULES, Cells, equal, fixed


@st.composite
def weights(draw: st.DrawFn) -> np.ndarray:
    """Of 256 levels: flat, peaked, with gaps, or with few of them used."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    middle, width = draw(st.integers(0, 255)), draw(st.sampled_from([0.5, 3, 20, 1000]))
    counts = np.exp(-np.abs(np.arange(256) - middle) / width) * rng.random(256) ** draw(st.sampled_from([0, 1, 8]))
    found: np.ndarray = quantise_counts(np.floor(1e6 * counts).astype(np.int64)[None])[0].astype(np.int64) - 1
    return found


def cost_of(row: np.ndarray, starts: np.ndarray) -> float:
    """Weighted squared error beside the means of cells."""
    total = 0.0
    for start, end in itertools.pairwise([*starts.tolist(), 256]):
        part, levels = row[start:end].astype(float), np.arange(start, end)
        if part.sum():
            total += float((part * (levels - (part * levels).sum() / part.sum()) ** 2).sum())
    return total


@given(weights(), st.integers(1, 7))
@settings(max_examples=40)
def test_fixed_has_as_many_cells_as_fit_and_cannot_be_bettered_by_moving_an_end(row: np.ndarray, bits: int) -> None:
    starts = fixed(row, bits)
    assert len(starts) == 1 << bits
    assert starts[0] == 0
    assert (np.diff(starts) > 0).all()
    assert starts[-1] < 256
    least = cost_of(row, starts)
    for k in range(1, len(starts), max(1, len(starts) // 8)):
        for by in (-1, 1):
            moved = starts.copy()
            moved[k] += by
            if (np.diff(moved, append=256) > 0).all():
                assert cost_of(row, moved) >= least - len(starts) / 256  # costs are rounded down to 1/256


@given(weights())
@settings(max_examples=20)
def test_two_cells_beside_plain_search(row: np.ndarray) -> None:
    best = min(cost_of(row, np.array([0, end])) for end in range(1, 256))
    assert cost_of(row, fixed(row, 1)) <= best + 2 / 256


def test_four_cells_beside_plain_search() -> None:
    row = np.zeros(256, np.int64)
    row[[3, 9, 10, 40, 41, 90, 200, 255]] = [5, 100, 7, 30, 31, 2, 8, 1]
    best = min(cost_of(row, np.array([0, *ends])) for ends in itertools.combinations([4, 10, 11, 41, 42, 91, 201], 3))
    assert cost_of(row, fixed(row, 2)) == pytest.approx(best, abs=4 / 256)


@given(weights(), st.integers(1, 7))
def test_equal_cells(row: np.ndarray, bits: int) -> None:
    starts = equal(row, bits)
    used = np.flatnonzero(row)
    reach = used[-1] - used[0] + 1 if len(used) else 256
    width = -(-int(reach) // (1 << bits))
    assert starts[0] == 0
    assert (np.diff(starts)[1:] == width).all()
    assert 0 < starts[1] <= width
    assert 256 - starts[-1] <= width
    assert int(row.argmax()) - width // 2 in {*starts.tolist(), starts[1] - width}


def test_the_cells_of_a_table() -> None:
    """They are the format: a change here decodes archives to other pixels."""
    row = quantise_counts(np.floor(1e6 * np.exp(-np.abs(np.arange(256) - 100.3) / 9)).astype(np.int64)[None])
    found = {name: rule(row[0].astype(np.int64) - 1, 3).tolist() for name, rule in RULES.items()}
    assert found == {
        "fixed": [0, 72, 85, 94, 101, 108, 117, 130],
        "equal": [0, 1, 19, 37, 55, 73, 91, 109, 127, 145, 163, 181, 199, 217, 235, 253],
    }


@given(weights(), st.lists(st.integers(0, 8), min_size=3, max_size=3), st.sampled_from(sorted(RULES)))
@settings(max_examples=40)
def test_tables_are_sums_and_values_are_means(row: np.ndarray, bits: list[int], name: str) -> None:
    tables = np.stack([row + 1, row[::-1] + 1, np.full(256, 256)])
    cells = Cells.of(tables, np.array(bits), RULES[name])
    assert cells.bits.tolist() == bits
    for c, n in enumerate(bits):
        n_cells = int(cells.number[c].max()) + 1
        assert n != 0 or n_cells == 1
        assert n != 8 or n_cells == 256
        assert cells.freqs[c].sum() == TOTAL
        assert (cells.freqs[c, :n_cells] > 0).all()
        assert not cells.freqs[c, n_cells:].any()
        np.testing.assert_array_equal(np.bincount(cells.number[c], tables[c], 256), cells.freqs[c])
        assert set(np.diff(cells.number[c].astype(int)).tolist()) <= {0, 1}
        for k in range(n_cells):
            levels = np.flatnonzero(cells.number[c] == k)
            mass = tables[c, levels] - 1
            expected = (mass * levels).sum() / mass.sum() if mass.any() else levels.mean()
            assert cells.value[c, k] == np.float32(expected)


@given(weights())
@settings(max_examples=20)
def test_more_bits_are_nearer(row: np.ndarray) -> None:
    errors = []
    for bits in range(9):
        cells = Cells.of(row[None] + 1, np.array([bits]), fixed)
        errors.append(float((row * (np.arange(256) - cells.value[0, cells.number[0]].astype(float)) ** 2).sum()))
    assert errors[-1] == 0
    assert all(a >= b - 1 for a, b in itertools.pairwise(errors))


def test_latents_through_cells() -> None:
    tables = np.full((2, 256), 256)
    cells = Cells.of(tables, np.array([1, 8]), fixed)
    levels = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 5), dtype=np.uint8)
    numbers = cells.numbers_of(levels)
    assert numbers.dtype == np.uint8
    np.testing.assert_array_equal(numbers[:, 0], levels[:, 0] // 128)
    np.testing.assert_array_equal(numbers[:, 1], levels[:, 1])
    values = cells.values_of(numbers)
    np.testing.assert_array_equal(values[:, 0], np.where(levels[:, 0] < 128, 63.5, 191.5))
    np.testing.assert_array_equal(values[:, 1], levels[:, 1])


def test_entropy() -> None:
    cells = Cells.of(np.full((2, 256), 256), np.array([0, 8]), fixed)
    assert cells.entropy().tolist() == [0, 8]
