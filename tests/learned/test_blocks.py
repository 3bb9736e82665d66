"""Building blocks: what they compute, and shapes for all names."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from batchcodec.learned.architecture import ACTIVATIONS, UPSAMPLINGS
from batchcodec.learned.blocks import GDN, activation, lower_bound, upsampling


@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_is_its_formula(inverse: bool) -> None:
    torch.manual_seed(0)
    layer = GDN(3, inverse=inverse)
    with torch.no_grad():
        layer.beta.uniform_(0.5, 2)
        layer.gamma.uniform_(0.1, 1)
    w = torch.randn(2, 3, 4, 5)
    found = layer(w)
    beta, gamma = layer.beta.detach() ** 2, layer.gamma.detach() ** 2
    for i in range(3):
        norm = torch.sqrt(beta[i] + sum(gamma[i, j] * w[:, j] ** 2 for j in range(3)))
        torch.testing.assert_close(found[:, i], w[:, i] * norm if inverse else w[:, i] / norm, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("value", [0.0, -5.0, 1e-30])
def test_gdn_never_divides_by_zero_and_comes_back(value: float) -> None:
    layer = GDN(2)
    with torch.no_grad():
        layer.beta.fill_(value)
        layer.gamma.fill_(value)
    w = torch.ones(1, 2, 1, 1, requires_grad=True)
    u = layer(w)
    assert torch.isfinite(u).all()
    u.sum().backward()  # a smaller output wants a larger beta, and gets a gradient from below its bound
    assert (layer.beta.grad < 0).all()


def test_lower_bound_passes_only_what_leads_up() -> None:
    x = torch.tensor([-1.0, -1.0, 2.0, 2.0], requires_grad=True)
    lower_bound(x, 0.0).backward(torch.tensor([1.0, -1.0, 1.0, -1.0]))
    assert x.grad is not None
    assert x.grad.tolist() == [0, -1, 1, -1]


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_keep_the_shape(name: str) -> None:
    x = torch.randn(2, 4, 5, 6)
    assert activation(name, 4)(x).shape == activation(name, 4, inverse=True)(x).shape == x.shape


@pytest.mark.parametrize("name", UPSAMPLINGS)
@pytest.mark.parametrize(("kernel", "stride"), [(9, 4), (5, 2), (4, 2)])
@pytest.mark.parametrize("bias", [False, True])
def test_upsamplings_multiply_the_sides(name: str, kernel: int, stride: int, bias: bool) -> None:
    layer = upsampling(name, 3, 5, kernel, stride, bias=bias)
    assert layer(torch.randn(2, 3, 4, 7)).shape == (2, 5, 4 * stride, 7 * stride)
    convolution = next(m for m in layer.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d))
    assert (convolution.bias is not None) == bias
