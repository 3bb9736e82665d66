"""Which quality comes to a goal, by what was tried."""

from __future__ import annotations

from dataclasses import replace

from batchcodec.planning.estimate import Interval
from batchcodec.planning.forecast import Forecast
from batchcodec.planning.goal import Goal


def forecast(n_bytes: float, psnr: float, margin: float = 0.0, lossless: bool = False) -> Forecast:
    size = Interval(n_bytes, n_bytes * (1 - margin), n_bytes * (1 + margin))
    quality = Interval(psnr, psnr - margin, psnr + margin)
    return Forecast("x", size, 0, 0, quality, quality, size, lossless, 3, 30)


TRIED = {25: forecast(1000, 30), 50: forecast(2000, 34), 75: forecast(4000, 38)}


def test_quality_for_decibels() -> None:
    assert Goal(psnr=34).quality(TRIED) == 50
    assert Goal(psnr=36).quality(TRIED) == 63  # 62.5 is rounded to where it is reached
    assert Goal(psnr=29).quality(TRIED) == 19
    assert Goal(psnr=90).quality(TRIED) == 99
    assert Goal(psnr=90).quality({50: TRIED[50]}) == 75  # no farther at once
    assert Goal(psnr=34).quality({50: forecast(1, 33)}) == 55


def test_what_was_tried_on_few_groups_gives_no_slope() -> None:
    few = {50: replace(forecast(1900, 35.1), n_groups=1), 52: replace(forecast(2000, 36.2), n_groups=20)}
    assert Goal(psnr=35).quality(few) == 46
    noisy = {50: forecast(1900, 35.1), 52: forecast(2000, 35.0)}
    assert 52 < Goal(psnr=36).quality(noisy) <= 65


def test_a_strict_goal_takes_the_margin_into_account() -> None:
    tried = {q: forecast(f.n_bytes.value, f.mean_psnr.value, 0.4) for q, f in TRIED.items()}
    assert Goal(psnr=36, strict=True).quality(tried) == 65  # 0.3 dB of margin, not all 0.4
    assert not Goal(psnr=34, strict=True).reached(tried[50])
    assert Goal(psnr=34).reached(tried[50])
    assert Goal(n_bytes=2100).reached(tried[50])
    assert not Goal(n_bytes=2100, strict=True).reached(tried[50])


def test_quality_for_bytes_and_what_is_better() -> None:
    goal = Goal(n_bytes=2829)
    assert goal.quality(TRIED) == 62
    assert goal.rank(TRIED[50]) < goal.rank(TRIED[25])
    assert Goal(psnr=30).rank(TRIED[25]) < Goal(psnr=30).rank(TRIED[50])
    assert Goal(lossless=True).reached(forecast(1, 100, lossless=True))
    assert not Goal(lossless=True).reached(TRIED[75])


def test_promises_are_bytes_at_the_goal() -> None:
    goal = Goal(psnr=34)
    assert goal.promise(TRIED) < goal.promise({50: forecast(2500, 34)})
    assert goal.promise({50: forecast(2500, 38)}) < goal.promise({50: forecast(2500, 34)})
