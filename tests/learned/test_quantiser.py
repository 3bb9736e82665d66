"""Quantising to 256 levels: within half a step inside the range, clipped outside, and the same again after a round trip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcodec.learned.quantiser import Quantiser

values = st.floats(-1e4, 1e4, width=32)


@st.composite
def ranges(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    pairs = [sorted((draw(values), draw(values))) for _ in range(draw(st.integers(1, 4)))]
    low, high = np.array(pairs, np.float32).T
    return low, high


@given(ranges(), st.booleans(), st.integers(0, 2**32 - 1))
def test_inside_of_the_range_it_is_within_half_a_step(ends: tuple[np.ndarray, np.ndarray], unit_step: bool, seed: int) -> None:
    low, high = ends
    quantiser = Quantiser.spanning(low, high, unit_step=unit_step)
    part = np.random.default_rng(seed).random((2, len(low), 3, 3), np.float32)
    y = np.clip(low[:, None, None] + part * (high - low)[:, None, None], low[:, None, None], high[:, None, None])
    q = quantiser.quantise(y.astype(np.float32))
    error = np.abs(quantiser.dequantise(q) - y)
    # float32 itself is coarse far from zero
    slack = np.maximum(np.abs(low), np.abs(high))[:, None, None] * 2e-6
    # With a unit step the middle is put on the grid, which may clip the topmost half step.
    bound = quantiser.step[:, None, None] * (1.5 if unit_step else 0.5)
    assert (error <= bound + slack).all()


@given(ranges(), st.booleans())
def test_levels_come_back_as_they_were(ends: tuple[np.ndarray, np.ndarray], unit_step: bool) -> None:
    low, high = ends
    high = np.maximum(high, low + np.float32(0.02) * np.maximum(1, np.abs(low)))  # steps that float32 can resolve
    quantiser = Quantiser.spanning(low, high, unit_step=unit_step)
    q = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16), (1, len(low), 16, 16))
    np.testing.assert_array_equal(quantiser.quantise(quantiser.dequantise(q)), q)


@given(ranges())
def test_outside_of_the_range_it_is_clipped(ends: tuple[np.ndarray, np.ndarray]) -> None:
    quantiser = Quantiser.spanning(*ends, unit_step=False)
    shape = (1, len(ends[0]), 1, 1)
    assert (quantiser.quantise(np.full(shape, 1e9, np.float32)) == 255).all()
    assert (quantiser.quantise(np.full(shape, -1e9, np.float32)) == 0).all()


@given(ranges(), st.lists(values, min_size=2, max_size=20))
def test_it_keeps_the_order(ends: tuple[np.ndarray, np.ndarray], ys: list[float]) -> None:
    quantiser = Quantiser.spanning(*ends, unit_step=True)
    y = np.sort(np.array(ys, np.float32))
    levels = quantiser.quantise(np.broadcast_to(y, (1, len(ends[0]), 1, len(y))).astype(np.float32))
    assert (np.diff(levels.astype(int), axis=-1) >= 0).all()


def test_unit_steps_are_kept_where_256_of_them_are_enough() -> None:
    low, high = np.array([-3.2, -100, 0], np.float32), np.array([5.9, 155, 1000], np.float32)
    quantiser = Quantiser.spanning(low, high, unit_step=True)
    np.testing.assert_array_equal(quantiser.step[:2], [1, 1])
    assert quantiser.step[2] == pytest.approx(1000 / 255)
    integers = np.arange(-3, 6, dtype=np.float32).reshape(1, 1, 1, -1).repeat(3, axis=1)
    np.testing.assert_array_equal(quantiser.dequantise(quantiser.quantise(integers))[:, :2], integers[:, :2])


def test_a_channel_without_variation() -> None:
    quantiser = Quantiser.spanning(np.float32([2.5]), np.float32([2.5]), unit_step=False)
    assert quantiser.step[0] > 0
    y = np.full((1, 1, 2, 2), 2.5, np.float32)
    np.testing.assert_allclose(quantiser.dequantise(quantiser.quantise(y)), y, atol=1e-5)
