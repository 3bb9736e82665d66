"""From pixels to a payload, with as much effort as was asked for. Decoding costs the same whatever the effort.

Level 1 takes what the encoder network says, rounded to the nearest. Further levels add, in this order:
rate-distortion-optimised quantisation (`quantising`), a quality for each image (`allotment`), and descent on the latents
(`refinement`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchcodec.learned.hyperprior import allotment, payloads
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.learned.hyperprior.quantising import analysed, hyper_analysed, quantised, worth_of
from batchcodec.learned.hyperprior.refinement import refined
from batchcodec.types import Pixels


@dataclass(frozen=True)
class Plan:
    """What one level of effort does.

    Attributes:
        optimised: whether integers may be rounded towards zero.
        allotment: how qualities are allotted where the mean PSNR is what counts: "", "guess" or "search".
        descent: Newton steps of the refinement.
        annealing: steps of annealing after them.
    """

    optimised: bool
    allotment: str = ""
    descent: int = 0
    annealing: int = 0


PLANS = {
    1: Plan(False),
    2: Plan(True, "guess"),
    3: Plan(True, "search"),
    4: Plan(True, "search", 1),
    5: Plan(True, "search", 2),
    6: Plan(True, "search", 4),
    7: Plan(True, "search", 8),
    8: Plan(True, "search", 16),
    9: Plan(True, "search", 4, 64),  # fewer steps of annealing gain nothing
}


def encode(model: LoadedModel, images: Pixels, quality: int, effort: int, tune: str) -> bytes:
    """The payload of uint8 [N, H, W, C]; call within `codec.inference`.

    Args:
        model: networks and tables.
        images: one plane of channels that the model takes.
        quality: 1 to 100.
        effort: 1 to 9.
        tune: "psnr" lets qualities differ for the sake of the mean PSNR, "mse" gives all images the same.
    """
    plan = PLANS[effort]
    y = analysed(model, images)
    qualities = np.full(len(images), quality, np.uint8)
    if tune == "psnr" and plan.allotment:
        allot = allotment.guessed if plan.allotment == "guess" else allotment.searched
        qualities = allot(model, images, y, quality)
    conditions = model.conditions(qualities)
    z = hyper_analysed(model, y, conditions)
    worth = worth_of(model, qualities) if plan.optimised else None
    if plan.descent and worth is not None:
        y, z = refined(model, images, conditions, y, z, worth, plan.descent, plan.annealing)
    integers = quantised(model, conditions, y, z, worth)
    return payloads.write(model, qualities, integers.z, integers.passes)
