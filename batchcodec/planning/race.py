"""Which codec serves a dataset best: tried on some of its groups, the better ones on more of them.

1. The survey (`survey`) tells shapes, labels, and what is broken; from it follow the groups that `pack` would form (`frame`).
2. Each codec is tried on one group of each kind; those that are not far behind are brought to the goal (`goal`).
3. The best of them are tried on more groups, until the intervals are narrow or the time is up (`forecast`, `estimate`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from batchcodec.choice import CodecChoice
from batchcodec.comparing.series import parse_series
from batchcodec.errors import EmptyDatasetError
from batchcodec.pack import PackOptions
from batchcodec.planning.forecast import Forecast, Forecaster
from batchcodec.planning.frame import interleaved, strata
from batchcodec.planning.goal import HIGH, LOW, Goal
from batchcodec.planning.options import PlanOptions
from batchcodec.planning.survey import survey
from batchcodec.planning.trials import Trials, read_groups
from batchcodec.registry import Registry

PILOT_GROUPS = 3
"""Of each kind of image, that every codec is tried on."""
QUALITIES = (25, 50, 75)
REFERENCES = ("webp:quality=60,mosaic=true", "zstd")
"""Quick codecs, of which the first that holds the images is tried on all groups: what others came to goes with it."""
LOOK_PART, READ_PART = 0.1, 0.12
"""Parts of the time for headers, and for decoding."""
REFERENCE_PART = 0.15
"""The same for the quick codec that is tried on all groups."""
PILOT_PART, SETTLE_PART, ADJUST_PART, NARROW_PART = 0.45, 0.65, 0.8, 0.92
"""Parts of the time until which each codec is tried, and the goal; and the best of them on more groups, before and after its
quality is adjusted to what these say."""
ABOUT = 0.1
"""dB that are as good as none, where the goal is the quality that `pack` has by itself."""
FAR = 0.3
"""Logarithm of the factor in bytes by which a codec is out of the race."""
PRECISION = 0.01
"""Half of an interval, as a part of the bytes, that is narrow enough."""
MAX_CONTENDERS = 3
STEPS = 4
"""Qualities that are tried for a codec to come to the goal."""


Progress = Callable[[str, float], None]
"""Called with what is done, and how much of that."""


class Race:
    """Codecs tried on groups of a dataset until one is known to serve a goal best, or the time is up.

    Attributes:
        survey, strata: what is in the dataset.
        trials, forecaster: what was tried, and what that comes to.
        automatic: text of the codec that `pack` takes without --codec.
        refused: codecs that cannot hold these images, and why.
        goal: what is asked of the archive.
        chosen: of each codec with qualities the one that comes to the goal, or nearest to it.
        lossless: texts of those that lose nothing.
        best: text of the one that serves it best; None if none does.
        untried: codecs for which the time was not enough.
    """

    def __init__(self, source: Path, options: PlanOptions, plugins: Registry, progress: Progress) -> None:
        self.source, self.options, self.plugins, self.progress = source, options, plugins, progress
        self.started = time.monotonic()
        self.deadline = self.started + options.seconds
        self.workers = PackOptions(workers=options.workers).n_workers()
        self.families = {text: parse_series(text, QUALITIES, plugins) for text in options.codecs}
        for text in (*options.codecs, *options.lossless):
            CodecChoice(parse_series(text, QUALITIES[:1], plugins).texts[0], None, None, plugins)
        dataset = plugins.format_of(source, options.format_options, options.format).read(source)
        if not len(dataset):
            raise EmptyDatasetError(source, "there is no image in it")
        looked = survey(
            dataset,
            options.preprocess,
            look_seconds=LOOK_PART * options.seconds,
            read_seconds=READ_PART * options.seconds,
            workers=self.workers,
            progress=progress,
        )
        self.survey = looked.survey
        self.strata = strata(looked, options.group_items, np.random.default_rng(options.seed))
        if not self.strata:
            raise EmptyDatasetError(source, f"none of its images can be read; the first: {self.survey.unreadable[0]}")
        wanted = interleaved(self.strata)
        held = read_groups(dataset, options.preprocess, self.strata, wanted, self._by(PILOT_PART))
        self.trials = Trials(
            held,
            plugins,
            workers=self.workers,
            n_pixels=self.survey.n_pixels,
            device=options.device,
            model=options.model,
        )
        self.refused: dict[str, str] = {}
        self.goal = Goal(lossless=True)
        self.chosen: list[str] = []
        self.lossless: list[str] = []
        self.untried: list[str] = []
        self.best: str | None = None
        self._specs = list({cluster.spec: None for stratum in self.strata for cluster in stratum.clusters})
        self.reference = next((text for text in REFERENCES if self.trials.refusal(text, self._specs) is None), None)
        self.automatic = self.trials.automatic(self._specs)
        self.forecaster = Forecaster(self.survey, self.strata, self.trials, self.workers, self.reference)

    def _by(self, part: float) -> float:
        return self.started + part * self.options.seconds

    # ---- trying

    def run(self) -> None:
        """Try."""
        lossless, families = self._fitting(self.options.lossless), self._fitting(self.options.codecs)
        pilot = self._pilot()
        if self.reference is not None:
            tasks = [(self.reference, number) for number in range(len(self.trials.held))]
            self._try(tasks, time.monotonic() + REFERENCE_PART * self.options.seconds, "a quick codec on all groups")
        twice = pilot[: 2 * len(self.strata)]  # more of it comes later, if it is among the best
        self._try([(self.automatic, number) for number in twice], self.deadline, "pack without --codec")
        goal = self.goal = self._goal(self.forecaster.forecast(self.automatic))
        chosen = {} if goal.lossless else self._chosen(families, goal, pilot)
        once = pilot if goal.lossless else pilot[: len(self.strata)]
        self._try([(text, number) for number in once for text in lossless], self._by(SETTLE_PART), "lossless codecs")
        self.best = self._refined(goal, chosen, lossless)
        self._rates(goal, chosen, pilot)
        self.untried = [] if goal.lossless else [family for family in families if family not in chosen]
        self.chosen = [self.text(family, quality) for family, quality in chosen.items()]
        self.lossless = lossless

    def _fitting(self, texts: Sequence[str]) -> list[str]:
        """Those that hold all images."""
        fitting = []
        for text in texts:
            one = parse_series(text, QUALITIES[:1], self.plugins).texts[0]
            why = self.trials.refusal(one, self._specs)
            if why is None:
                fitting.append(text)
            else:
                self.refused[text] = why
        return fitting

    def _pilot(self) -> list[int]:
        taken = dict.fromkeys(range(len(self.strata)), 0)
        pilot = []
        for number, held in enumerate(self.trials.held):
            if taken[held.stratum] < PILOT_GROUPS:
                taken[held.stratum] += 1
                pilot.append(number)
        return pilot

    def _try(self, tasks: Sequence[tuple[str, int]], deadline: float, what: str) -> bool:
        tasks = [task for task in dict.fromkeys(tasks) if task not in self.trials.made]
        for text in dict.fromkeys(text for text, _ in tasks):
            if time.monotonic() < deadline:
                self.trials.warm_up(text)
        return self.trials.run(tasks, deadline, lambda done, total: self.progress(what, done / total))

    def _goal(self, automatic: Forecast | None) -> Goal:
        options = self.options
        if options.target_bytes is not None:
            return Goal(n_bytes=options.target_bytes, strict=True)
        if options.min_psnr is not None and options.min_psnr < 100:
            return Goal(psnr=options.min_psnr, strict=True)
        if options.min_psnr is not None or automatic is None or automatic.lossless:
            return Goal(lossless=True)
        return Goal(psnr=automatic.mean_psnr.value - ABOUT)

    def text(self, family: str, quality: int) -> str:
        """The text of a codec at a quality."""
        return parse_series(family, (quality,), self.plugins).texts[0]

    def _tried(self, family: str) -> dict[int, Forecast]:
        """Forecasts of a codec by quality."""
        texts = {text for text, _ in self.trials.made}
        last = HIGH if self._has_quality(family) else LOW
        every = {quality: self.text(family, quality) for quality in range(LOW, last + 1)}
        found = {quality: self.forecaster.forecast(text) for quality, text in every.items() if text in texts}
        return {quality: forecast for quality, forecast in found.items() if forecast is not None}

    def _chosen(self, families: list[str], goal: Goal, pilot: list[int]) -> dict[str, int]:
        """The quality of each codec that was tried which comes to the goal, or nearest to it; the most promising one first.

        All are tried on one group of each kind of image; those that are far behind are left at that.
        """
        once, more = pilot[: len(self.strata)], pilot[len(self.strata) :]
        middle = {family: QUALITIES[1] if self._has_quality(family) else 1 for family in families}
        self._try([(self.text(f, q), n) for n in once for f, q in middle.items()], self._by(PILOT_PART), "each codec")
        for step in range(STEPS):
            near = self._promising(families, goal)
            wanted = {family: goal.quality(self._tried(family)) if self._has_quality(family) else 1 for family in near}
            groups = once if step == 0 else [*once, *more]
            tasks = [(self.text(f, q), n) for n in groups for f, q in wanted.items()]
            if all(task in self.trials.made for task in tasks) and step:
                break
            if not self._try(tasks, self._by(SETTLE_PART), "the goal"):
                break
        chosen = {}
        for family in self._promising(families, goal, math.inf):
            tried = self._tried(family)
            wished = goal.quality(tried) if self._has_quality(family) else next(iter(tried))
            chosen[family] = min(tried, key=lambda quality, wished=wished: abs(quality - wished))  # type: ignore[misc]
        return chosen

    def _promising(self, families: list[str], goal: Goal, far: float = FAR) -> list[str]:
        """Codecs that were tried and are not far behind the best, the best first."""
        promises = {family: goal.promise(tried) for family in families if (tried := self._tried(family))}
        best = min(promises.values(), default=0.0)
        return sorted((f for f, promise in promises.items() if promise <= best + far), key=promises.__getitem__)

    def _rates(self, goal: Goal, chosen: dict[str, int], pilot: list[int]) -> None:
        """What is left of the time goes to other qualities of the best."""
        if not goal.lossless:
            best = sorted((f for f in chosen if self._has_quality(f)), key=lambda f: goal.promise(self._tried(f)))
            tasks = [(self.text(f, q), n) for f in best[:MAX_CONTENDERS] for q in (QUALITIES[0], QUALITIES[2]) for n in pilot]
            self._try(tasks, self.deadline, "other qualities")

    def _has_quality(self, family: str) -> bool:
        return len(self.families[family].texts) > 1

    def _refined(self, goal: Goal, chosen: dict[str, int], lossless: list[str]) -> str | None:
        """Try the best on more groups; the text of the best of all that come to the goal."""
        pilot = self._pilot()
        for _ in range(STEPS):  # first those that are near the goal are brought to it
            near = [family for family in chosen if self._is_near(goal, self.text(family, chosen[family]))]
            moved = [self._brought(goal, chosen, family, pilot, SETTLE_PART) for family in near[:MAX_CONTENDERS]]
            if not any(moved):
                break
        self._narrow(goal, self._contenders(goal, chosen, lossless), ADJUST_PART)
        for _ in range(STEPS):  # what more groups say may be a little more or less
            best = next(iter(self._contenders(goal, chosen, lossless)), None)
            forecast = None if best is None else self.forecaster.forecast(best)
            family = next((f for f, q in chosen.items() if self.text(f, q) == best), None)
            if forecast is None or family is None:
                break
            tried = self._tried(family)
            if goal.reached(forecast) and goal.quality(tried) in tried:
                break
            if not self._brought(goal, chosen, family, pilot, NARROW_PART):
                break
            self._narrow(goal, self._contenders(goal, chosen, lossless), ADJUST_PART)
        self._narrow(goal, self._contenders(goal, chosen, lossless), NARROW_PART)
        texts = [text for text, _ in self.trials.made]
        found = [(text, f) for text in dict.fromkeys(texts) if (f := self.forecaster.forecast(text))]
        for aim in (goal, goal.roughly()):
            reaching = [pair for pair in found if aim.reached(pair[1]) and pair[1].n_groups >= min(2, len(self.trials.held))]
            if reaching:
                best = min(reaching, key=lambda pair: goal.rank(pair[1]))[0]
                chosen.update({f: q for f in chosen for q in self._tried(f) if self.text(f, q) == best})
                return best
        return None

    def _is_near(self, goal: Goal, text: str) -> bool:
        forecast = self.forecaster.forecast(text)
        return forecast is not None and goal.nearly().reached(forecast) and not goal.roughly().reached(forecast)

    def _brought(self, goal: Goal, chosen: dict[str, int], family: str, groups: list[int], part: float) -> bool:
        """Change the quality of a codec by a step towards the goal; whether it was tried on these groups in time."""
        if not self._has_quality(family):
            return False
        following = goal.quality(self._tried(family))
        if following == chosen[family]:
            following += -1 if goal.n_bytes is not None else 1
        text = self.text(family, max(LOW, min(HIGH, following)))
        if not LOW <= following <= HIGH or not self._try([(text, number) for number in groups], self._by(part), "the goal"):
            return False
        chosen[family] = following
        return True

    def _contenders(self, goal: Goal, chosen: dict[str, int], lossless: list[str]) -> list[str]:
        """The best few that come to the goal, or nearly do, the best first. What `pack` takes by itself may be one."""
        texts = [self.text(family, quality) for family, quality in chosen.items()] + lossless
        texts += [] if self.automatic in texts else [self.automatic]
        found = [(text, forecast) for text in texts if (forecast := self.forecaster.forecast(text)) is not None]
        fitting = [(text, forecast) for text, forecast in found if goal.nearly().reached(forecast)]
        fitting.sort(key=lambda pair: goal.rank(pair[1]))
        return [text for text, _ in fitting[:MAX_CONTENDERS]]

    def _narrow(self, goal: Goal, texts: list[str], part: float) -> None:
        """More groups, one after the other, until the intervals are narrow or there is no time.

        The first text is the best so far; what is surely larger is tried no more.
        """
        pilot = self._pilot()
        self._try([(text, number) for number in pilot for text in texts], self._by(part), "more groups")
        for number in range(len(self.trials.held)):
            if number > len(pilot):
                if goal.n_bytes is None:
                    texts = [text for text in texts if text == texts[0] or not self._is_larger(text, texts[0])]
                forecasts = [self.forecaster.forecast(text) for text in texts]
                if all(forecast is not None and forecast.n_bytes.relative <= PRECISION for forecast in forecasts):
                    return
            if not self._try([(text, number) for text in texts], self._by(part), "more groups"):
                return

    def _is_larger(self, text: str, other: str) -> bool:
        difference = self.forecaster.difference(text, other)
        return difference is not None and difference.low > 0
