"""The codecs of a race: their texts at each quality, what trials of these came to, and which quality is the next to try."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence

from batchcodec.planning.forecast import Forecast, Forecaster
from batchcodec.planning.goal import HIGH, LOW, Goal
from batchcodec.planning.quick_fit import series
from batchcodec.planning.trials import Trials, plain
from batchcodec.registry import Registry

QUALITIES = (25, 50, 75)
FAR = 0.3
"""Logarithm of the factor in bytes by which a codec is out of the race."""

Progress = Callable[[str, float], None]
"""Called with what is done, and how much of that."""
Tasks = Iterable[tuple[str, int]]
"""Texts, and numbers of held groups to try them on."""


class Field:
    """The codecs, each a family of texts that differ in quality.

    Args:
        families: their texts without quality.
        trials: where they are tried.
        forecaster: of what that comes to.
        plugins: where codecs are found.
        progress: told of trials.
    """

    def __init__(
        self, families: Iterable[str], trials: Trials, forecaster: Forecaster, plugins: Registry, progress: Progress
    ) -> None:
        self._trials, self._forecaster, self._plugins, self._progress = trials, forecaster, plugins, progress
        self._has_quality: dict[str, bool] = {}
        for family in families:
            self.add(family)

    def add(self, family: str) -> None:
        """Another codec."""
        self._has_quality[family] = len(series(family, QUALITIES, self._plugins).texts) > 1

    def has_quality(self, family: str) -> bool:
        """Whether there is a quality to choose."""
        return self._has_quality[family]

    def text(self, family: str, quality: int) -> str:
        """The text of a codec at a quality."""
        return series(family, (quality,), self._plugins).texts[0]

    def tried(self, family: str) -> dict[int, Forecast]:
        """Forecasts of a codec by quality."""
        texts = {text for text, _ in self._trials.made}
        last = HIGH if self.has_quality(family) else LOW
        every = {quality: self.text(family, quality) for quality in range(LOW, last + 1)}
        found = {quality: self._forecaster.forecast(text) for quality, text in every.items() if text in texts}
        return {quality: forecast for quality, forecast in found.items() if forecast is not None}

    def wished(self, family: str, goal: Goal) -> int:
        """The quality that comes to the goal, by what was tried."""
        tried = self.tried(family)
        return goal.quality(tried) if self.has_quality(family) else next(iter(tried))

    def at_goal(self, families: Sequence[str], goal: Goal) -> dict[str, int]:
        """Of codecs that were tried, the tried quality which comes to the goal, or nearest to it; the most promising first."""
        chosen = {}
        for family in self.promising(families, goal, math.inf):
            wished = self.wished(family, goal)
            chosen[family] = min(self.tried(family), key=lambda quality, wished=wished: abs(quality - wished))  # type: ignore[misc]
        return chosen

    def promising(self, families: Iterable[str], goal: Goal, far: float = FAR) -> list[str]:
        """Codecs that were tried and are not far behind the best, the best first."""
        promises = {family: goal.promise(tried) for family in families if (tried := self.tried(family))}
        best = min(promises.values(), default=0.0)
        return sorted((f for f, promise in promises.items() if promise <= best + far), key=promises.__getitem__)

    def attempt(self, tasks: Tasks, deadline: float, what: str) -> bool:
        """Try; whether all was done before the deadline."""
        waiting = [task for task in dict.fromkeys(self._paired(tasks)) if task not in self._trials.made]
        for text in dict.fromkeys(text for text, _ in waiting):
            if time.monotonic() < deadline:
                self._trials.warm_up(text)
        return self._trials.run(waiting, deadline, lambda done, total: self._progress(what, done / total))

    def _paired(self, tasks: Tasks) -> list[tuple[str, int]]:
        """What was fitted is tried on a group that it was fitted to beside each one that it was not: it does better there."""
        on = sorted(self._trials.fitted_on)
        others = [number for number in range(len(self._trials.held)) if number not in self._trials.fitted_on]
        beside = dict(zip(others, on, strict=False))
        paired = []
        for text, number in tasks:
            paired.append((text, number))
            if text != plain(text) and number in beside:
                paired.append((text, beside[number]))
        return paired
