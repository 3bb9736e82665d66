"""The end of a race: the best few codecs are brought to the goal and tried on more groups, and one is the best."""

from __future__ import annotations

import math

from batchcodec.planning.clock import Clock
from batchcodec.planning.field import Field
from batchcodec.planning.forecast import Forecast, Forecaster
from batchcodec.planning.goal import HIGH, LOW, Goal
from batchcodec.planning.trials import Trials

SETTLE_PART, ADJUST_PART, NARROW_PART = 0.65, 0.8, 0.92
"""Parts of the time until which codecs are brought to the goal, and tried on more groups, before and after the quality of the
best is adjusted to what these say."""
PRECISION = 0.01
"""Half of an interval, as a part of the bytes, that is narrow enough."""
RELIABLE = 0.05
"""The same, that is narrow enough to say nothing of it."""
MAX_CONTENDERS = 3
STEPS = 4
"""Qualities that are tried for a codec to come to the goal."""


class Final:
    """Among codecs that were tried near a goal.

    Args:
        field, trials, forecaster: of the race.
        clock: of the plan.
        goal: what is asked.
        automatic: text of the codec that `pack` takes without --codec.

    Attributes:
        goal: the same.
    """

    def __init__(self, field: Field, trials: Trials, forecaster: Forecaster, clock: Clock, goal: Goal, automatic: str) -> None:
        self._field, self._trials, self._forecaster, self._clock = field, trials, forecaster, clock
        self.goal, self._automatic = goal, automatic

    def best(self, chosen: dict[str, int], lossless: list[str], pilot: list[int]) -> str | None:
        """The text of the best of all that come to the goal; None if none does.

        Args:
            chosen: of each codec the quality nearest to the goal, which is updated.
            lossless: texts.
            pilot: groups that every codec is tried on.
        """
        goal, field = self.goal, self._field
        for _ in range(STEPS):  # first those that are near the goal are brought to it
            near = [family for family in chosen if self._is_near(field.text(family, chosen[family]))]
            moved = [self._brought(chosen, family, pilot, SETTLE_PART) for family in near[:MAX_CONTENDERS]]
            if not any(moved):
                break
        self._narrow(self._contenders(chosen, lossless), pilot, ADJUST_PART)
        for _ in range(STEPS):  # what more groups say may be a little more or less
            best = next(iter(self._contenders(chosen, lossless)), None)
            forecast = None if best is None else self._forecaster.forecast(best)
            family = next((f for f, q in chosen.items() if field.text(f, q) == best), None)
            if forecast is None or family is None:
                break
            tried = field.tried(family)
            if goal.reached(forecast) and goal.quality(tried) in tried:
                break
            if not self._brought(chosen, family, pilot, NARROW_PART):
                break
            self._narrow(self._contenders(chosen, lossless), pilot, ADJUST_PART)
        self._narrow(self._contenders(chosen, lossless), pilot, NARROW_PART)
        return self.picked(chosen, lossless)

    def picked(self, chosen: dict[str, int], lossless: list[str]) -> str | None:
        """The text of the best of those that come to the goal, at any quality that was tried; None if none does.

        `chosen` is updated. A codec that was tried for its speed alone is none of them.
        """
        goal, field = self.goal, self._field
        texts = [field.text(f, q) for f in chosen for q in field.tried(f)] + lossless + [self._automatic]
        found = [(text, f) for text in dict.fromkeys(texts) if (f := self._forecaster.forecast(text))]
        for aim in (goal, goal.roughly()):
            reaching = [pair for pair in found if aim.reached(pair[1]) and pair[1].n_groups >= min(2, len(self._trials.held))]
            if reaching:
                best = min(reaching, key=lambda pair: goal.rank(pair[1]))[0]
                chosen.update({f: q for f in chosen for q in field.tried(f) if field.text(f, q) == best})
                return best
        return None

    def _is_near(self, text: str) -> bool:
        forecast = self._forecaster.forecast(text)
        goal = self.goal
        return forecast is not None and goal.nearly().reached(forecast) and not goal.roughly().reached(forecast)

    def _brought(self, chosen: dict[str, int], family: str, groups: list[int], part: float) -> bool:
        """Change the quality of a codec by a step towards the goal; whether it was tried on these groups in time."""
        goal, field = self.goal, self._field
        if not field.has_quality(family):
            return False
        following = goal.quality(field.tried(family))
        if following == chosen[family]:
            following += -1 if goal.n_bytes is not None else 1
        if not LOW <= following <= HIGH:
            return False
        text = field.text(family, following)
        if not field.attempt([(text, number) for number in groups], self._clock.by(part), "the goal"):
            return False
        chosen[family] = following
        return True

    def _contenders(self, chosen: dict[str, int], lossless: list[str]) -> list[str]:
        """The best few that come to the goal, or nearly do, the best first. What `pack` takes by itself may be one."""
        texts = [self._field.text(family, quality) for family, quality in chosen.items()] + lossless
        texts += [] if self._automatic in texts else [self._automatic]
        found = [(text, forecast) for text in texts if (forecast := self._forecaster.forecast(text)) is not None]
        fitting = [(text, forecast) for text, forecast in found if self.goal.nearly().reached(forecast)]
        fitting.sort(key=lambda pair: self.goal.rank(pair[1]))
        return [text for text, _ in fitting[:MAX_CONTENDERS]]

    def _narrow(self, texts: list[str], pilot: list[int], part: float) -> None:
        """More groups, one after the other, until the intervals are narrow or there is no time.

        The first text is the best so far; what is surely larger is tried no more.
        """
        attempt = self._field.attempt
        attempt([(text, number) for number in pilot for text in texts], self._clock.by(part), "more groups")
        for number in range(len(self._trials.held)):
            if number > len(pilot):
                if self.goal.n_bytes is None:
                    texts = [text for text in texts if text == texts[0] or not self._is_larger(text, texts[0])]
                forecasts = [self._forecaster.forecast(text) for text in texts]
                if all(forecast is not None and forecast.n_bytes.relative <= PRECISION for forecast in forecasts):
                    return
            if not attempt([(text, number) for text in texts], self._clock.by(part), "more groups"):
                return

    def _is_larger(self, text: str, other: str) -> bool:
        difference = self._forecaster.difference(text, other)
        return difference is not None and difference.low > 0


def is_known(forecast: Forecast) -> bool:
    """Whether the bytes of a forecast are known well enough to rely on."""
    return math.isfinite(forecast.n_bytes.high) and forecast.n_bytes.relative <= RELIABLE
