"""Convolutions of exact networks on the CPU: the same sums as `exact.ExactConv2d`, several times as fast.

All that is multiplied are integers of a byte or little more. All processors multiply integers of 16 bits at twice the speed of
float32, and many have an instruction for bytes, at four times the speed (`products`). Whole layers are loops in machine code
(`layers`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from batchcodec.learned import layers, products
from batchcodec.learned.exact import ACT_LIMIT, ExactConv2d

TILE_BYTES = 1 << 19
"""What a tile of inputs and sums takes: about a second-level cache. Smaller ones make threads wait for the interpreter."""
REPEATED = 2048
"""About how long `scale` and `bias` are."""


class Convolution:
    """A layer whose inputs and weights are integers.

    Args:
        weight: integers, int8 [O, I, k, k] with k = 1 or 3; the input is continued with zeros. Without `as_bytes` also int16.
        scale: what a step of the sums is, float [O].
        bias: what is to be added to scaled sums, float [O].
        as_bytes: whether bytes are multiplied as such, where the processor can; inputs are int8 then.

    Attributes:
        scale: float32 [c * O], repeated for c positions.
        bias: likewise.
    """

    def __init__(
        self, weight: NDArray[np.int8] | NDArray[np.int16], scale: NDArray[Any], bias: NDArray[Any], *, as_bytes: bool
    ) -> None:
        repeated = max(1, REPEATED // len(weight))
        self.scale, self.bias = np.tile(scale.astype(np.float32), repeated), np.tile(bias.astype(np.float32), repeated)
        self.n_out, self.n_in, self.kernel = weight.shape[:3]
        self._weight, self._kind = weight, np.int8 if as_bytes and products.BYTES else np.int16

    @classmethod
    def of(
        cls,
        layer: ExactConv2d,
        gain: float | NDArray[np.float64] = 1.0,
        *,
        order: NDArray[np.int64] | None = None,
        inputs: slice | None = None,
        taps: tuple[int, ...] | None = None,
        as_bytes: bool,
    ) -> Self:
        """A layer of a decoder, its weights laid out for use.

        Args:
            layer: with frozen weights, whose bound is proven.
            gain: what scale and bias are multiplied by, a power of two for each output channel or for all.
            order: the output channels in another order; all by default in their own.
            inputs: a part of the input channels; all by default.
            taps: places in the kernel (row * k + column) that become input channels of a 1x1 convolution, tap after tap.
            as_bytes: whether bytes are multiplied as such, where the processor can and inputs are bytes.
        """
        if layer.frozen_shift is None or layer.bias is None:
            raise TypeError("only layers that came from a file are laid out")
        shift = layer.frozen_shift.numpy().astype(np.float64)
        weight = (layer.weight.detach().numpy() * np.exp2(shift)[:, None, None, None]).astype(np.int8)  # its integers
        scale, bias = np.exp2(-shift - layer.input_bits) * gain, layer.bias.detach().numpy() * gain
        if order is not None:
            weight, scale, bias = weight[order], scale[order], bias[order]
        if inputs is not None:
            weight = weight[:, inputs]
        if taps is not None:  # [O, I, k, k] to [O, taps * I, 1, 1]
            some = weight.reshape(*weight.shape[:2], -1)[:, :, list(taps)]
            weight = some.transpose(0, 2, 1).reshape(len(some), -1, 1, 1)
        return cls(weight, scale, bias, as_bytes=as_bytes and layer.max_input <= ACT_LIMIT)

    def activations(self, x: products.Inputs) -> NDArray[np.int8]:
        """Activations of the layer, int8 [N, H, W, O], from bytes or int16 [N, H, W, I]."""
        out = np.empty((*x.shape[:3], self.n_out), np.int8)
        self._into(out, x, layers.activated)
        return out

    def add_to(self, out: NDArray[np.int8], x: products.Inputs) -> None:
        """The end of a residual block: what the layer makes of x is added to int8 [N, H, W, O], rounded and clamped."""
        self._into(out, x, layers.added)

    def accumulate(self, out: NDArray[np.float32], x: products.Inputs) -> None:
        """What the layer makes of x, neither rounded nor clamped, is added to float32 [N, H, W, O]."""
        self._into(out, x, layers.accumulated)

    def _into(self, out: NDArray[Any], x: products.Inputs, loop: Callable[..., None]) -> None:
        height, width = x.shape[1:3]
        loop(x.reshape(-1), height, width, self.kernel, self.layer, TILE_BYTES, out.reshape(-1))

    @cached_property
    def layer(self) -> layers.Layer:
        """As loops want it."""
        weights, begins = products.laid_out(self._weight, self._kind), products.begins(self._weight, self._kind)
        return weights, begins, self.scale, self.bias, self.n_in, self.n_out


def pixel_shuffled(channels: int, factor: int) -> NDArray[np.int64]:
    """The order of output channels that `shuffled` wants: d * r^2 + u * r + v becomes (u * r + v) * D + d."""
    depth = channels // factor**2
    return np.arange(channels).reshape(depth, factor, factor).transpose(1, 2, 0).reshape(-1)


def shuffled(x: NDArray[Any], factor: int) -> NDArray[Any]:
    """The pixel shuffle of [N, h, w, r * r * D]: [N, h * r, w * r, D]."""
    if factor == 1:
        return x
    n, height, width, channels = x.shape
    blocks = x.reshape(n, height, width, factor, factor, channels // factor**2)
    return blocks.transpose(0, 1, 3, 2, 4, 5).reshape(n, height * factor, width * factor, -1)
