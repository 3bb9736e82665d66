"""The integer density of `balle2017-1` and the tables that are made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.entropy.tables import TOTAL
from batchcodec.errors import ModelError
from batchcodec.learned.balle import density


def laplacian(scale: float) -> Any:
    """Masses [1, CELLS] of a Laplacian whose scale is so many cells."""
    ends = np.arange(density.CELLS + 1) - density.CELLS // 2
    below = np.where(ends < 0, 0.5 * np.exp(ends / scale), 1 - 0.5 * np.exp(-ends / scale))
    return density.to_masses(np.diff(below)[None])


def table(masses: Any, width: int) -> Any:
    (row,) = density.bank(masses, np.array([width], np.uint16)).rows
    return row


@pytest.mark.parametrize("width", [1, 7, 1024, 5000, 65535])
@pytest.mark.parametrize("scale", [0.2, 3.0, 40.0])
def test_tables_are_sound(width: int, scale: float) -> None:
    row = table(laplacian(scale), width)
    assert row.sum() == TOTAL
    assert row.min() >= 1
    assert 2 <= len(row) <= 2 * density.MAX_INTEGER + 2


@pytest.mark.parametrize("width", [700, 1024, 3000])
def test_a_bin_has_the_mass_of_its_cells(width: int) -> None:
    """Against floats, for bins that lie within and across cells."""
    scale, step = 6.0, width / density.UNITS
    row = table(laplacian(scale), width) / TOTAL

    def mass(k: int) -> float:
        ends = np.array([k - 0.5, k + 0.5]) * step
        below = np.where(ends < 0, 0.5 * np.exp(ends / scale), 1 - 0.5 * np.exp(-ends / scale))
        return float(below[1] - below[0])

    for symbol in range(min(11, len(row) - 1)):
        k = (symbol + 1) // 2 * (1 if symbol % 2 else -1)
        assert row[symbol] == pytest.approx(mass(k), rel=0.08, abs=2e-4)


def test_golden_numbers() -> None:
    """The rule is part of the byte format: these may never change."""
    masses = np.zeros((1, density.CELLS), np.uint16)
    masses[0, 126:130] = 1, 5, 9, 2
    assert table(masses, 1024).tolist() == [26985, 21202, 11565, 3855, 1927, 2]
    expected = [7906, 10165, 5647, 10164, 5647, 9479, 5255, 2259, 1129, 2259, 1129, 2259, 1129, 738, 369, 2]
    assert table(masses, 300).tolist() == expected
    assert table(masses, 65535).tolist() == [65534, 2]


def test_values_beyond_the_cells_escape() -> None:
    masses = np.zeros((1, density.CELLS), np.uint16)
    masses[0, 0] = 1  # all mass at the low end
    row = table(masses, 1)  # bins so narrow that their integers are far beyond the largest with a symbol
    assert len(row) == 2 * density.MAX_INTEGER + 2
    assert row[-1] > 60_000


@settings(max_examples=60)
@given(st.lists(st.integers(0, 65535), min_size=4, max_size=4), st.integers(1, 65535), st.integers(0, 252))
def test_any_density_gives_a_table(some: list[int], width: int, at: int) -> None:
    masses = np.zeros((1, density.CELLS), np.uint16)
    masses[0, at : at + 4] = some
    masses[0, 128] = 1
    row = table(masses, width)
    assert row.sum() == TOTAL
    assert row.min() >= 1


def test_bad_densities() -> None:
    masses, widths = np.ones((2, density.CELLS), np.uint16), np.ones((density.N_QUALITIES, 2), np.uint16)
    density.check(masses, widths)
    masses[1] = 0
    with pytest.raises(ModelError, match="channel 1 has no mass"):
        density.check(masses, widths)
    masses[1], widths[3, 0] = 1, 0
    with pytest.raises(ModelError, match="without width"):
        density.check(masses, widths)


def test_what_is_measured() -> None:
    values = np.random.default_rng(0).laplace(0, [[1.0], [50.0]], (2, 20_000)).astype(np.float32)
    finest = np.array([0.5, 0.5])
    cell, counts = density.histogram(values, finest)
    assert (counts.sum(1) == 20_000).all()
    assert cell[0] < cell[1]
    assert (cell >= finest / 4).all()
    masses, widths = density.to_masses(counts + 0.1), density.to_widths(np.ones((100, 2)), cell)
    for channel in range(2):
        row = density.bank(masses, widths[0]).rows[channel]
        integers = np.rint(values[channel]).astype(int)
        symbols = np.where(integers > 0, 2 * integers - 1, -2 * integers)
        bits = 16 - np.log2(row[np.minimum(symbols, len(row) - 1)])
        ideal = np.bincount(symbols) / len(symbols)
        entropy = -(ideal[ideal > 0] * np.log2(ideal[ideal > 0])).sum()
        assert entropy < bits.mean() + 0.01
        assert bits.mean() < entropy + 0.1
