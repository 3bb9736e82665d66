"""How rough two images are, compared place by place: a distance for training that forgives where a grain of sand lies.

Squared error asks for each pixel. Of a texture that is too faint to be coded it leaves nothing, as no guess at all is the best
guess. This distance asks how strong the answers of some small filters are around each place, not what they are: noise of the
right strength and shape is as good as the texture itself. Random filters will do for that (Ustyuzhaninov et al. 2016, "Texture
synthesis using shallow convolutional networks with random filters"); that strength is compared on a logarithmic scale makes
faint textures count like strong ones.

Filters are drawn anew each time. With the same ones for all of a training, and windows as large as the blocks of a transform,
networks learned to please these filters: pictures looked fine, but classifiers that were trained on them were at a loss with
originals.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SIDE = 5
"""Of the filters, in pixels."""
N_FILTERS = 32
WINDOWS = (4, 8)
"""Strength is the mean over so many pixels each way, a multiple of 4; small ones see where in a block it is."""
SCALES = 2
"""The images themselves, and at half of their size."""
FAINTEST = 4.0
"""Squared gray levels: differences between textures fainter than that hardly count."""


def filters(channels: int, device: torch.device | None = None) -> Tensor:
    """Random filters that pass over a plain area, of norm 1, float32 [N_FILTERS, C, SIDE, SIDE]; a third of them is gray."""
    weight = torch.randn(N_FILTERS, channels, SIDE, SIDE).to(device)
    third = N_FILTERS // 3
    weight[:third] = weight[:third].mean(1, keepdim=True)
    weight -= weight.mean((2, 3), keepdim=True)
    norm: Tensor = weight.flatten(1).norm(dim=1)
    return weight / norm[:, None, None, None]


def texture_distance(x: Tensor, y: Tensor) -> Tensor:
    """The mean squared difference of ln(FAINTEST + strength of answers), over filters, windows and scales: [N].

    Args:
        x: gray levels 0..255 [N, C, H, W], at least SIDE each way.
        y: likewise; equal images have the distance 0.
    """
    terms = []
    for scale in range(SCALES):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        if min(x.shape[2:]) < SIDE:
            break
        weight = filters(x.shape[1], x.device)
        for a, b in zip(_roughness(x, weight), _roughness(y, weight), strict=True):
            terms.append(((a - b) ** 2).mean((1, 2, 3)))
    return torch.stack(terms).mean(0)


def _roughness(x: Tensor, weight: Tensor) -> list[Tensor]:
    """ln(FAINTEST + strength) of the answers of filters, [N, N_FILTERS, h, w] for each window, at every half of one."""
    strength = F.avg_pool2d(F.conv2d(x, weight) ** 2, 2)  # of what all windows are made
    windows = [[min(side // 2, length) for length in strength.shape[2:]] for side in WINDOWS]
    means = [F.avg_pool2d(strength, window, side // 4) for side, window in zip(WINDOWS, windows, strict=True)]
    return [torch.log(FAINTEST + mean) for mean in means]
