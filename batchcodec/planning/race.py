"""Which codec serves a dataset best: tried on some of its groups, the better ones on more of them.

1. The survey (`survey`) tells shapes, labels, and what is broken; from it follow the groups that `pack` would form (`frame`).
2. Each codec is tried on one group of each kind; those that are not far behind are brought to the goal (`goal`).
3. Where that may pay, a model is fitted to some groups, and joins them (`quick_fit`).
4. The best of them are tried on more groups, until the intervals are narrow or the time is up (`final`).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from batchcodec.choice import CodecChoice
from batchcodec.comparing.series import parse_series
from batchcodec.errors import BatchcodecError, EmptyDatasetError
from batchcodec.pack import PackOptions
from batchcodec.planning import quick_fit
from batchcodec.planning.clock import Clock
from batchcodec.planning.field import QUALITIES, Field, Progress
from batchcodec.planning.final import MAX_CONTENDERS, SETTLE_PART, STEPS, Final
from batchcodec.planning.forecast import Forecaster
from batchcodec.planning.frame import interleaved, strata
from batchcodec.planning.goal import Goal
from batchcodec.planning.options import PlanOptions
from batchcodec.planning.quick_fit import QuickFit
from batchcodec.planning.survey import survey
from batchcodec.planning.trials import FITTED, Trials, read_groups
from batchcodec.registry import Registry

PILOT_GROUPS = quick_fit.FIRST_GROUP
"""Of each kind of image, that every codec is tried on."""
REFERENCES = ("webp:quality=60,mosaic=true", "zstd")
"""Quick codecs, of which the first that holds the images is tried on all groups: what others came to goes with it."""
LOOK_PART, READ_PART = 0.1, 0.12
"""Parts of the time for headers, and for decoding."""
REFERENCE_PART = 0.15
"""The same for the quick codec that is tried on all groups."""
GOAL_PART = 0.1
"""The same for what `pack` takes by itself, until its quality is known, where that is the goal."""
PILOT_PART = 0.45
"""Part of the time until which each codec is tried; `final` has what follows."""
ABOUT = 0.1
"""dB that are as good as none, where the goal is the quality that `pack` has by itself."""


class Race:
    """Codecs tried on groups of a dataset until one is known to serve a goal best, or the time is up.

    Attributes:
        survey, strata: what is in the dataset.
        trials, forecaster, field: what was tried, and what that comes to.
        automatic: text of the codec that `pack` takes without --codec.
        refused: codecs that cannot hold these images, and why.
        goal: what is asked of the archive.
        goal_margin: dB that the goal may be off, where it is what `pack` has by itself.
        chosen: of each codec with qualities the one that comes to the goal, or nearest to it.
        lossless: texts of those that lose nothing.
        best: text of the one that serves it best; None if none does.
        untried: codecs for which the time was not enough.
        fit: what came of a fit; None where there was none.
        model: that was fitted; nothing where none is better than what it was started from.
        unfitted: why there was none.
    """

    def __init__(self, source: Path, options: PlanOptions, plugins: Registry, progress: Progress) -> None:
        self.source, self.options, self.plugins, self.progress = source, options, plugins, progress
        self.clock = Clock(options.seconds)
        self.workers = PackOptions(workers=options.workers).n_workers()
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
        held = read_groups(dataset, options.preprocess, self.strata, wanted, self.clock.by(PILOT_PART))
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
        self.goal_margin = 0.0
        self._goal_is_own = False
        self.chosen: list[str] = []
        self.lossless: list[str] = []
        self.untried: list[str] = []
        self.best: str | None = None
        self.fit: QuickFit | None = None
        self.model = b""
        self.unfitted: str | None = None
        self._specs = list({cluster.spec: None for stratum in self.strata for cluster in stratum.clusters})
        self.reference = next((text for text in REFERENCES if self.trials.refusal(text, self._specs) is None), None)
        self.automatic = self.trials.automatic(self._specs)
        self.forecaster = Forecaster(self.survey, self.strata, self.trials, self.workers, self.reference)
        self.field = Field(options.codecs, self.trials, self.forecaster, plugins, progress)

    # ---- the course of it

    def run(self) -> None:
        """Try."""
        field = self.field
        lossless, families = self._fitting(self.options.lossless), self._fitting(self.options.codecs)
        pilot = self._pilot()
        family = self._reserve(families)
        if self.reference is not None:
            tasks = [(self.reference, number) for number in range(len(self.trials.held))]
            field.attempt(tasks, time.monotonic() + REFERENCE_PART * self.clock.seconds, "a quick codec on all groups")
        goal = self.goal = self._goal(pilot)
        chosen = {} if goal.lossless else self._brought_near(families, goal, pilot)
        if family is not None and self._fit(family, goal, chosen, pilot):
            families.append(FITTED + family)
            chosen = field.at_goal(families, goal)
        once = pilot if goal.lossless else pilot[: len(self.strata)]
        field.attempt([(t, number) for number in once for t in lossless], self.clock.by(SETTLE_PART), "lossless codecs")
        final = Final(field, self.trials, self.forecaster, self.clock, goal, self.automatic)
        self.best = final.best(chosen, lossless, pilot)
        automatic = self.forecaster.forecast(self.automatic)
        if self._goal_is_own and automatic is not None and not goal.reached(automatic):  # more groups say that it has less
            final.goal = self.goal = Goal(psnr=automatic.mean_psnr.value - ABOUT)
            self.best = final.picked(chosen, lossless)
        self._rates(goal, chosen, pilot)
        self.untried = [] if goal.lossless else [family for family in families if family not in chosen]
        self.chosen = [field.text(family, quality) for family, quality in chosen.items()]
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

    def _goal(self, pilot: list[int]) -> Goal:
        """What is asked; without that, what `pack` has by itself, tried on as many groups as it takes to know its quality."""
        options = self.options
        twice = pilot[: 2 * len(self.strata)]  # more of it comes later, if it is among the best
        self.field.attempt([(self.automatic, number) for number in twice], self.clock.by(1), "pack without --codec")
        if options.target_bytes is not None:
            return Goal(n_bytes=options.target_bytes, strict=True)
        if options.min_psnr is not None and options.min_psnr < 100:
            return Goal(psnr=options.min_psnr, strict=True)
        deadline = time.monotonic() + GOAL_PART * self.clock.seconds
        more = [number for number in range(len(self.trials.held)) if number not in twice]
        while True:
            automatic = self.forecaster.forecast(self.automatic)
            if options.min_psnr is not None or automatic is None or automatic.lossless:
                return Goal(lossless=True)
            self.goal_margin = (automatic.mean_psnr.high - automatic.mean_psnr.low) / 2
            tasks = [(self.automatic, number) for number in more[: self.workers]]
            del more[: self.workers]
            if self.goal_margin <= ABOUT or not tasks or not self.field.attempt(tasks, deadline, "pack without --codec"):
                self._goal_is_own = True
                return Goal(psnr=automatic.mean_psnr.value - ABOUT)

    def _brought_near(
        self, families: list[str], goal: Goal, pilot: list[int], first: int = QUALITIES[1], deadline: float | None = None
    ) -> dict[str, int]:
        """The quality of each codec that was tried which comes to the goal, or nearest to it; the most promising one first.

        All are tried on one group of each kind of image; those that are far behind are left at that.
        """
        field = self.field
        once, more = pilot[: len(self.strata)], pilot[len(self.strata) :]
        middle = {family: first if field.has_quality(family) else 1 for family in families}
        tasks = [(field.text(f, q), n) for n in once for f, q in middle.items()]
        field.attempt(tasks, deadline or self.clock.by(PILOT_PART), "each codec")
        for step in range(STEPS):
            near = field.promising(families, goal)
            wanted = {family: field.wished(family, goal) for family in near}
            groups = once if step == 0 else [*once, *more]
            tasks = [(field.text(f, q), n) for n in groups for f, q in wanted.items()]
            if all(task in self.trials.made for task in tasks) and step:
                break
            if not field.attempt(tasks, deadline or self.clock.by(SETTLE_PART), "the goal"):
                break
        return field.at_goal(families, goal)

    def _rates(self, goal: Goal, chosen: dict[str, int], pilot: list[int]) -> None:
        """What is left of the time goes to other qualities of the best."""
        if not goal.lossless:
            field = self.field
            best = field.promising([family for family in chosen if field.has_quality(family)], goal, math.inf)
            others = [(f, q) for f in best[:MAX_CONTENDERS] for q in (QUALITIES[0], QUALITIES[2])]
            tasks = [(field.text(f, q), n) for f, q in others for n in pilot]
            field.attempt(tasks, self.clock.by(1), "other qualities")

    # ---- the fit

    def _reserve(self, families: Sequence[str]) -> str | None:
        """The codec that may be fitted, for which time is set aside; None if no fit can come of it."""
        options = self.options
        family = quick_fit.fitting_family(families)
        if not options.fits or family is None:
            return None
        why = quick_fit.obstacle(self.strata, self.trials.held)
        seconds = options.fit_seconds or quick_fit.TRAIN_PART * options.seconds
        folder = options.model_target(self.source).parent
        if why is None and not os.access(folder, os.W_OK):
            why = f"a model could not be saved in {folder}: --save-model says where it may be"
        if why is None and options.fit_seconds is None and seconds < quick_fit.LEAST_SECONDS:
            why = "the time is too short: take more --minutes, or --fit"
        if why is not None:
            self._leave_unfitted(family, why)
            return None
        self.clock.seconds = options.seconds * (1 - quick_fit.AROUND_PART) - seconds
        return family

    def _leave_unfitted(self, family: str, why: str) -> None:
        """What was set aside goes to the others. Who asked for a fit finds it among what was left out."""
        self.clock.seconds = self.options.seconds
        self.unfitted = why
        if self.options.fit_seconds is not None:
            self.refused[FITTED + family] = why

    def _fit(self, family: str, goal: Goal, chosen: dict[str, int], pilot: list[int]) -> bool:
        """Fit a model if that may pay, and try it near the goal; whether there is one that is better than before."""
        options, trials = self.options, self.trials
        tried = {name: forecasts for name in chosen if (forecasts := self.field.tried(name))}
        seconds = options.fit_seconds or quick_fit.TRAIN_PART * options.seconds
        core_seconds = self.workers * seconds
        why = None
        if goal.lossless:
            why = "nothing may be lost"
        elif options.fit_seconds is None and family not in tried:
            why = f"the time was not enough to try {family}"
        elif options.fit_seconds is None and not quick_fit.can_pay(goal, tried, family, quick_fit.hoped(core_seconds)):
            part = f"{quick_fit.hoped(core_seconds):.0%} less payload, about the most that {seconds:.0f} s of training save"
            why = f"{family} would not be best with {part}, its weights counted"
            if quick_fit.can_pay(goal, tried, family, quick_fit.HOPED):
                why += "; more --minutes train longer, which may change that"
        if why is not None:
            self._leave_unfitted(family, why)
            return False
        quality = quick_fit.quality_of(family, self.field.wished(family, goal) if family in tried else None)
        groups = quick_fit.groups_to_fit(trials.held, core_seconds)
        with self.clock.standing():
            try:
                self.fit, model = quick_fit.fit_to(
                    [trials.held[number] for number in groups],
                    seconds=seconds,
                    quality=quality,
                    n_pixels=self.survey.n_pixels,
                    model=options.model,
                    workers=self.workers,
                    seed=options.seed,
                    progress=lambda what, part: self.progress(f"fit: {what}", part),
                )
            except BatchcodecError as exc:
                self.refused[FITTED + family] = str(exc)
            except Exception as exc:  # whatever training comes to, the other codecs are there
                self.refused[FITTED + family] = f"the fit failed: {type(exc).__name__}: {exc}"
            if self.fit is None:
                return False
            if not self.fit.kept:
                self.refused[FITTED + family] = f"the model that the fit started from is better: {self.fit.reason}"
                return False
            self.model = model
            trials.take_model(model, groups)
            self.field.add(FITTED + family)
            deadline = time.monotonic() + quick_fit.AROUND_PART * options.seconds
            self._brought_near([FITTED + family], goal, pilot, quality, deadline)
        return True
