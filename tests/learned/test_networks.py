"""Batch norm folded into the convolutions is the same function as the network in eval mode."""

from __future__ import annotations

import pytest
import torch

from batchcodec.learned.architecture import Shape
from batchcodec.learned.networks import Autoencoder, FactorizedPrior

SHAPES = [
    Shape((6, 7, 8)),
    Shape((6, 7, 8), upsample="pixelshuffle"),
    Shape((6, 7), upsample="resize", activation="gelu"),
    Shape((4, 5, 6, 7), activation="gdn"),
    Shape((6,), activation="none", upsample="pixelshuffle"),
]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_folding_is_the_network_in_eval_mode(channels: int, shape: Shape) -> None:
    torch.manual_seed(0)
    net = Autoencoder(channels, 5, shape)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.2, 3)
                module.weight.normal_(1, 0.3)
                module.bias.normal_()
    net.eval()
    folded = net.folded()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    x = torch.rand(2, channels, 32, 48)
    with torch.no_grad():
        y = net.encoder(x)
        torch.testing.assert_close(folded.encoder(x), y, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(folded.decoder(y), net.decoder(y), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(folded(x), net(x), atol=1e-4, rtol=1e-4)
    assert y.shape == (2, 5, 32 // shape.stride, 48 // shape.stride)


def test_the_prior_gives_the_bits_of_a_distribution() -> None:
    prior = FactorizedPrior(2)
    grid = torch.arange(-60.0, 61).reshape(-1, 1, 1, 1).repeat(1, 2, 1, 1)
    with torch.no_grad():
        mass = 2 ** -prior.bits(grid[:, :1].repeat(1, 2, 1, 1)).div(2)  # both channels are alike at the start
    assert mass.sum() == pytest.approx(1, abs=2e-3)
