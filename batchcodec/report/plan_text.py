"""What `plan` found, for a terminal."""

from __future__ import annotations

import math

from batchcodec.metrics import LOSSLESS_PSNR
from batchcodec.planning.estimate import Interval
from batchcodec.planning.forecast import Forecast
from batchcodec.planning.goal import Goal
from batchcodec.planning.plan import PlanReport
from batchcodec.planning.survey import Survey
from batchcodec.report.text import counts, printable, size, table

HEAD = ("codec", "archive", "", "B/image", "dB", "", "pooled", "pack time")


def plan_text(report: PlanReport) -> str:
    """The survey, a table of codecs, and the command."""
    lines = [f"{printable(report.source)}: {_survey_text(report.survey)}"]
    n_groups = sum(report.kinds.values())
    groups = ", ".join(f"{n:,.0f} of {kind}" for kind, n in report.kinds.items())
    lines.append(f"tried on {report.n_groups:,} of about {n_groups:,.0f} groups ({groups}) for {report.seconds:,.0f} s")
    lines += ["", f"{goal_text(report.goal)}; intervals at {report.confidence:.0%} confidence:"]
    rows = [_cells(forecast, report) for forecast in report.forecasts]
    lines.append(table(rows, HEAD))
    weights = [f for f in report.forecasts if f.weight_bytes]
    lines += [f"{printable(f.codec)}: {size(f.weight_bytes)} of weights are counted" for f in weights]
    if report.refused:
        why = next(iter(report.refused.values()))
        lines.append(f"left out: {printable(', '.join(report.refused))}; the first: {printable(why)}")
    if report.fit is not None and report.fit.kept:
        fit = report.fit
        saved = "not saved" if fit.saved is None else f"saved as {printable(str(fit.saved))}"
        lines.append(
            f"fitted: trained for {fit.seconds:,.0f} s on {fit.n_images:,} images of {fit.n_groups:,} groups "
            f"({fit.spent_seconds:,.0f} s in all), {saved}"
        )
    lines += [f"note: {printable(note)}" for note in report.notes]
    lines.append("")
    if report.command is None or report.recommended is None:
        lines.append("Nothing to recommend: nothing that was tried comes to this goal.")
    else:
        lines += [f"Recommended: {printable(report.recommended)}", *(f"  {printable(why)}" for why in report.reasons), ""]
        lines.append(f"  {printable(report.command)}")
    return "\n".join(lines)


def _survey_text(survey: Survey) -> str:
    pixels = f"{survey.n_pixels / 1e6:,.1f} megapixels"
    files = "" if survey.file_bytes is None else f", files of {size(survey.file_bytes)}"
    looked = "" if survey.n_looked == survey.n_items else f" of the {survey.n_looked:,} that were looked at"
    lines = [f"{survey.n_items:,} images, about {pixels}{files}{looked}", f"images  {counts(survey.shapes, 6)}"]
    if survey.labels:
        numbers = list(survey.labels.values())
        lines.append(
            f"labels  {len(numbers):,}, of {min(numbers):,} to {max(numbers):,} images: {counts(survey.labels, 6)}"
            + (f"; {survey.n_unlabelled:,} images without" if survey.n_unlabelled else "")
        )
    if survey.notes:
        lines.append(f"changed by reading: {counts(survey.notes)}")
    decoded = "all" if survey.n_decoded >= survey.n_items else f"{survey.n_decoded:,}"
    lines.append(
        f"decoded {decoded}: {survey.n_unreadable:,} cannot be read, {survey.n_duplicates:,} have the pixels of another"
        + (f"; {survey.ignored:,} other files ignored" if survey.ignored else "")
    )
    lines += [f"  UNREADABLE {printable(reason)}" for reason in survey.unreadable[:5]]
    return "\n".join(lines)


def goal_text(goal: Goal) -> str:
    """What is asked, as a sentence."""
    if goal.lossless:
        return "Nothing may be lost"
    if goal.n_bytes is not None:
        return f"At most {size(goal.n_bytes)}"
    if goal.strict:
        return f"At least {goal.psnr:.2f} dB"
    return f"About the quality that pack has without options, at least {goal.psnr:.2f} dB"


def _cells(forecast: Forecast, report: PlanReport) -> list[str]:
    mark = " *" if forecast.codec == report.recommended else ""
    exact = forecast.mean_psnr.value >= LOSSLESS_PSNR
    return [
        printable(forecast.codec) + mark,
        size(forecast.n_bytes.value),
        _between(forecast.n_bytes, size),
        f"{forecast.n_bytes.value / report.survey.n_packed:,.1f}",
        "exact" if exact else f"{forecast.mean_psnr.value:.2f}",
        "" if exact else _between(forecast.mean_psnr, "{:.2f}".format),
        "" if exact else f"{forecast.pooled_psnr.value:.2f}",
        _duration(forecast.seconds.value),
    ]


def _between(interval: Interval, show: object) -> str:
    if not math.isfinite(interval.low) or not math.isfinite(interval.high):
        return "?"
    return f"{show(interval.low)} to {show(interval.high)}"  # type: ignore[operator]


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"
