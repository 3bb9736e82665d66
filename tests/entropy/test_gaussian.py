"""The bank of Gaussians: its shape, its frozen numbers, and how near they are to the normal distribution."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from batchcodec.entropy import gaussian
from batchcodec.entropy.values import Bank

SCALES = [2.0 ** ((i - 24) / 8) for i in range(81)]


def probabilities(sigma: float, reach: int) -> np.ndarray:
    """Of the integers 0, 1, -1, 2, -2, ..., -reach under a rounded Gaussian, and of all beyond them; float64."""

    def upper(x: float) -> float:  # erfc, so that the small tails keep their digits
        return math.erfc(x / sigma / math.sqrt(2)) / 2

    sides = [upper(k - 0.5) - upper(k + 0.5) for k in range(1, reach + 1)]
    return np.array([1 - 2 * upper(0.5), *np.repeat(sides, 2), 2 * upper(reach + 0.5)])


def test_shape() -> None:
    rows = gaussian.frequencies()
    assert gaussian.N_SCALES == len(rows) == 81
    assert gaussian.SCALES_PER_OCTAVE == 8
    assert gaussian.FIRST_LOG2 == -3
    for sigma, row in zip(SCALES, rows, strict=True):
        reach = min(255, math.ceil(4.5 * sigma) + 1)
        assert row.dtype == np.uint32
        assert len(row) == 2 * reach + 2
        assert row.min() >= 1
        assert row.sum() == 1 << 16
    Bank(rows)


def test_the_bank_is_frozen() -> None:
    """Files hold no copy of it: a change here makes every file of a learned codec unreadable."""
    data = b"".join(row.astype("<u4").tobytes() for row in gaussian.frequencies())
    assert len(data) == 4 * 11294
    assert hashlib.sha256(data).hexdigest() == "3f3791971a1a0d26e17223712c1679a5edbe243813a5bd52d5e027889a6567b7"


def test_rows_are_symmetric_and_fall() -> None:
    for row in gaussian.frequencies():
        center, above, below = int(row[0]), row[1:-1:2].astype(int), row[2:-1:2].astype(int)
        # A row sums to 2^16 exactly: where that leaves one for a pair of equal remainders, the positive integer gets it.
        assert np.isin(above - below, (0, 1)).all()
        assert (above - below).sum() <= 1
        assert (np.diff([center, *above]) <= 1).all()
        assert (np.diff([center, *below]) <= 0).all()


@pytest.mark.parametrize("i", range(81))
def test_frequencies_follow_the_normal_distribution(i: int) -> None:
    row = gaussian.frequencies()[i]
    expected = probabilities(SCALES[i], len(row) // 2 - 1)
    assert expected.sum() == pytest.approx(1, abs=1e-12)
    # What is too rare for a count of its own gets one, and the others share the rest: that moves the widest counts by as much
    # as the rare ones get in all, so the bound is on what is shared, not on the bare probability.
    rare = np.zeros(len(row), bool)
    while True:
        shares = expected * ((1 << 16) - rare.sum()) / expected[~rare].sum()
        if not (new := ~rare & (shares < 1)).any():
            break
        rare |= new
    assert (row[rare] == 1).all()
    assert np.abs(row - shares)[~rare].max() < 1
    # Coding with the row costs next to nothing over the distribution itself.
    likely = expected > 0
    ideal = -(expected[likely] * np.log2(expected[likely])).sum()
    actual = (expected * (16 - np.log2(row))).sum()
    assert 0 <= actual - ideal < 1.5e-3  # bits per symbol


def test_frequencies_are_within_two_counts_where_few_symbols_are_rare() -> None:
    """The plain bound, for the scales from 1 on: there the symbols with a count of one take little from the others."""
    for sigma, row in zip(SCALES[25:], gaussian.frequencies()[25:], strict=True):
        assert np.abs(row - 65536 * probabilities(sigma, len(row) // 2 - 1)).max() <= 2


def test_the_constant_of_the_module() -> None:
    whole = gaussian._SQRT_PI_HALF / 2**96
    assert whole == pytest.approx(math.sqrt(math.pi) / 2, rel=1e-15)
    for numerator in (1, 3, 9):
        x = numerator / 2 * 0.7
        area = gaussian._scaled_erf(numerator, int(0.7 * 2**96)) / 2**96
        assert area == pytest.approx(math.sqrt(math.pi) / 2 * math.erf(x), rel=1e-14)
