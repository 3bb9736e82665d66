"""How rough two images are, compared place by place: a distance for training that forgives where a grain of sand lies.

Squared error asks for each pixel. Of a texture that is too faint to be coded it leaves nothing, as no guess at all is the best
guess. This distance asks how strong the answers of some small filters are around each place, not what they are: noise of the
right strength and shape is as good as the texture itself. Random filters will do for that (Ustyuzhaninov et al. 2016, "Texture
synthesis using shallow convolutional networks with random filters"); that strength is compared on a logarithmic scale makes
faint textures count like strong ones.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

SIDE = 5
"""Of the filters, in pixels."""
N_FILTERS = 48
WINDOW = 8
"""Strength is the mean over so many pixels each way."""
SCALES = 2
"""The images themselves, and at half of their size."""
FAINTEST = 4.0
"""Squared gray levels: differences between textures fainter than that hardly count."""


@cache
def filters(channels: int) -> Tensor:
    """Random filters that pass over a plain area, of norm 1, float32 [N_FILTERS, C, SIDE, SIDE]; a third of them is gray."""
    weight = torch.randn(N_FILTERS, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(7))
    third = N_FILTERS // 3
    weight[:third] = weight[:third].mean(1, keepdim=True)
    weight -= weight.mean((2, 3), keepdim=True)
    norm: Tensor = weight.flatten(1).norm(dim=1)
    return weight / norm[:, None, None, None]


def roughness(x: Tensor) -> list[Tensor]:
    """ln(FAINTEST + strength) around each place: [N, N_FILTERS, h, w] for each scale that the filters fit into.

    Args:
        x: gray levels [N, C, H, W], at least SIDE each way.
    """
    found = []
    for _ in range(SCALES):
        answers = F.conv2d(x, filters(x.shape[1]).to(x))
        window = [min(WINDOW, side) for side in answers.shape[2:]]
        found.append(torch.log(FAINTEST + F.avg_pool2d(answers**2, window, WINDOW // 2)))
        x = F.avg_pool2d(x, 2)
        if min(x.shape[2:]) < SIDE:
            break
    return found


def texture_distance(x: Tensor, y: Tensor) -> Tensor:
    """The mean squared difference of `roughness` between gray levels 0..255 [N, C, H, W]: [N], 0 for equal images."""
    pairs = zip(roughness(x), roughness(y), strict=True)
    return torch.cat([((a - b) ** 2).flatten(1) for a, b in pairs], 1).mean(1)
