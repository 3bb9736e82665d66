"""A model fitted within the time of a plan: to which groups, whether it can pay, and what came of it.

What `plan` recommends of it is the very model that it tried, saved to a file: a second fit would end elsewhere, so what is
said of one holds for that one alone. The archive will hold the groups that the model was fitted to as well as the others. It
does better on the first, so it is tried on some of both, and each kind is estimated by itself (`forecast`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batchcodec.choice import DEFAULT_CODEC, FITTED_CODEC
from batchcodec.comparing.series import Series, parse_series
from batchcodec.planning.forecast import Forecast
from batchcodec.planning.frame import Stratum
from batchcodec.planning.goal import Goal
from batchcodec.planning.trials import FITTED, Held
from batchcodec.registry import Registry, parse_codec
from batchcodec.types import ImageSpec

TRAIN_PART, AROUND_PART = 0.3, 0.15
"""Parts of a plan's time to train in; and to set that up, to count the model's tables, and to try it for the first time."""
LEAST_SECONDS = 8.0
"""Training for less makes nothing that could win."""
FIRST_GROUP = 3
"""Groups before this one, in the order in which they are tried, are those that every codec is tried on first: not fitted to."""
FIT_PIXELS = 8_000_000
"""That are fitted to, at most about: tables are counted on all of them."""
PIXELS_A_SECOND = 50_000
"""That are fitted to for each second of training on a core: about half of those that it sees."""
HOPED, HOPED_SECONDS = 0.3, 900.0
"""Part of the payload that so many seconds on a core save at best: on satellite tiles they saved a fifth."""
LIGHTER = 0.5
"""Part of the shipped weights that those of a smaller network are, about."""


@dataclass(frozen=True)
class QuickFit:
    """What came of a fit.

    Attributes:
        seconds: that were trained.
        spent_seconds: that it took in all.
        quality: that it was trained for, and thirty to each side of it.
        n_groups, n_images: that it was fitted to.
        kept: whether it is better than the model that it started from, by images that were held out.
        reason: what was compared.
        saved: the file that the model was written to.
    """

    seconds: float
    spent_seconds: float
    quality: int
    n_groups: int
    n_images: int
    kept: bool
    reason: str
    saved: Path | None = None


def fitting_family(codecs: Sequence[str]) -> str | None:
    """The codec among these that can be fitted."""
    return next((text for text in codecs if parse_codec(text)[0] == FITTED_CODEC), None)


def series(text: str, qualities: Sequence[int], plugins: Registry) -> Series:
    """As `parse_series`; the texts of a fitted codec say that it is one."""
    found = parse_series(text.removeprefix(FITTED), qualities, plugins)
    if not text.startswith(FITTED):
        return found
    return Series(FITTED + found.name, found.settings, tuple(FITTED + one for one in found.texts))


def quality_of(family: str, wished: int | None) -> int:
    """The quality to train a codec for: its own if its text has one, or the one that the goal asks for, or the default."""
    own = parse_codec(family)[1].get("quality")
    return int(own) if own is not None else wished or int(parse_codec(DEFAULT_CODEC)[1]["quality"])


def groups_to_fit(held: Sequence[Held], core_seconds: float) -> list[int]:
    """Numbers of the held groups that a model is fitted to: every other one after the first, as many as there is time for."""
    most = min(FIT_PIXELS, PIXELS_A_SECOND * core_seconds)
    chosen: list[int] = []
    n_pixels = 0
    for number in range(FIRST_GROUP, len(held), 2):
        n_pixels += held[number].cluster.n_pixels
        if chosen and n_pixels > most:
            break
        chosen.append(number)
    return chosen


def obstacle(strata: Sequence[Stratum], held: Sequence[Held]) -> str | None:
    """Why no model can be fitted to this dataset, whatever the time; None if one can."""
    specs = [stratum.clusters[0].spec for stratum in strata]
    if len(specs) > 1:
        return "the images are of several kinds, and one model holds one: take --mode"
    if specs[0].dtype != "uint8" or specs[0].channels not in (1, 3):
        return "it takes 8-bit gray or RGB images"
    first = groups_to_fit(held, 0.0)
    if sum(len(held[number].items) for number in first) < 2:
        return f"there are {len(held)} groups, too few to fit to some and to measure on others"
    return None


def hoped(core_seconds: float) -> float:
    """Part of the payload that so much training might save: `HOPED` at best, and the first seconds save more than the last."""
    return HOPED * min(1.0, math.sqrt(core_seconds / HOPED_SECONDS))


def can_pay(goal: Goal, tried: Mapping[str, Mapping[int, Forecast]], family: str, saved: float) -> bool:
    """Whether a codec might come out best if it were fitted.

    Args:
        goal: of the plan.
        tried: forecasts of each codec by quality.
        family: the codec; one of these.
        saved: part of its payload that a fit might save. Its weights might be lighter, too.
    """
    nearest = goal.nearest(tried[family])
    at_goal = math.exp(goal.promise(tried[family]) - math.log(nearest.n_bytes.value))
    payload = (nearest.n_bytes.value - nearest.weight_bytes) * at_goal
    best = min(math.exp(goal.promise(forecasts)) for forecasts in tried.values())
    return (1 - saved) * payload + LIGHTER * nearest.weight_bytes < best


def fit_to(
    held: Sequence[Held],
    *,
    seconds: float,
    quality: int,
    n_pixels: int,
    model: Path | None,
    workers: int,
    seed: int,
    progress: Callable[[str, float], None],
) -> tuple[QuickFit, bytes]:
    """Fit a model to groups of one kind of image; the file of it, or of what it started from if that is better.

    Args:
        held: the groups.
        seconds: to train.
        quality: to train for.
        n_pixels: of the whole dataset, which the weights are weighed against.
        model: to start from; by default the shipped one.
        workers: threads.
        seed: of crops and noise.
        progress: called with what is done, and how much of that.

    Raises:
        BatchcodecError: the images or the model cannot be trained with.
    """
    # These import torch.
    from batchcodec.learned import shipped
    from batchcodec.learned.hyperprior import fitting
    from batchcodec.learned.hyperprior.codec import HyperpriorCodec

    started = time.monotonic()
    images = [item.pixels for group in held for item in group.items]
    start = shipped.read(model) if model else HyperpriorCodec.default_model(ImageSpec.of(images[0]))
    options = fitting.FitOptions(seconds, quality=quality, threads=workers, seed=seed)
    found = fitting.fit(images, options, n_pixels=n_pixels, start=start, progress=progress)
    blob = found.model or b""
    fit = QuickFit(
        seconds=seconds,
        spent_seconds=time.monotonic() - started,
        quality=quality,
        n_groups=len(held),
        n_images=len(images),
        kept=blob != start,
        reason=found.reason,
    )
    return fit, blob
