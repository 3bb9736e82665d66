"""Convolutions of exact networks on the CPU: the same sums as `exact.ExactConv2d`, several times as fast.

All that is multiplied are integers of a byte or little more. Many processors multiply bytes several times as fast as float32.
torch has that product; `int8_is_exact` finds out whether what it computes is right on this machine (older instructions clip
sums of two products to 16 bits), and `int8_pays` whether it is the faster way, too: without instructions for bytes, torch goes
through them one by one. Where it is not, integers of 16 bits are multiplied (`products`), which all processors do well: at
about twice the speed of float32.

As bytes, inputs that need more than one (latents) are split in two, and so are the sums.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache, cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from batchcodec.learned import kernels, layers, products
from batchcodec.learned.exact import ExactConv2d
from batchcodec.learned.timing import least_seconds

TILE_BYTES = 1 << 19
"""What a tile of inputs and sums takes: about a second-level cache. Smaller ones make threads wait for the interpreter."""
KEPT_BYTES, N_KEPT = 1 << 20, 8
"""What a thread keeps for its next call: so many arrays of at most this size."""
WORD = 8
"""Channels that `kernels.columns` moves at once."""
HOPELESS = 3
"""Times as long as by 16 bits: more than the first calls differ by, and far less than bytes take one by one."""
REPEATED = 2048
"""About how long `scale` and `bias` are."""

Tile = tuple[NDArray[np.int32], slice]
"""Sums, flat, of some positions of all images, and where they are in the flat array of all: positions times channels."""


@cache
def int8_is_exact() -> bool:
    """Whether torch's product of bytes is exact on this machine, measured with the largest numbers there are."""
    random = np.random.default_rng(0)
    for rows, depth, channels in ((64, 576, 64), (33, 50, 24), (1, 9, 8)):
        left = random.choice(np.array([-128, -127, 1, 127], np.int8), (rows, depth))
        right = random.choice(np.array([-127, 1, 127], np.int8), (depth, channels))
        left[0], right[:, 0] = -128, 127
        try:
            found = torch._int_mm(torch.from_numpy(left), torch.from_numpy(right)).numpy()
        except (RuntimeError, NotImplementedError):
            return False
        if not np.array_equal(found, left.astype(np.int32) @ right.astype(np.int32)):
            return False
    return True


@cache
def int8_pays() -> bool:
    """Whether products of bytes are exact and may be the faster way on this machine.

    Where they are not, they take many times as long. Where they may be, the sizes of a model's layers decide.
    """
    if not int8_is_exact():
        return False
    random = np.random.default_rng(0)
    x = random.integers(-127, 128, (1, 256, 1, 576), np.int8)
    weight = random.integers(-127, 128, (64, 576, 1, 1), np.int8)
    words, as_bytes = (Convolution(weight, np.ones(64), np.zeros(64), int8=int8) for int8 in (False, True))
    return least_seconds(lambda: as_bytes.activations(x)) < HOPELESS * least_seconds(lambda: words.activations(x))


class Convolution:
    """A layer whose inputs and weights are integers.

    Args:
        weight: integers, int8 [O, I, k, k] with k = 1 or 3; the input is continued with zeros. Without `int8` also int16.
        scale: what a step of the sums is, float [O].
        bias: what is to be added to scaled sums, float [O].
        int8: whether bytes are multiplied as such, or as integers of 16 bits.

    Attributes:
        scale: float32 [c * O], repeated for c positions.
        bias: likewise.
    """

    def __init__(
        self, weight: NDArray[np.int8] | NDArray[np.int16], scale: NDArray[Any], bias: NDArray[Any], *, int8: bool
    ) -> None:
        repeated = max(1, REPEATED // len(weight))
        self.scale, self.bias = np.tile(scale.astype(np.float32), repeated), np.tile(bias.astype(np.float32), repeated)
        self.n_out, self.n_in, self.kernel = weight.shape[:3]
        self._weight, self._int8 = weight, int8
        self._matrices: dict[int, Tensor] = {}

    @classmethod
    def of(
        cls,
        layer: ExactConv2d,
        gain: float | NDArray[np.float64] = 1.0,
        *,
        order: NDArray[np.int64] | None = None,
        inputs: slice | None = None,
        taps: tuple[int, ...] | None = None,
        int8: bool,
    ) -> Self:
        """A layer of a decoder, its weights laid out for use.

        Args:
            layer: with frozen weights, whose bound is proven.
            gain: what scale and bias are multiplied by, a power of two for each output channel or for all.
            order: the output channels in another order; all by default in their own.
            inputs: a part of the input channels; all by default.
            taps: places in the kernel (row * k + column) that become input channels of a 1x1 convolution, tap after tap.
            int8: whether bytes are multiplied as such, or as integers of 16 bits.
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
        return cls(weight, scale, bias, int8=int8)

    def activations(self, x: products.Inputs) -> NDArray[np.int8]:
        """Activations of the layer, int8 [N, H, W, O], from bytes or int16 [N, H, W, I]."""
        out = np.empty((*x.shape[:3], self.n_out), np.int8)
        self._into(out, x, layers.activated, kernels.activate)
        return out

    def add_to(self, out: NDArray[np.int8], x: products.Inputs) -> None:
        """The end of a residual block: what the layer makes of x is added to int8 [N, H, W, O], rounded and clamped."""
        self._into(out, x, layers.added, kernels.add)

    def accumulate(self, out: NDArray[np.float32], x: products.Inputs) -> None:
        """What the layer makes of x, neither rounded nor clamped, is added to float32 [N, H, W, O]."""
        self._into(out, x, layers.accumulated, kernels.accumulate)

    def _into(self, out: NDArray[Any], x: products.Inputs, whole: Callable[..., None], finish: Callable[..., None]) -> None:
        """The layer by 16 bits, as a whole, or by bytes, with the loop that ends it."""
        if self._int8:
            self._by_bytes(finish, x, out)
        else:
            height, width = x.shape[1:3]
            whole(x.reshape(-1), height, width, self.kernel, self.layer, TILE_BYTES, out.reshape(-1))

    def _by_bytes(self, finish: Callable[..., None], x: products.Inputs, out: NDArray[Any]) -> None:
        """A loop of `kernels` over all tiles."""
        flat = out.reshape(-1)
        for sums, at in self.sums(x):
            finish(sums, self.scale, self.bias, flat[at])

    @cached_property
    def layer(self) -> layers.Layer:
        """As loops of 16 bits want it."""
        return products.laid_out(self._weight), self.scale, self.bias, self.n_in, self.n_out

    def sums(self, x: NDArray[Any], n_lines: int = 0) -> Iterator[Tile]:
        """The sums as products of bytes, tile by tile: multiples of so many lines each, but for the last.

        Args:
            x: int8 [N, H, W, I], or int16, of which each number is 256 * high + low, with low from -128 to 127.
            n_lines: that tiles are multiples of.
        """
        high_at, n_wide = None, 0
        if x.dtype == np.int8:
            low_at = self._views(x)
        else:
            flags = np.zeros(max(1, REPEATED // self.n_in) * self.n_in, np.int16)
            n_wide = kernels.n_wide(x.reshape(-1), self.n_in, flags)
            if 2 * n_wide > self.n_in:
                n_wide = self.n_in  # few different matrices
            low_at = self._wide_views(x, self.n_in, high=False)
            high_at = self._wide_views(x, n_wide, high=True) if n_wide else None
        for first, last in self._tiles(x.shape, n_lines):
            sums = self._product(low_at(first, last), self.n_in)
            if high_at:
                sums.add_(self._product(high_at(first, last), n_wide), alpha=256)
            yield sums.numpy().reshape(-1), slice(first * self.n_out, last * self.n_out)

    def _views(self, x: NDArray[np.int8]) -> Callable[[int, int], NDArray[np.int8]]:
        """What the kernel sees of int8 [N, H, W, C] from a first to a last position: int8 [positions, k * k * C'], C' >= C."""
        channels = x.shape[3]
        if self.kernel == 1:
            rows = x.reshape(-1, channels)
            return lambda first, last: rows[first:last]
        bordered = _with_border(x.shape, channels)
        bordered[:, 1:-1, 1:-1, :channels] = x
        return _columns_of(bordered)

    def _wide_views(self, x: NDArray[np.int16], channels: int, *, high: bool) -> Callable[[int, int], NDArray[np.int8]]:
        """The same of the high or low bytes of the first channels of int16 [N, H, W, I]."""
        if self.kernel == 1:
            some = x[..., :channels]
            return self._views(((some + 128) >> 8 if high else some).astype(np.int8))
        bordered = _with_border(x.shape, channels, 1 + high)
        height, width, n_in = x.shape[1:]
        kernels.bordered(x.reshape(-1), height, width, n_in, bordered.shape[3], high, bordered.reshape(-1))
        return _columns_of(bordered)

    def _tiles(self, shape: tuple[int, ...], n_lines: int = 0) -> Iterator[tuple[int, int]]:
        n_positions, whole = shape[0] * shape[1] * shape[2], max(1, n_lines * shape[2])
        step = max(whole, TILE_BYTES // (self.kernel**2 * self.n_in + 4 * self.n_out) // whole * whole)
        return ((first, min(n_positions, first + step)) for first in range(0, n_positions, step))

    def _product(self, seen: NDArray[np.int8], n_in: int) -> Tensor:
        """int8 [positions, k * k * C'] times the weights of the first n_in input channels: int32 [positions, O]."""
        return torch._int_mm(torch.from_numpy(seen), self._matrix(n_in, seen.shape[1] // self.kernel**2))

    def _matrix(self, n_in: int, depth: int) -> Tensor:
        """Weights of the first n_in input channels, and zeros up to `depth`: int8 [k * k * depth, O]."""
        if n_in not in self._matrices:
            weight = np.zeros((self.kernel, self.kernel, depth, self.n_out), np.int8)
            weight[:, :, :n_in] = self._weight[:, :n_in].transpose(2, 3, 1, 0)
            self._matrices[n_in] = torch.from_numpy(weight.reshape(-1, self.n_out))
        return self._matrices[n_in]


class _Borders(threading.local):
    """Arrays with a border of zeros, kept: to allocate and clear them takes longer than to fill them."""

    def __init__(self) -> None:
        self.kept: OrderedDict[tuple[int, ...], NDArray[np.int8]] = OrderedDict()


_borders = _Borders()


def _with_border(shape: tuple[int, ...], channels: int, kind: int = 0) -> NDArray[np.int8]:
    """For images [N, H, W, ...] in whole words, int8 [N, H + 2, W + 2, C'], C' >= channels: zeros beyond them and the channels.

    What was returned before, on this thread, for the same shape and kind may come again: all images are to be written.
    """
    full = (shape[0], shape[1] + 2, shape[2] + 2, -(-channels // WORD) * WORD)
    key = (*full, channels, kind)
    found = _borders.kept.pop(key, None)
    if found is None:
        found = np.zeros(full, np.int8)
        if found.nbytes > KEPT_BYTES:
            return found
    _borders.kept[key] = found
    if len(_borders.kept) > N_KEPT:
        _borders.kept.popitem(last=False)
    return found


def _columns_of(bordered: NDArray[np.int8]) -> Callable[[int, int], NDArray[np.int8]]:
    """What a 3x3 kernel sees from a first to a last position: int8 [positions, 9 * C']."""
    height, width, depth = bordered.shape[1] - 2, bordered.shape[2] - 2, bordered.shape[3] // WORD
    words = bordered.reshape(-1).view(np.int64)

    def seen_at(first: int, last: int) -> NDArray[np.int8]:
        out = np.empty((last - first) * 9 * depth, np.int64)
        kernels.columns(words, height, width, depth, first, out)
        return out.view(np.int8).reshape(last - first, -1)

    return seen_at


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
