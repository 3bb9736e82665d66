"""Trials to what packing the whole dataset with a codec would come to: bytes, quality and time, with intervals."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from batchcodec import metrics
from batchcodec.planning.estimate import Interval, Total, filled, total
from batchcodec.planning.frame import Stratum, divided
from batchcodec.planning.survey import Survey
from batchcodec.planning.trials import Trial, Trials, codec_id, plain
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
SPREAD = 0.005
"""Part by which payloads of groups differ at least, whatever a few of them say."""
ROUNDING = 0.005
"""dB that every PSNR may be off: what is printed has two digits."""


@dataclass(frozen=True)
class Forecast:
    """What packing a dataset would come to.

    Attributes:
        codec: its text; "fitted " is before it if it takes the model that was fitted in this plan.
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


Groups = dict[int, dict[int, Trial]]
"""Trials of a codec by stratum and group."""


@dataclass(frozen=True)
class _Layout:
    """Strata, and in which of them each held group is."""

    strata: Sequence[Stratum]
    places: Sequence[int]


Value = Callable[[Trial], float]


class Forecaster:
    """Makes forecasts of one dataset.

    Args:
        survey: of the dataset.
        strata: its groups.
        trials: what codecs made of some of them.
        workers: threads of `pack`.
        reference: a codec that is tried on more groups than others.
    """

    def __init__(self, survey: Survey, strata: Sequence[Stratum], trials: Trials, workers: int, reference: str | None) -> None:
        self._survey, self._strata, self._trials, self._workers = survey, strata, trials, workers
        self._reference = reference
        self._n_items = sum(stratum.n_items for stratum in strata)
        self._n_held = sum(len(held.items) for held in trials.held)
        self._frames = functools.cache(self._frame)

    def _layout(self, *texts: str) -> _Layout:
        """The strata to sum over; the groups that a model was fitted to are one of their own where it is one of the codecs."""
        held, apart = self._trials.held, self._trials.fitted_on
        if not apart or all(text == plain(text) for text in texts):
            return _Layout(self._strata, [one.stratum for one in held])
        (stratum,) = self._strata
        some, rest = divided(stratum, [held[index].number for index in sorted(apart)])
        return _Layout([some, rest], [0 if index in apart else 1 for index in range(len(held))])

    def forecast(self, text: str) -> Forecast | None:
        """From all groups that the codec was tried on; None if there is a kind of image that it was not tried on."""
        layout = self._layout(text)
        made = self._made(text, layout)
        if made is None:
            return None
        trials = [trial for part in made.values() for trial in part.values()]
        weights, fixed, described = self._frames(text)
        margin = 0.0 if self._n_held >= self._n_items else (DESCRIBED * described) ** 2
        payload = self._sum(layout, made, lambda trial: trial.n_bytes, spread=SPREAD)
        n_bytes = (payload + Total(weights + fixed + described, margin, math.inf)).interval()
        seen = sum(trial.n_bytes for trial in trials)
        lossless = all(codec.lossless for codec in self._trials.codecs_of(text))
        return Forecast(
            codec=text,
            n_bytes=Interval(n_bytes.value, max(n_bytes.low - META_BYTES, seen), n_bytes.high + META_BYTES),
            weight_bytes=weights,
            overhead_bytes=round(fixed + described),
            mean_psnr=_exact() if lossless else self._mean_psnr(layout, made),
            pooled_psnr=_exact() if lossless else self._pooled_psnr(layout, made),
            seconds=self._seconds(text, layout, made),
            lossless=lossless,
            n_groups=len(trials),
            n_images=sum(trial.n_items for trial in trials),
        )

    def difference(self, first: str, second: str) -> Interval | None:
        """Bytes by which an archive of the first codec is larger than one of the second, of groups that both were tried on."""
        layout = self._layout(first, second)
        one, other = self._made(first, layout), self._made(second, layout)
        if one is None or other is None:
            return None
        both = {h: [number for number in one[h] if number in other[h]] for h in one}
        if not all(both.values()):
            return None
        values = {h: {n: float(one[h][n].n_bytes - other[h][n].n_bytes) for n in numbers} for h, numbers in both.items()}
        fixed = [sum(self._frames(text)) for text in (first, second)]
        return (
            self._expanded(layout, values, lambda trial: trial.n_bytes) + Total(fixed[0] - fixed[1], 0.0, math.inf)
        ).interval()

    def _frame(self, text: str) -> tuple[int, float, float]:
        """Bytes of weights, of what is in an archive once, and of what grows with it besides payloads."""
        fixed, described = self._trials.fixed(text, META), self._trials.described(text)
        return fixed.model, fixed.overhead, described.overhead * self._n_items / self._n_held

    def _made(self, text: str | None, layout: _Layout) -> Groups | None:
        made: Groups = {h: {} for h in range(len(layout.strata))}
        for index, held in enumerate(self._trials.held):
            trial = self._trials.made.get((text or "", index))
            if trial is not None:
                made[layout.places[index]][held.number] = trial
        return made if all(made.values()) else None

    def _sum(
        self,
        layout: _Layout,
        made: Groups,
        value: Value,
        *,
        by_items: bool = False,
        scattered: bool = True,
        spread: float = 0.0,
    ) -> Total:
        """The total over the whole dataset.

        Args:
            layout: strata.
            made: trials in these.
            value: what is summed up.
            by_items: it is in proportion to the number of images, and differs from the reference by that; else to pixels.
            scattered: it is as uncertain as is the extent of what was not looked at.
            spread: by which groups differ at least, as a part.
        """
        values = {h: {number: value(trial) for number, trial in part.items()} for h, part in made.items()}
        return self._expanded(layout, values, value, by_items=by_items, scattered=scattered, spread=spread)

    def _expanded(
        self,
        layout: _Layout,
        values: dict[int, dict[int, float]],
        value: Value,
        *,
        by_items: bool = False,
        scattered: bool = True,
        spread: float = 0.0,
    ) -> Total:
        reference = self._made(self._reference, layout) or {}
        parts: list[Total] = []
        for h, measured in values.items():
            stratum, numbers = layout.strata[h], list(measured)
            sums = np.array(list(measured.values()))
            more = Total(0.0, 0.0, math.inf)
            cheap = {number: value(trial) for number, trial in reference.get(h, {}).items()}
            if len(cheap) > len(measured) and all(number in cheap for number in measured) and sum(cheap.values()) > 0:
                known = stratum.known(list(cheap), by_items=by_items)[:, 0]
                extent = dict(zip(cheap, known.tolist(), strict=True))
                sums, more = filled(measured, cheap, extent, differs=by_items, spread=spread)
                numbers = list(cheap)
                more = Total(0.0, more.variance * (stratum.n_clusters / len(cheap)) ** 2, more.freedom)
            sizes = stratum.known(numbers, by_items=by_items), stratum.known_totals(by_items=by_items)
            found = total(sums.tolist(), *sizes, stratum.n_clusters, spread=spread)
            unseen = stratum.scatter * found.value**2 if scattered else 0.0
            parts.append(Total(found.value, found.variance + unseen, found.freedom) + more)
        return sum(parts[1:], parts[0])

    def _mean_psnr(self, layout: _Layout, made: Groups) -> Interval:
        found = self._sum(layout, made, lambda trial: trial.psnr_sum, by_items=True, scattered=False).interval()
        value, low, high = (x / self._n_items for x in (found.value, found.low, found.high))
        return Interval(value, low - ROUNDING, min(high + ROUNDING, metrics.LOSSLESS_PSNR))

    def _pooled_psnr(self, layout: _Layout, made: Groups) -> Interval:
        found = self._sum(layout, made, lambda trial: trial.squared_error, scattered=False).interval()
        samples = sum(stratum.n_pixels * stratum.clusters[0].spec.channels for stratum in self._strata)
        value, low, high = (_decibels(x / samples) for x in (found.value, found.high, found.low))
        return Interval(value, low - ROUNDING, high + ROUNDING)

    def _seconds(self, text: str, layout: _Layout, made: Groups) -> Interval:
        parts = []
        for h, part in made.items():
            stratum, seconds = layout.strata[h], [trial.encode_seconds + trial.check_seconds for trial in part.values()]
            known = stratum.known(list(part), by_items=False)[:, :1], stratum.known_totals(by_items=False)[:1]
            parts.append(total(seconds, *known, stratum.n_clusters))
        coding = sum(parts[1:], parts[0]).interval()
        read = self._survey.read_seconds * self._n_items / (self._workers if self._survey.parallel else 1)
        start = self._trials.start_seconds.get(codec_id(text), 0.0) + read
        return Interval(*(max(0.0, x) / self._workers + start for x in (coding.value, coding.low, coding.high)))


def _decibels(error: float) -> float:
    if not math.isfinite(error):
        return -math.inf if error > 0 else math.inf
    return float(min(metrics.LOSSLESS_PSNR, -10 * np.log10(max(error, 1e-10))))


def _exact() -> Interval:
    return Interval(metrics.LOSSLESS_PSNR, metrics.LOSSLESS_PSNR, metrics.LOSSLESS_PSNR)
