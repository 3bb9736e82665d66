"""The estimators, by simulation: intervals hold the truth about as often as they say, and close when all was measured."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcodec.planning.estimate import Total, filled, scatter, student, total
from batchcodec.planning.order import spread_order


def test_students_quantiles() -> None:
    """Against the printed tables."""
    for freedom, expected in ((1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (5, 2.571), (10, 2.228), (30, 2.042)):
        assert student(0.975, freedom) == pytest.approx(expected, rel=0.012)
    with pytest.raises(ValueError, match="degrees"):
        student(0.975, 0)


def test_all_clusters_measured_leave_no_doubt() -> None:
    y = [3.0, 5.0, 9.0]
    found = total(y, np.array([[1.0], [2.0], [3.0]]), np.array([6.0]), 3).interval()
    assert (found.low, found.value, found.high) == (17, 17, 17)


def test_one_cluster_of_many_says_nothing_of_the_spread() -> None:
    found = total([3.0], np.array([[1.0]]), np.array([10.0]), 10).interval()
    assert found.value == 30
    assert math.isinf(found.high)


@pytest.mark.parametrize("columns", [1, 2])
def test_intervals_hold_what_they_say(columns: int) -> None:
    """Populations of 60 groups of unequal size, of which 8 are measured; 95 % of the intervals should hold the truth."""
    rng = np.random.default_rng(0)
    n_hits, widths = 0, []
    for _ in range(600):
        size = rng.uniform(0.5, 1.5, 60)
        files = size * rng.lognormal(0, 0.4, 60)
        y = 40 * size + 100 * files + np.sqrt(size) * rng.normal(0, 4, 60)
        known = np.stack([size, files], axis=1)[:, :columns]
        picks = rng.choice(60, 8, replace=False)
        found = total(y[picks].tolist(), known[picks], known.sum(0), 60).interval()
        n_hits += found.contains(float(y.sum()))
        widths.append(found.relative)
    assert 0.9 < n_hits / 600 < 0.985
    assert np.mean(widths) < (0.06 if columns == 2 else 0.4)


@pytest.mark.parametrize("n_few", [3, 8])
@pytest.mark.parametrize("differs", [False, True])
def test_a_cheap_measurement_makes_intervals_narrow_and_true(differs: bool, n_few: int) -> None:
    rng = np.random.default_rng(1)
    n_hits, widths = 0, []
    for _ in range(400):
        n = 30
        size = rng.uniform(0.8, 1.2, n)
        cheap = size * rng.lognormal(3, 0.3, n)
        y = cheap + 5 * size + rng.normal(0, 0.3, n) if differs else 0.7 * cheap * rng.normal(1, 0.01, n)
        few = rng.choice(n, n_few, replace=False).tolist()
        every = dict(enumerate(cheap.tolist()))
        values, more = filled({i: float(y[i]) for i in few}, every, dict(enumerate(size.tolist())), differs=differs)
        assert values[few] == pytest.approx(y[few])
        found = (total(values.tolist(), size[:, None], np.array([size.sum()]), n) + more).interval()
        widths.append(found.relative)
        n_hits += found.contains(float(y.sum()))
    assert np.mean(widths) < 0.05
    assert n_hits / 400 > 0.88


def test_a_sample_that_is_unlike_the_rest_says_so() -> None:
    """Measured are small values of what is known only: predicting the large ones is less certain than another sample's."""
    rng = np.random.default_rng(2)
    size, cheap = np.ones(20), np.linspace(1, 20, 20)
    y = 2 * cheap + rng.normal(0, 0.5, 20)

    def variance(few: list[int]) -> float:
        extent = dict(enumerate(size.tolist()))
        return filled({i: float(y[i]) for i in few}, dict(enumerate(cheap.tolist())), extent, differs=True)[1].variance

    assert variance([0, 1, 2, 3, 4, 5]) > 3 * variance([0, 4, 8, 12, 15, 19])


def test_a_few_clusters_that_are_alike_do_not_speak_for_all() -> None:
    """AVIF mosaics of Fashion-MNIST's test images: five groups of eight happen to be within 0.15 %, and two are not."""
    y = np.array([192026, 187716, 191797, 192072, 189672, 192009, 191751, 91148.0])
    known = np.array([1337.0] * 7 + [641])[:, None]
    hits = []
    for spread in (0.0, 0.005):
        picks = [list(some) for some in itertools.combinations(range(8), 4)]
        found = [total(y[some].tolist(), known[some], known.sum(0), 8, spread=spread).interval() for some in picks]
        hits.append(np.mean([interval.contains(y.sum()) for interval in found]))
        assert total(y.tolist(), known, known.sum(0), 8, spread=spread).variance == 0
    assert hits[0] < 0.95 < hits[1]


def test_totals_of_strata_add_up() -> None:
    both = Total(10, 4, 3) + Total(5, 4, 3)
    assert (both.value, both.variance) == (15, 8)
    assert both.freedom == pytest.approx(6)  # Satterthwaite
    known = both + Total(7, 0.0, math.inf)
    assert (known.value, known.freedom) == (22, pytest.approx(6))
    assert math.isinf((both + Total(1, math.inf, 0)).interval().high)


def test_what_was_not_looked_at_is_uncertain() -> None:
    assert scatter([5.0, 5.0], 2) == 0
    assert scatter([5.0, 5.0, 5.0], 10) == 0
    assert scatter([4.0, 6.0], 10) == pytest.approx(2 / 2 / 25 * 0.8)
    assert math.isinf(scatter([4.0], 10))


@given(st.integers(0, 300), st.floats(0, 1, exclude_max=True))
def test_an_order_is_a_permutation(n: int, shift: float) -> None:
    assert sorted(spread_order(n, shift)) == list(range(n))


def test_every_beginning_of_an_order_is_spread() -> None:
    order = spread_order(1000, 0.1)
    for k in (5, 20, 100):
        gaps = np.diff(sorted(order[:k]))
        assert gaps.max() <= 3.5 * 1000 / k
