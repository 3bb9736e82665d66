"""The distance of textures: blind to where each grain lies, not to how many there are; and models that are trained for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from batchcodec.entropy import gaussian
from batchcodec.learned.hyperprior import grain
from batchcodec.learned.hyperprior.architecture import Architecture
from batchcodec.learned.hyperprior.network import SCALE_STEPS
from batchcodec.learned.hyperprior.trainer import Settings, Trainer
from batchcodec.learned.hyperprior.training import grain_like
from batchcodec.learned.texture import FAINTEST, filters, texture_distance
from batchcodec.types import Pixels


def textured(strength: float, seed: int, channels: int = 3, side: int = 64) -> torch.Tensor:
    """White noise, float32 [2, channels, side, side]."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(128 + strength * rng.normal(size=(2, channels, side, side))).float()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_other_noise_of_the_same_strength_is_near(channels: int) -> None:
    x = textured(6, 0, channels)
    assert (texture_distance(x, x) == 0).all()
    other, smooth, rougher = (
        texture_distance(x, y) for y in (textured(6, 1, channels), textured(0, 1, channels), textured(12, 1, channels))
    )
    assert (other < 0.2 * torch.minimum(smooth, rougher)).all()
    squared = ((x - textured(6, 1, channels)) ** 2).mean((1, 2, 3))
    assert (squared > 1.5 * ((x - textured(0, 1, channels)) ** 2).mean((1, 2, 3))).all(), "squared error says the opposite"


def test_strength_counts_by_its_ratio_above_the_faintest() -> None:
    faint, middle, strong = ((FAINTEST**0.5 * factor) for factor in (0.05, 10, 100))
    assert (texture_distance(textured(0, 0), textured(faint, 1)) < 1e-3).all()
    near, far = (texture_distance(textured(s, 0), textured(2 * s, 0)).mean() for s in (middle, strong))
    assert float(near) == pytest.approx(np.log(4) ** 2, rel=0.05)
    assert float(far) == pytest.approx(np.log(4) ** 2, rel=0.01)


def test_where_in_a_block_the_grain_is_counts() -> None:
    """Noise in one half of each block of 8, as strong as noise everywhere: small windows see it."""
    even = textured(10, 0)
    striped = 128 + (textured(10, 1) - 128) * 2**0.5 * (torch.arange(64) % 8 < 4)
    assert (texture_distance(even, striped) > 1.2 * texture_distance(even, textured(10, 2))).all()


def test_plain_areas_and_levels_do_not_count() -> None:
    x = textured(5, 0)
    assert (texture_distance(x, x + 40) < 1e-4).all()
    for channels in (1, 3):
        weight = filters(channels)
        assert weight.sum((2, 3)).abs().max() < 1e-5
        assert torch.allclose(weight.flatten(1).norm(dim=1), torch.ones(len(weight)))


@pytest.mark.parametrize("side", [8, 9, 16, 40])
def test_small_images_have_finite_slopes(side: int) -> None:
    x = textured(0, 0, 3, side).requires_grad_(True)
    (slope,) = torch.autograd.grad(texture_distance(x, textured(9, 0, 3, side)).sum(), x)
    assert torch.isfinite(slope).all()


def test_noise_while_training_is_that_of_grain() -> None:
    index = torch.arange(gaussian.N_SCALES - 1.0)
    ratio = torch.exp2(index / SCALE_STEPS + gaussian.FIRST_LOG2).repeat(4000, 1).requires_grad_(True)
    noise = grain_like(ratio)
    largest = noise.detach().abs().amax(0) * 2**grain.SIZE_BITS
    assert largest.numpy() == pytest.approx(grain.SIZES[:-1], rel=5e-3)
    assert (noise.detach().std(0) * 3**0.5 * 2**grain.SIZE_BITS).numpy() == pytest.approx(grain.SIZES[:-1], rel=0.05)
    (slope,) = torch.autograd.grad(noise.square().mean(), ratio)
    assert (slope[:, :20].sum(0) > 0).all(), "a larger deviation makes more noise"


def speckled(n: int) -> list[Pixels]:
    """Gray images of noise that is faint beside a quantiser step; some have more, some less."""
    rng = np.random.default_rng(0)
    return [np.clip(128 + (3 + 9 * (i % 2)) * rng.normal(size=(32, 32, 1)), 0, 255).astype(np.uint8) for i in range(n)]


def test_training_for_textures_brings_them_back() -> None:
    """The same short training with and without: what is measured is the texture at the lowest quality, with grain."""
    arch = Architecture(1, 8, (4, 12), 8, 0, 4, 0, 4, 8, 8, 5)
    found = []
    for share in (1e-6, 0.8):
        settings = Settings(minutes=1000, texture=share, threads=1, validation=8, learning_rate=5e-3, crop=32)
        trainer = Trainer(speckled(40), settings, arch=arch, encoder={"width": 8, "blocks": 0, "fine_width": 0})
        with trainer.numerics():
            for _ in range(160):
                trainer.train_step()
            torch.manual_seed(0)
            row = trainer.measure()
        found.append(row["points"][0]["texture"])
    assert found[1] < 0.6 * found[0], found
