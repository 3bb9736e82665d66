"""Which quality each image of a group gets.

One quantiser step for all images is best for the mean of their squared errors. The mean of their PSNRs, which counts a dB of a
plain image like one of a rich image, is best served when a bit buys the same share of each image's error: plain images, where
bits are cheap, get finer steps. With q_i the quality of image i, the sum over images of

    bits_i(q_i) + mu ln MSE_i(q_i),    mu = worth(q) * (squared error that is typical of quality q)

is made small, where q is the quality that was asked for. The typical error is in the model file, so that an image gets the
same quality whatever group it is in. Differences are multiples of `GRID`: they are coded, and a coarse grid is cheap.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import Tensor

from batchcodec import metrics
from batchcodec.learned.hyperprior.codec import synthesised
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.quantising import Integers, Qualities, hyper_analysed, quantised, worth_of
from batchcodec.types import Pixels

GRID = 8
"""Qualities between neighbours of the grid."""
REACH = 4
"""Neighbours on each side that a search looks at."""
FURTHEST = 32
"""An image's quality differs from the one asked for by no more than this."""


def guessed(model: LoadedModel, images: Pixels, y: Tensor, quality: int) -> Qualities:
    """Qualities, uint8 [N], from one look at what the error is at the quality asked for.

    The squared error grows like a power a of the step, so the step that solves step^2 / MSE(step) = the typical ratio is
    (MSE / typical MSE)^(1 / (2 - a)) steps.
    """
    _, mse = _measured(model, images, y, np.full(len(images), quality, np.uint8))
    typical, power = model.typical_mse(quality)
    step = model.nominal_step(np.array([quality]))[0] * (np.maximum(mse, 0.01) / typical) ** (1 / (2 - power))
    every = np.arange(1, 101)
    nearest = every[np.abs(np.log(model.nominal_step(every))[:, None] - np.log(step)[None]).argmin(0)]
    moved = quality + np.rint((nearest - quality) / GRID) * GRID
    return np.asarray(np.clip(moved, *_ends(quality)), np.uint8)


def searched(model: LoadedModel, images: Pixels, y: Tensor, quality: int) -> Qualities:
    """Qualities, uint8 [N], by trying the grid's neighbours around what `guessed` says."""
    low, high = _ends(quality)
    centre = guessed(model, images, y, quality).astype(np.int64)
    typical, _ = model.typical_mse(quality)
    n_samples = float(np.prod(images.shape[1:]))
    mu = float(worth_of(model, np.array([quality], np.uint8))[0]) * typical * n_samples
    best, best_cost = centre.copy(), np.full(len(images), np.inf)
    for offset in sorted(range(-REACH, REACH + 1), key=abs):
        tried = np.clip(centre + offset * GRID, low, high)
        integers, mse = _measured(model, images, y, tried.astype(np.uint8))
        cost = integers.bits(model) + mu * np.log(np.maximum(mse, 0.01))
        better = cost < best_cost
        best[better], best_cost[better] = tried[better], cost[better]
    return best.astype(np.uint8)


def _ends(quality: int) -> tuple[int, int]:
    """The lowest and the highest quality that the grid through this one may give."""
    low, high = (quality - 1) % GRID + 1, 100 - (100 - quality) % GRID
    return max(low, quality - FURTHEST), min(high, quality + FURTHEST)


def _measured(model: LoadedModel, images: Pixels, y: Tensor, qualities: Qualities) -> tuple[Integers, npt.NDArray[np.float64]]:
    """What is coded of each image at its quality, and the MSE [N]."""
    conditions = model.conditions(qualities)
    z = hyper_analysed(model, y, conditions)
    integers = quantised(model, conditions, y, z, worth_of(model, qualities))
    decoded = synthesised(model, integers.latents, conditions)
    return integers, metrics.mse(images, decoded[:, : images.shape[1], : images.shape[2]])
