"""What packing a dataset would come to, told: the survey, forecasts of the codecs that were tried, and a command."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

from batchcodec.atomic import write_atomically
from batchcodec.planning.estimate import CONFIDENCE
from batchcodec.planning.field import Progress
from batchcodec.planning.final import is_known
from batchcodec.planning.forecast import Forecast
from batchcodec.planning.goal import Goal
from batchcodec.planning.options import PlanOptions
from batchcodec.planning.quick_fit import QuickFit
from batchcodec.planning.race import Race
from batchcodec.planning.survey import Survey
from batchcodec.planning.trials import codec_id, plain
from batchcodec.registry import Registry, registry

MARGIN = 0.3
"""dB that the quality of `pack` without options may be off and nothing is said of it."""


@dataclass(frozen=True)
class PlanReport:
    """What packing a dataset would come to. Intervals hold with the stated confidence.

    Attributes:
        source: the dataset.
        survey: what is in it.
        kinds: kind of image to the number of groups that `pack` would form of it.
        n_groups: groups that were tried on.
        confidence: of the intervals.
        goal: what the recommended archive is to be: `psnr` or `n_bytes` or `lossless`.
        forecasts: of each codec at the setting that comes to the goal or nearest to it, the best first; then lossless ones.
        others: at other settings.
        refused: codecs that cannot hold these images, and why.
        automatic: what `pack` without --codec would take.
        recommended: codec text; None if nothing that was tried comes to the goal.
        command: the command line that packs with it.
        reasons: why, a sentence each.
        notes: what limits the forecasts, a sentence each.
        fit: the model that was fitted to a part of the dataset; None if none was.
        workers: threads.
        seconds: that planning took.
    """

    source: str
    survey: Survey
    kinds: dict[str, float]
    n_groups: int
    confidence: float
    goal: Goal
    forecasts: list[Forecast]
    others: list[Forecast]
    refused: dict[str, str]
    automatic: Forecast | None
    recommended: str | None
    command: str | None
    reasons: list[str]
    notes: list[str]
    fit: QuickFit | None
    workers: int
    seconds: float


def plan(
    source: Path | str,
    options: PlanOptions | None = None,
    *,
    progress: Progress | None = None,
    plugins: Registry | None = None,
) -> PlanReport:
    """Plan.

    Raises:
        InputError: the dataset cannot be read, or no image of it can.
        OptionError: an option is bad.
        UnknownCodecError: there is no such codec.
        OutputError: the fitted model cannot be written.
    """
    source, options, plugins = Path(source), options or PlanOptions(), plugins or registry()
    race = Race(source, options, plugins, progress or (lambda what, part: None))
    race.run()
    return _reported(race, _saved(race))


def _saved(race: Race) -> Path | None:
    """The file that the fitted model was written to: if it is the best one, or was asked for."""
    best = race.best is not None and race.best != plain(race.best)
    if not best and not (race.model and race.options.save_model):
        return None
    target = race.options.model_target(race.source)
    write_atomically(target, race.model)
    return target


def _reported(race: Race, saved: Path | None) -> PlanReport:
    goal, best = race.goal, race.best
    automatic = race.forecaster.forecast(race.automatic)
    forecasts = [f for text in race.chosen if (f := race.forecaster.forecast(text))]
    exact = sorted((f for text in race.lossless if (f := race.forecaster.forecast(text))), key=lambda f: f.n_bytes.value)
    listed = {f.codec for f in (*forecasts, *exact)}
    if automatic is not None and automatic.codec not in listed and (automatic.lossless or not goal.lossless):
        forecasts.append(automatic)
    forecasts.sort(key=lambda f: (not goal.reached(f), goal.rank(f)))
    shown = {f.codec for f in (*forecasts, *exact)}
    tried = dict.fromkeys(text for text, _ in race.trials.made if text not in shown)
    ranked = sorted((f for f in (*forecasts, *exact) if goal.reached(f)), key=goal.rank)
    command = None
    if best is not None:
        needs = best != "auto" and race.plugins.codec_class(codec_id(best)).needs_model
        model = saved if best != plain(best) else race.options.model if needs else None
        command = race.options.command(race.source, plain(best), skip=race.survey.n_unreadable > 0, model=model)
    return PlanReport(
        source=str(race.source),
        survey=race.survey,
        kinds={stratum.name: round(stratum.n_clusters, 1) for stratum in race.strata},
        n_groups=len({number for _, number in race.trials.made}),
        confidence=CONFIDENCE,
        goal=goal,
        forecasts=[*forecasts, *exact],
        others=[f for text in tried if (f := race.forecaster.forecast(text))],
        refused=race.refused | race.trials.failed,
        automatic=automatic,
        recommended=best,
        command=command,
        reasons=_reasons(race, ranked),
        notes=_limits(race),
        fit=None if race.fit is None else replace(race.fit, saved=saved),
        workers=race.workers,
        seconds=time.monotonic() - race.clock.started,
    )


def _reasons(race: Race, ranked: list[Forecast]) -> list[str]:
    """Why it is recommended, beside the next one and beside what `pack` does without being told."""
    if race.best is None:
        return ["nothing that was tried comes to this goal"]
    reasons = []
    forecast = race.forecaster.forecast(race.best)
    if forecast is not None and not race.goal.reached(forecast):
        reasons.append("its estimate comes to the goal, its interval does not: more --minutes would tell")
    if forecast is not None and not is_known(forecast):
        reasons.append(_vague(race, forecast))
    if race.fit is not None and race.best != plain(race.best):
        reasons.append(
            f"its model was trained for {race.fit.seconds:.0f} s on {race.fit.n_images:,} of the images, and is a file now: "
            "pack takes it as it is. What longer training gains was not tried"
        )
    following = next((forecast.codec for forecast in ranked if forecast.codec != race.best), None)
    if following is not None:
        reasons.append(f"{following} {_beside(race, following, race.best)}")
    if race.automatic == race.best:
        reasons.append("it is what pack takes without --codec")
    elif race.automatic != following:
        taken = ", ".join(sorted(set(race.trials.choice(race.automatic).texts().values())))
        reasons.append(f"pack without --codec would take {taken}, which {_beside(race, race.automatic, race.best)}")
    return reasons


def _vague(race: Race, forecast: Forecast) -> str:
    """How little is known of what is recommended."""
    groups = f"{forecast.n_groups} of about {sum(stratum.n_clusters for stratum in race.strata):,.0f} groups"
    if not math.isfinite(forecast.n_bytes.high):
        return f"it was tried on {groups} only, which does not tell how far off its bytes are: take more --minutes"
    known = f"{forecast.n_bytes.relative:.0%}"
    return f"it was tried on {groups}, and its bytes are known to {known} only: more --minutes would tell more"


def _beside(race: Race, text: str, best: str) -> str:
    """How much larger it would be, in words: by groups that both were tried on, where there are some."""
    base, forecast = race.forecaster.forecast(best), race.forecaster.forecast(text)
    if base is None or forecast is None:
        return "was not tried"
    quality = f"at {'no loss' if forecast.lossless else f'{forecast.mean_psnr.value:.2f} dB'}"
    found = race.forecaster.difference(text, best)
    if found is None or not found.high - found.low < base.n_bytes.value:  # too few groups for an interval
        part = forecast.n_bytes.value / base.n_bytes.value - 1
        return f"would be about {abs(part):.0%} {'larger' if part >= 0 else 'smaller'} {quality}"
    value, low, high = (100 * x / base.n_bytes.value for x in (found.value, found.low, found.high))
    if low <= 0 <= high:
        return f"would be about as large ({low:+.1f} to {high:+.1f} %) {quality}"
    near, far = sorted((abs(low), abs(high)))
    way = "larger" if value > 0 else "smaller"
    return f"would be {abs(value):.1f} % {way} ({near:.1f} to {far:.1f} %) {quality}"


def _limits(race: Race) -> list[str]:
    survey, notes = race.survey, []
    if race.untried:
        notes.append(f"the time was not enough to try {', '.join(race.untried)}: take more --minutes")
    if race.unfitted is not None and not race.goal.lossless:
        notes.append(f"no model was fitted: {race.unfitted}")
    if not race.goal.strict and race.goal.psnr is not None and not race.goal_margin <= MARGIN:
        margin = f"to {race.goal_margin:.1f} dB" if math.isfinite(race.goal_margin) else "from one group"
        notes.append(f"the quality of pack without options is known {margin} only; --min-psnr sets another goal")
    if survey.from_start:
        notes.append(
            f"only the first {survey.n_looked:,} of {survey.n_items:,} images were looked at, as the dataset can only be "
            "read from its beginning: the intervals hold if the others are like them"
        )
    elif survey.n_looked < survey.n_items:
        notes.append(f"{survey.n_looked:,} of {survey.n_items:,} images were looked at, in blocks spread over the dataset")
    return notes
