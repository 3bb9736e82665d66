"""The convolutional autoencoder of the source paper.

Knyazev & Sklyarenko 2025, "Principles of Using Convolutional Neural Networks for Lossy Image Compression": stride-2
convolutions, batch norm and LeakyReLU down to 1/8 of the size; transposed convolutions back up, with a sigmoid at the end.

Batch norm is needed only while training. `Autoencoder.folded` puts it into the weights of the convolution before it, so that
what is stored and run is convolution, bias and LeakyReLU alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from batchcodec.learned.architecture import Shape
from batchcodec.learned.blocks import activation, upsampling


class Autoencoder(nn.Module):
    """Analysis and synthesis transform.

    Args:
        channels: of the image, 1 or 3.
        latent: channels of the latents; 12, 24 and 32 in the paper.
        shape: of the networks.
        norm: with batch norm (to train) or without (folded).
    """

    def __init__(self, channels: int, latent: int, shape: Shape, *, norm: bool = True) -> None:
        super().__init__()
        self.channels, self.latent, self.shape = channels, latent, shape
        bias = not norm

        def block(layer: nn.Module, n_out: int, *, inverse: bool) -> nn.Sequential:
            """Convolution, batch norm where wanted, activation."""
            between = [nn.BatchNorm2d(n_out)] if norm else []
            return nn.Sequential(layer, *between, activation(shape.activation, n_out, inverse=inverse))

        outer = (channels, *shape.widths)  # [N, outer[i], H / 2^i, W / 2^i]
        down: list[nn.Module] = []
        up: list[nn.Module] = [nn.Sigmoid()]
        for i, (wide, deep) in enumerate(pairwise(outer)):
            down.append(block(nn.Conv2d(wide, deep, 4, stride=2, padding=1, bias=bias), deep, inverse=False))
            layer = upsampling(shape.upsample, deep, wide, 4, 2, bias=bias or not i)
            up.insert(0, block(layer, wide, inverse=True) if i else layer)
        deepest = outer[-1]
        self.encoder = nn.Sequential(*down, nn.Conv2d(deepest, latent, 3, padding=1))
        first = nn.Conv2d(latent, deepest, 3, padding=1, bias=bias)
        self.decoder = nn.Sequential(block(first, deepest, inverse=True), *up)

    def folded(self) -> Autoencoder:
        """The same function in eval mode, without batch norm."""
        plain = Autoencoder(self.channels, self.latent, self.shape, norm=False)
        with torch.no_grad():
            for (conv, norm), (target, _) in zip(_convolutions(self), _convolutions(plain), strict=True):
                weight = conv.weight
                bias = conv.bias if conv.bias is not None else torch.zeros(conv.out_channels)
                if norm is not None:
                    running_var, running_mean = norm.running_var, norm.running_mean
                    if running_var is None or running_mean is None:
                        raise ValueError("batch norm without running statistics cannot be folded")
                    # A pixel shuffle stands between the two where there are more channels before than after it.
                    spread = conv.out_channels // norm.num_features
                    running_mean, shift = (t.repeat_interleave(spread) for t in (running_mean, norm.bias))
                    gain = (norm.weight / torch.sqrt(running_var + norm.eps)).repeat_interleave(spread)  # [n_out]
                    # A transposed convolution keeps its output channels in the second axis of the weight.
                    shape = (1, -1, 1, 1) if isinstance(conv, nn.ConvTranspose2d) else (-1, 1, 1, 1)
                    weight = weight * gain.reshape(shape)
                    bias = (bias.to(gain.device) - running_mean) * gain + shift
                target.weight.copy_(weight)
                if target.bias is not None:
                    target.bias.copy_(bias)
        return plain.eval()

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] in [0, 1] to its reconstruction, without quantisation."""
        y: Tensor = self.decoder(self.encoder(x))
        return y


def _convolutions(net: Autoencoder) -> Iterator[tuple[nn.Conv2d | nn.ConvTranspose2d, nn.BatchNorm2d | None]]:
    """Each convolution in order, with the batch norm that follows it if there is one."""
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d)]
    for i, layer in enumerate(layers):
        if isinstance(layer, nn.BatchNorm2d):
            continue
        following = layers[i + 1] if i + 1 < len(layers) else None
        yield layer, following if isinstance(following, nn.BatchNorm2d) else None


class FactorizedPrior(nn.Module):
    """A density of its own for each latent channel, a mixture of logistics: the rate term while training.

    Only a stand-in: the real tables are integer histograms of the quantised latents (`entropy.tables`).
    """

    def __init__(self, channels: int, components: int = 3) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.linspace(-2, 2, components).repeat(channels, 1))  # [C, K]
        self.log_scale = nn.Parameter(torch.full((channels, components), 1.0))  # [C, K]
        self.logit = nn.Parameter(torch.zeros(channels, components))  # [C, K]

    def bits(self, y: Tensor) -> Tensor:
        """Bits of each image for latents [N, C, h, w] on an integer grid (or with uniform noise in its place): [N]."""
        y = y.float().unsqueeze(2)  # [N, C, 1, h, w]
        mean, scale = (p[None, :, :, None, None] for p in (self.mean, torch.exp(self.log_scale.clamp(-4, 6))))
        weight = torch.softmax(self.logit, dim=1)[None, :, :, None, None]
        mass = torch.sigmoid((y + 0.5 - mean) / scale) - torch.sigmoid((y - 0.5 - mean) / scale)
        return -torch.log2((weight * mass).sum(2).clamp_min(2.0**-16)).sum((1, 2, 3))
