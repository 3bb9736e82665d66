"""Trials to what packing the whole dataset with a codec would come to: bytes, quality and time, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from batchcodec import metrics
from batchcodec.planning.estimate import Interval, Total, total
from batchcodec.planning.frame import Stratum
from batchcodec.planning.survey import Survey
from batchcodec.planning.trials import Trial, Trials
from batchcodec.types import JSON

META: dict[str, JSON] = {
    "created_by": "batchcodec 0.0.0",
    "source_format": "folder",
    "format_options": {"frames": "first", "metadata": False, "key": None, "label_key": None, "image_format": "png"},
    "preprocess": {"size": "native", "resample": "bicubic", "fit": "stretch", "mode": "keep"},
    "codecs": {"avif:quality=60,mosaic=true": 1000000},
    "source_bytes": 1000000000,
    "mean_psnr": 35.1234,
    "pooled_psnr": 35.1234,
    "lossless": False,
    "notes": {},
    "n_skipped": 0,
    "skipped": [],
}
"""About what an archive says of itself."""
META_BYTES = 256
"""That it may say more or less than that."""
DESCRIBED = 0.05
"""Part by which bytes of names, labels and framing may differ in groups that were not read."""
ROUNDING = 0.005
"""dB that every PSNR may be off: what is printed has two digits."""


@dataclass(frozen=True)
class Forecast:
    """What packing a dataset would come to.

    Attributes:
        codec: its text.
        n_bytes: of the archive, all counted.
        weight_bytes: of them decoder weights.
        overhead_bytes: of them names, labels, index and framing.
        mean_psnr: mean over images, dB.
        pooled_psnr: of all errors together, dB.
        seconds: of `pack` on this machine, as busy as it is now.
        lossless: whether nothing is lost.
        n_groups: that it was tried on.
        n_images: in these.
    """

    codec: str
    n_bytes: Interval
    weight_bytes: int
    overhead_bytes: int
    mean_psnr: Interval
    pooled_psnr: Interval
    seconds: Interval
    lossless: bool
    n_groups: int
    n_images: int


class Forecaster:
    """Makes forecasts of one dataset.

    Args:
        survey: of the dataset.
        strata: its groups.
        trials: what codecs made of some of them.
        workers: threads of `pack`.
    """

    def __init__(self, survey: Survey, strata: Sequence[Stratum], trials: Trials, workers: int) -> None:
        self._survey, self._strata, self._trials, self._workers = survey, strata, trials, workers
        self._n_items = sum(stratum.n_items for stratum in strata)
        self._n_held = sum(len(held.items) for held in trials.held)

    def forecast(self, text: str) -> Forecast | None:
        """From all groups that the codec was tried on; None if there is a kind of image that it was not tried on."""
        made = self._made(text)
        if made is None:
            return None
        trials = [trial for part in made.values() for trial in part.values()]
        payload = self._sum(made, lambda trial: trial.n_bytes)
        fixed, described = self._trials.fixed(text, META), self._trials.described(text)
        described_bytes = described.overhead * self._n_items / self._n_held
        margin = 0.0 if self._n_held >= self._n_items else (DESCRIBED * described_bytes) ** 2
        n_bytes = (payload + Total(fixed.total + described_bytes, margin, math.inf)).interval()
        n_bytes = Interval(n_bytes.value, n_bytes.low - META_BYTES, n_bytes.high + META_BYTES)
        lossless = all(codec.lossless for codec in self._trials.codecs_of(text))
        return Forecast(
            codec=text,
            n_bytes=Interval(n_bytes.value, max(n_bytes.low, sum(t.n_bytes for t in trials)), n_bytes.high),
            weight_bytes=fixed.model,
            overhead_bytes=round(fixed.overhead + described_bytes),
            mean_psnr=_exact() if lossless else self._mean_psnr(made),
            pooled_psnr=_exact() if lossless else self._pooled_psnr(made),
            seconds=self._seconds(text, made),
            lossless=lossless,
            n_groups=len(trials),
            n_images=sum(trial.n_items for trial in trials),
        )

    def difference(self, first: str, second: str) -> Interval | None:
        """Bytes by which an archive of the first codec is larger than one of the second, of groups that both were tried on."""
        one, other = self._made(first), self._made(second)
        if one is None or other is None:
            return None
        parts: list[Total] = []
        for h, stratum in enumerate(self._strata):
            both = [number for number in one[h] if number in other[h]]
            if not both:
                return None
            parts.append(_total(stratum, both, [one[h][n].n_bytes - other[h][n].n_bytes for n in both], by_items=False))
        fixed = [self._trials.fixed(text, META).total + self._trials.described(text).overhead for text in (first, second)]
        return sum(parts, Total(fixed[0] - fixed[1], 0.0, math.inf)).interval()

    def _made(self, text: str) -> dict[int, dict[int, Trial]] | None:
        """Trials of a codec by stratum and group."""
        made: dict[int, dict[int, Trial]] = {h: {} for h in range(len(self._strata))}
        for index, held in enumerate(self._trials.held):
            trial = self._trials.made.get((text, index))
            if trial is not None:
                made[held.stratum][held.number] = trial
        return made if all(made.values()) else None

    def _sum(self, made: dict[int, dict[int, Trial]], value: Callable[[Trial], float], *, by_items: bool = False) -> Total:
        parts = [
            _total(self._strata[h], list(part), [value(trial) for trial in part.values()], by_items=by_items)
            for h, part in made.items()
        ]
        return sum(parts[1:], parts[0])

    def _mean_psnr(self, made: dict[int, dict[int, Trial]]) -> Interval:
        found = _without_scatter(self._strata, made, lambda trial: trial.psnr_sum).interval()
        low, value, high = (x / self._n_items for x in (found.low, found.value, found.high))
        return Interval(value, low - ROUNDING, min(high + ROUNDING, metrics.LOSSLESS_PSNR))

    def _pooled_psnr(self, made: dict[int, dict[int, Trial]]) -> Interval:
        found = _without_scatter(self._strata, made, lambda trial: trial.squared_error).interval()
        samples = sum(
            sum(t.n_samples for t in part.values()) / sum(t.n_items for t in part.values()) * self._strata[h].n_items
            for h, part in made.items()
        )
        value, low, high = (_decibels(x / samples) for x in (found.value, found.high, found.low))
        return Interval(value, low - ROUNDING, high + ROUNDING)

    def _seconds(self, text: str, made: dict[int, dict[int, Trial]]) -> Interval:
        coding = self._sum(made, lambda trial: trial.encode_seconds + trial.check_seconds).interval()
        read = self._survey.read_seconds * self._n_items / (self._workers if self._survey.parallel else 1)
        start = self._trials.start_seconds.get(text.partition(":")[0], 0.0) + read
        return Interval(*(max(0.0, x) / self._workers + start for x in (coding.value, coding.low, coding.high)))


def _total(stratum: Stratum, numbers: list[int], values: list[float], *, by_items: bool) -> Total:
    known, known_totals = stratum.known(numbers, by_items=by_items), stratum.known_totals(by_items=by_items)
    found = total(values, known, known_totals, stratum.n_clusters)
    return Total(found.value, found.variance + stratum.scatter * found.value**2, found.freedom)


def _without_scatter(strata: Sequence[Stratum], made: dict[int, dict[int, Trial]], value: Callable[[Trial], float]) -> Total:
    """A total that is divided by the number of images, which is known."""
    parts = []
    for h, part in made.items():
        known = strata[h].known(list(part), by_items=True)
        known_totals = strata[h].known_totals(by_items=True)
        parts.append(total([value(trial) for trial in part.values()], known, known_totals, strata[h].n_clusters))
    return sum(parts[1:], parts[0])


def _decibels(error: float) -> float:
    if not math.isfinite(error):
        return -math.inf if error > 0 else math.inf
    return float(min(metrics.LOSSLESS_PSNR, -10 * np.log10(max(error, 1e-10))))


def _exact() -> Interval:
    return Interval(metrics.LOSSLESS_PSNR, metrics.LOSSLESS_PSNR, metrics.LOSSLESS_PSNR)
