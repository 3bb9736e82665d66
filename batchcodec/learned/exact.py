"""Integer-exact layers: the same numbers on every machine, in training as in decoding.

A float32 sum of integers times one power of two is exact, in any order of summation and on any hardware, while no partial sum
reaches 2^24 units. The layers here keep to that:

- *Weights* are int8 steps of a power of two that each output channel has of its own.
- *Activations* are integers in units of 2^-4 (`GRID_BITS`), rounded (ties to even) and clamped after each layer.
- *Bounds*: of each output channel, sum |weight| * max |input| + |bias| stays below 2^24 units. The step of a channel is the
  finest for which that and the range of int8 hold, so training keeps the bound as long as weights are of any sensible size;
  `check_bound` proves it when a decoder is built from a file, and refuses otherwise.
- *Activation function*: LeakyReLU with slope 1/8, a power of two.

Scaling by powers of two is exact in floating point, so what is trained, with straight-through gradients, **is** the decoder:
one code path. `numerics` pins what torch may do meanwhile. `batchcodec.reference` is the same arithmetic in int64.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

GRID_BITS = 4
"""Activations are multiples of 2^-4."""
ACT_LIMIT = 127
"""Activations lie in -127..127 steps of the grid."""
ACCUMULATOR = 1 << 24
"""Integers below this are exact in float32."""
MAX_WEIGHT = 127
MIN_SHIFT, MAX_SHIFT = -4, 14
"""A channel's weights are multiples of 2^-shift."""
SLOPE = 0.125


class _Rounded(torch.autograd.Function):
    """Round to multiples of 2^-bits and clamp to `limit` of them; the gradient passes inside the clamp."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int, limit: int) -> Tensor:
        y = torch.round(x * 2.0**bits)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(y.abs() <= limit)
        return y.clamp_(-limit, limit).mul_(2.0**-bits)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return grads[0] * ctx.saved_tensors[0], None, None


def rounded(x: Tensor, bits: int, limit: int) -> Tensor:
    """`x` on the grid of 2^-bits, within `limit` steps; straight-through gradients."""
    return cast(Tensor, _Rounded.apply(x, bits, limit))  # type: ignore[no-untyped-call]


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """`value` going forwards, the gradient of `x` going backwards."""
    return value.detach() + (x - x.detach())  # adds an exact 0; x + (value - x) would round where they lie far apart


class _QuantisedWeight(torch.autograd.Function):
    """Weights on their int8 grid; the gradient passes as it is, since the step follows the largest weight."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, shift: Tensor) -> Tensor:
        scale = torch.exp2(shift).reshape(-1, *[1] * (weight.dim() - 1))
        return torch.round(weight * scale).clamp_(-MAX_WEIGHT, MAX_WEIGHT).div_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class ExactConv2d(nn.Conv2d):
    """A convolution with int8 weights, a power of two per output channel, and a bias on the grid of its sums.

    Args:
        n_in: input channels.
        n_out: output channels.
        kernel: side of the kernel, odd; the image is continued with zeros.
        max_input: largest input, in steps of 2^-input_bits.
        input_bits: the grid of the input.

    `exact = False` makes it a plain convolution, for the ablation that shows what exactness costs.
    """

    def __init__(
        self, n_in: int, n_out: int, kernel: int, *, max_input: int = ACT_LIMIT, input_bits: int = GRID_BITS, exact: bool = True
    ) -> None:
        super().__init__(n_in, n_out, kernel, padding=kernel // 2)
        if n_in * kernel**2 / 2 >= 0.5 * ACCUMULATOR / max_input:
            raise ValueError(f"{n_in} channels of {kernel}x{kernel} taps leave no room for weights below 2^24")
        self.max_input, self.input_bits, self.exact = max_input, input_bits, exact
        self.weight_limit = MAX_WEIGHT  # fewer levels weigh less in an archive
        self.frozen_shift: Tensor | None = None
        self.low_precision = False  # while training only: twice as fast, and off by a rounding now and then

    @torch.no_grad()
    def shifts(self) -> Tensor:
        """Per output channel, the finest power of two that keeps int8 and the bound of the accumulator: float32 [n_out]."""
        if self.frozen_shift is not None:
            return self.frozen_shift
        size = self.weight.detach().abs().flatten(1)
        taps = size.shape[1]
        # Rounding moves each weight by half a step at most, so the rounded sum is at most sum * 2^shift + taps / 2. A
        # quarter of the accumulator is left for the bias and for what a residual block adds.
        room = (0.75 * ACCUMULATOR / self.max_input - taps / 2) / size.sum(1).clamp_min(1e-12)
        finest = torch.minimum((self.weight_limit + 0.499) / size.amax(1).clamp_min(1e-12), room)
        return torch.floor(torch.log2(finest)).clamp_(MIN_SHIFT, MAX_SHIFT)

    def quantised(self) -> tuple[Tensor, Tensor]:
        """Weight and bias as they are used: multiples of powers of two, float32."""
        shift = self.shifts()
        weight = cast(Tensor, _QuantisedWeight.apply(self.weight, shift))  # type: ignore[no-untyped-call]
        if self.bias is None:
            raise TypeError("exact layers have a bias")
        unit = torch.exp2(shift + self.input_bits)
        limit = float(ACCUMULATOR // 8 - 1)
        bias = straight_through(self.bias, torch.round(self.bias.detach() * unit).clamp_(-limit, limit) / unit)
        return weight, bias

    @torch.no_grad()
    def integers(self) -> tuple[Tensor, Tensor, Tensor]:
        """What a model file stores: weight and bias in their units, and the shift of each output channel; float32."""
        shift = self.shifts()
        weight, bias = self.quantised()
        unit = torch.exp2(shift)
        return weight * unit[:, None, None, None], bias * unit * 2.0**self.input_bits, shift

    def freeze(self, shift: Tensor) -> None:
        """Take the weights for what they are: they came from a file, on their grid of 2^-shift."""
        self.frozen_shift = shift

    def forward(self, x: Tensor) -> Tensor:
        """[N, n_in, H, W] to [N, n_out, H, W]."""
        exact = self.exact and self.frozen_shift is None
        weight, bias = self.quantised() if exact else (self.weight, self.bias)
        if x.is_cuda and self.frozen_shift is not None and bias is not None:
            return as_product(x, weight, bias)
        if self.low_precision and self.training and bias is not None:
            return F.conv2d(x.bfloat16(), weight.bfloat16(), bias.bfloat16(), padding=self.padding).float()
        return F.conv2d(x, weight, bias, padding=self.padding)


def as_product(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution as a matrix product of unfolded images: cuDNN's own might be Winograd's, which is not exact."""
    n, _, height, width = x.shape
    columns = F.unfold(x, weight.shape[-1], padding=weight.shape[-1] // 2)
    y = weight.flatten(1) @ columns + bias[:, None]
    return y.reshape(n, -1, height, width)


def activation(x: Tensor, exact: bool = True) -> Tensor:
    """LeakyReLU, and back onto the grid."""
    x = F.leaky_relu(x, SLOPE)
    return rounded(x, GRID_BITS, ACT_LIMIT) if exact else x


def on_grid(x: Tensor, exact: bool = True) -> Tensor:
    """Onto the grid of activations, without a nonlinearity but the clamp."""
    return rounded(x, GRID_BITS, ACT_LIMIT) if exact else x


class ExactResidual(nn.Module):
    """x + conv(act(conv(x))), on the grid; [N, C, H, W] to the same shape."""

    def __init__(self, channels: int, *, exact: bool = True) -> None:
        super().__init__()
        self.a = ExactConv2d(channels, channels, 3, exact=exact)
        self.b = ExactConv2d(channels, channels, 3, exact=exact)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] to the same shape."""
        exact = self.a.exact
        return on_grid(x + self.b(activation(self.a(x), exact)), exact)


_lock = threading.Lock()
_users = 0
_saved: dict[str, Any] = {}


def _precisions() -> list[Any]:
    """Where torch 2.9 and later keep the precision of float32, besides the two older settings."""
    backends = torch.backends
    places = [(backends.mkldnn, "conv"), (backends.mkldnn, "matmul"), (backends.mkldnn, "rnn"), (backends.cudnn, "conv")]
    places += [(backends.cudnn, "rnn"), (backends.cuda, "matmul")]
    found = [getattr(module, name, None) for module, name in places]
    return [place for place in found if hasattr(place, "fp32_precision")]


def _pin() -> None:
    _saved["nnpack"] = torch.backends.nnpack.set_flags(False)[0]  # type: ignore[no-untyped-call]
    _saved["precisions"] = [place.fp32_precision for place in _precisions()]
    for name, read in (
        ("precision", torch.get_float32_matmul_precision),
        ("tf32", lambda: torch.backends.cudnn.allow_tf32),
    ):
        try:
            _saved[name] = read()
        except RuntimeError:  # the process uses the newer settings, and torch does not let both be read then
            _saved[name] = None
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    for place in _precisions():
        place.fp32_precision = "ieee"


def _unpin() -> None:
    torch.backends.nnpack.set_flags(_saved["nnpack"])  # type: ignore[no-untyped-call]
    if _saved["precision"] is not None:
        torch.set_float32_matmul_precision(_saved["precision"])
    if _saved["tf32"] is not None:
        torch.backends.cudnn.allow_tf32 = _saved["tf32"]
    for place, precision in zip(_precisions(), _saved["precisions"], strict=True):
        place.fp32_precision = precision


def _in_child() -> None:
    """After a fork: the threads that hold the lock and the settings are not here."""
    global _lock, _users
    _lock = threading.Lock()
    if _users:
        _users = 0
        _unpin()


os.register_at_fork(after_in_child=_in_child)


@contextlib.contextmanager
def numerics(threads: int = 1) -> Iterator[None]:
    """What exactness asks of torch, and so many threads for this call; the caller's settings are put back.

    - NNPACK is off: its Winograd convolutions were measured to give other sums.
    - Matrix products and convolutions are IEEE float32: no TF32, no bfloat16 in disguise, no autocast.

    Those settings belong to the whole process: the first of several threads makes them, the last puts them back.
    """
    global _users
    with _lock:
        if not _users:
            _pin()
        _users += 1
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)  # a setting of the calling thread; groups run side by side, which scales better
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            yield
    finally:
        torch.set_num_threads(before)
        with _lock:
            _users -= 1
            if not _users:
                _unpin()
