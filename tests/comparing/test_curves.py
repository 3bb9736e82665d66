"""Points and what is computed from them, on points whose answers are known."""

from __future__ import annotations

import importlib.util

import pytest

from batchcodec.comparing.curves import Point, around, bd_rate, bytes_at, curve, with_weights
from batchcodec.errors import MissingDependencyError


def point(n_bytes: float, psnr: float, pooled: float | None = None, weights: int = 0) -> Point:
    return Point("x", f"{psnr}", 10, n_bytes, weights, n_bytes / 100, psnr, psnr - 1 if pooled is None else pooled, 1.0, 1.0)


CURVE = [point(100 * 2**k, 30 + 3 * k) for k in range(4)]


def test_a_point_that_is_never_used_is_not_on_the_curve() -> None:
    assert curve([*CURVE, point(900, 35.5)]) == ([30, 33, 36, 39], [100, 200, 400, 800])


def test_bytes_between_points_and_outside_of_them() -> None:
    assert bytes_at(CURVE, 34.5) == pytest.approx(200 * 2**0.5)
    assert bytes_at(CURVE, 29.9) is None
    assert bytes_at([], 30) is None
    assert [p and p.mean_psnr for p in around(CURVE, 34)] == [33, 36]


def test_half_of_the_bytes_is_a_bd_rate_of_minus_50() -> None:
    half = [point(p.bytes_per_item / 2, p.mean_psnr) for p in CURVE]
    assert bd_rate(CURVE, half) == pytest.approx(-50, abs=1e-6)
    assert bd_rate(CURVE, half, pooled=True) == pytest.approx(-50, abs=1e-6)
    assert bd_rate(half, CURVE) == pytest.approx(100, abs=1e-6)
    assert bd_rate(CURVE, CURVE[:1]) is None
    assert bd_rate(CURVE, [point(1, 50), point(2, 60)]) is None


def test_weights_are_spread() -> None:
    heavy = with_weights(point(100, 30, weights=5000), 100)
    assert heavy.bytes_per_item == pytest.approx(150)
    assert heavy.bits_per_pixel == pytest.approx(1.5)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("batchcodec.comparing.curves.find_spec", lambda name: None if name == "bjontegaard" else found(name))
    with pytest.raises(MissingDependencyError, match=r"bjontegaard.*batchcodec\[compare\]"):
        bd_rate(CURVE, CURVE)


def test_without_points_there_is_no_bd_rate() -> None:
    assert bd_rate(CURVE, []) is None
    assert bd_rate([], CURVE) is None
