"""The decoder of `hyperprior-1` once more, in integers: slow, short, without torch and numba. The oracle for tests.

Written from `docs/hyperprior-1.md`, not from `batchcodec.learned`; all arithmetic is int64 or Python's integers, and nothing is
rounded but where that text says so. It opens archives where torch is not, and proves that torch's float32 is exact.

Activations are int64 [N, h, w, C] in units of 2^-4; latents are int64 [N, h, w, M] in gray levels.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from math import isqrt
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import xxhash

from batchcodec.codec import Codec
from batchcodec.entropy.tables import quantise_counts
from batchcodec.errors import CodecError, ModelError, PayloadError, UnsupportedImageError
from batchcodec.learned import model_file
from batchcodec.types import JSON, GroupSpec, ImageSpec, Pixels

Int64 = npt.NDArray[np.int64]
Code = Callable[[Int64, Int64], Int64]
"""Of one pass, from means and tables 0..80 to the integers k: int64 [N, positions, channels] each."""

N_SCALES = 81
FIELDS = {  # of the architecture, beside `slices`
    "channels": (1, 4),
    "stride": (8, 16),
    "width": (0, 1024),
    "blocks": (0, 16),
    "fine_width": (1, 1024),
    "fine_blocks": (0, 16),
    "hyper": (1, 1024),
    "hyper_width": (1, 1024),
    "context_width": (1, 1024),
    "anchors": (2, 100),
}


def shifted(x: Int64, by: Int64 | int) -> Int64:
    """The nearest integers to x * 2^by, ties to even; int64 of the shape of both."""
    down = np.maximum(-np.asarray(by, np.int64), 0)
    floor = x << np.maximum(by, 0) >> down
    twice_rest = 2 * (x - (floor << down)) * (down > 0)
    nearest: Int64 = floor + ((twice_rest > 1 << down) | ((twice_rest == 1 << down) & (floor & 1 == 1)))
    return nearest


@dataclass(frozen=True)
class Layer:
    """A convolution: weight int64 [out, in, k, k] and, per output channel, shift and bias in units of the sums, int64 [out]."""

    weight: Int64
    shift: Int64
    bias: Int64
    input_bits: int

    def sums(self, x: Int64) -> Int64:
        """[N, h, w, in] to [N, h, w, out] in units of 2^-(shift + input_bits); the image is continued with zeros."""
        side = self.weight.shape[2]
        height, width = x.shape[1:3]
        padded = np.pad(x, ((0, 0), (side // 2, side // 2), (side // 2, side // 2), (0, 0)))
        total = np.broadcast_to(self.bias, (*x.shape[:3], len(self.bias))).copy()
        for i in range(side):
            for j in range(side):
                total += padded[:, i : i + height, j : j + width] @ self.weight[:, :, i, j].T
        return total

    def scaled(self, sums: Int64, bits: int) -> Int64:
        """Sums on the grid of 2^-bits."""
        return shifted(sums, bits - self.shift - self.input_bits)

    def act(self, x: Int64) -> Int64:
        """[N, h, w, in] to activations [N, h, w, out]: LeakyReLU of slope 2^-3, rounding, clamp."""
        sums = self.sums(x)
        by = 4 - self.shift - self.input_bits
        return np.clip(shifted(sums, np.where(sums < 0, by - 3, by)), -127, 127)


def residual(a: Layer, b: Layer, x: Int64) -> Int64:
    """The residual block x + b(act(a(x))), which is rounded once, after the sum."""
    down = np.maximum(-b.shift, 0)  # a step of the weights may be coarser than one of the activations
    total = (x << np.maximum(b.shift, 0)) + (b.sums(a.act(x)) << down)
    return np.clip(shifted(total, -np.maximum(b.shift, 0)), -127, 127)


def shuffled(x: Int64, r: int) -> Int64:
    """Pixel shuffle: [N, h, w, C * r * r] to [N, h * r, w * r, C]."""
    n, height, width, channels = x.shape
    cells = x.reshape(n, height, width, channels // r**2, r, r).transpose(0, 1, 4, 2, 5, 3)
    return cells.reshape(n, height * r, width * r, channels // r**2)


def features(latents: Int64) -> Int64:
    """Latents as networks see them: a quarter, in units of 2^-4."""
    return np.clip(shifted(latents, -2), -511, 511)


@cache
def log_steps() -> Int64:
    """round(8 log2 D) for D = 0..1023, and 0 for D = 0."""
    table = [0]
    for step in range(1, 1024):
        table.append(next(i for i in range(table[-1], 90) if step**16 < 1 << (2 * i + 1)))
    return np.array(table, np.int64)


@cache
def gaussian_bank() -> list[list[int]]:
    """The frequencies of the 81 Gaussian tables."""
    one, infinity, rows = 1 << 96, 70214130874287938027713472774, []
    for i in range(N_SCALES):
        octaves, part = divmod(24 - i, 8)
        inverse = isqrt(isqrt(isqrt(1 << (8 * 96 + part))))
        inverse = inverse << octaves if octaves >= 0 else inverse >> -octaves
        u = inverse * isqrt(1 << 191) >> 96
        reach = min(255, -(-((9 << 192) // (2 * inverse)) // one) + 1)
        areas = [_area((2 * k + 1) * u >> 1, infinity) for k in range(reach + 1)]
        counts = [2 * areas[0] >> 56]
        for k in range(1, reach + 1):
            counts += [max(0, areas[k] - areas[k - 1]) >> 56] * 2
        counts.append(max(0, infinity - areas[reach]) * 2 >> 56)
        rows.append(quantise_counts(np.array([counts], np.int64))[0].tolist())
    return rows


def _area(x: int, infinity: int) -> int:
    """The integral of exp(-t^2) from 0 to x, with 96 fractional bits."""
    if x > 7 << 96:
        return infinity
    square = x * x >> 96
    total, power, n = 0, x, 0
    while power:
        total += (-1) ** n * (power // (2 * n + 1))
        n += 1
        power = (power * square >> 96) // n
    return total


class _Model:
    """A model file, checked: `arch`, `steps` [anchors, M], `offset`, `layers` by name and the cumulative `tables`."""

    def __init__(self, blob: bytes) -> None:
        self._tensors, document = model_file.parse(blob, unpacked)
        config = document.get("config")
        if document.get("codec") != "hyperprior-1" or not isinstance(config, dict):
            raise ModelError(f"a model for codec {document.get('codec')!r}, expected hyperprior-1 and its config")
        if set(config) != {*FIELDS, "slices"}:
            raise ModelError(f"the model's architecture has {sorted(config)}, expected {[*FIELDS, 'slices']}")
        for name, (low, high) in FIELDS.items():
            if type(config[name]) is not int or not low <= config[name] <= high:
                raise ModelError(f"the model's {name!r} is {config[name]!r}, expected a number from {low} to {high}")
        slices = config["slices"]
        if not isinstance(slices, list) or not all(type(n) is int and n >= 1 for n in slices):
            raise ModelError(f"the model's 'slices' are {slices!r}, expected positive numbers")
        if not 1 <= len(slices) <= 16 or sum(slices) > 1024 or config["stride"] not in (8, 16):
            raise ModelError(f"the model's slices {slices} or stride {config['stride']} are out of range")
        self.arch: dict[str, int] = {name: config[name] for name in FIELDS}
        self.slices: list[int] = slices
        self.latent = sum(slices)
        self.steps = self._integers("steps", np.uint16, (self.arch["anchors"], self.latent), 1, 1023)
        self.offset = int(self._integers("offset", np.int16, (1,), 0, 255)[0])
        self.layers = {name: self._layer(name, *shape) for name, *shape in self._shapes()}
        rows = self._tables("hyper", self.arch["hyper"], 256)
        has_own = "scales.sizes" in self._tensors or "scales.freqs" in self._tensors
        rows += self._tables("scales", N_SCALES, 4096) if has_own else gaussian_bank()
        if len(rows) * (max(map(len, rows)) + 1) > 1 << 22:
            raise ModelError("the model's tables have more than 2^22 entries")
        self.tables = [list(accumulate(row, initial=0)) for row in rows]
        probe = self._tensors.get("probe")
        if probe is None or probe.dtype != np.uint64 or probe.shape != (1,) or int(probe[0]) != probed(self):
            raise ModelError("the model's 'probe' is missing or not the hash of what its networks give: it is damaged")

    def _integers(self, name: str, dtype: Any, shape: tuple[int, ...], low: int, high: int) -> Int64:
        tensor = self._tensors.get(name)
        if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
            raise ModelError(f"the model's tensor {name!r} is missing, or not {np.dtype(dtype)} {list(shape)}")
        numbers: Int64 = tensor.astype(np.int64)
        if numbers.min() < low or numbers.max() > high:
            raise ModelError(f"the model's tensor {name!r} lies in {numbers.min()}..{numbers.max()}, expected {low}..{high}")
        return numbers

    def _shapes(self) -> Iterator[tuple[str, int, int, int, int, int]]:
        """Name, outputs, inputs, side of the kernel, largest input and its fractional bits of each layer."""
        a = self.arch
        width, fine, hyper, context = a["width"], a["fine_width"], a["hyper_width"], a["context_width"]
        yield "hyper_in", 128, a["hyper"], 1, 63, 0
        yield "hyper_mid", 4 * hyper, 32, 1, 127, 4
        yield "hyper_out", hyper, hyper, 3, 127, 4
        for i, n in enumerate(self.slices):
            if i:
                yield f"slices.{i}.before", context, sum(self.slices[:i]), 3, 511, 4
            yield f"slices.{i}.here", context, n, 3, 511, 4
            yield f"slices.{i}.mix", 2 * context, hyper + 1 + context * (2 if i else 1), 1, 127, 4
            yield f"slices.{i}.hidden", context, 2 * context, 1, 127, 4
            yield f"slices.{i}.out", 2 * n, context, 1, 127, 4
        yield "linear", a["channels"] * a["stride"] ** 2, self.latent, 1, 4095, 0
        if width:
            yield "first", width, self.latent + 1, 3, 511, 4
            blocks = [f"coarse.{i}" for i in range(a["blocks"])]
            yield from ((f"{name}.{part}", width, width, 3, 127, 4) for name in blocks for part in "ab")
            yield "up", fine * (a["stride"] // 4) ** 2, width, 1, 127, 4
            blocks = [f"fine.{i}" for i in range(a["fine_blocks"])]
            yield from ((f"{name}.{part}", fine, fine, 3, 127, 4) for name in blocks for part in "ab")
            yield "last", a["channels"] * 16, fine, 3, 127, 4

    def _layer(self, name: str, n_out: int, n_in: int, side: int, max_input: int, input_bits: int) -> Layer:
        weight = self._integers(f"decoder.{name}.weight", np.int8, (n_out, n_in, side, side), -127, 127)
        shift = self._integers(f"decoder.{name}.shift", np.int8, (n_out,), -4, 14)
        bias = self._integers(f"decoder.{name}.bias", np.int32, (n_out,), -(1 << 31), (1 << 31) - 1)
        largest = np.abs(weight).sum((1, 2, 3)) * max_input + np.abs(bias)
        if name.endswith(".b"):
            largest += 127 << np.maximum(shift, 0)
        if largest.max() >= 1 << 24:
            raise ModelError(f"the model's layer {name!r} could reach {largest.max()}, expected less than 2^24")
        return Layer(weight, shift, bias, input_bits)

    def _tables(self, name: str, n: int, max_symbols: int) -> list[list[int]]:
        sizes = self._integers(f"{name}.sizes", np.uint16, (n,), 2, max_symbols)
        freqs = self._integers(f"{name}.freqs", np.uint16, (int(sizes.sum()),), 1, 65535)
        rows = np.split(freqs, np.cumsum(sizes)[:-1])
        if any(int(row.sum()) != 1 << 16 for row in rows):
            raise ModelError(f"a table of the model's {name!r} does not sum to 2^16")
        return [row.tolist() for row in rows]


class _Stream:
    """rANS words and escape bytes, read in order; at least two integers."""

    def __init__(self, words: bytes, escapes: bytes, tables: list[list[int]]) -> None:
        if len(words) % 2 or len(words) < 8:
            raise PayloadError(f"hyperprior-1: {len(words)} bytes of words, expected an even number of at least 8")
        self._words = iter(np.frombuffer(words, "<u2").tolist())
        self._escapes = iter(escapes)
        self._tables = tables
        self._states = [next(self._words) + (next(self._words) << 16) for _ in range(2)]
        if min(self._states) < 1 << 16:
            raise PayloadError("hyperprior-1: a first state is too small")

    def take(self, index: Int64) -> Int64:
        """The next integers, int64 of the shape of `index`, which names the table of each."""
        flat, values = index.ravel(), np.empty(index.size, np.int64)
        try:
            for at in range(0, len(flat), 1 << 16):  # Python's integers take much memory
                values[at : at + (1 << 16)] = [self._next(self._tables[i]) for i in flat[at : at + (1 << 16)].tolist()]
        except StopIteration:
            raise PayloadError("hyperprior-1: the words or the escapes end early") from None
        return values.reshape(index.shape)

    def _next(self, cdf: list[int]) -> int:
        x, other = self._states
        slot = x & 0xFFFF
        z = bisect_right(cdf, slot) - 1
        x = (cdf[z + 1] - cdf[z]) * (x >> 16) + slot - cdf[z]
        if x < 1 << 16:
            x = x << 16 | next(self._words)
        self._states = [other, x]  # in turn
        if z == len(cdf) - 2:
            rest, _ = leb128(self._escapes)
            z += rest
            if z > (1 << 32) - 2:
                raise PayloadError("hyperprior-1: an escape is too large")
        return (z + 1) // 2 if z % 2 else -(z // 2)

    def finish(self) -> None:
        """Check that all ends here."""
        if self._states != [1 << 16] * 2 or next(self._words, None) is not None or next(self._escapes, None) is not None:
            raise PayloadError("hyperprior-1: a last state is wrong, or words or escapes are left over")


def leb128(data: Iterator[int]) -> tuple[int, int]:
    """A number of at most 5 bytes, and how many they were; StopIteration where they end early."""
    n = 0
    for at in range(5):
        byte = next(data)
        n |= (byte & 127) << 7 * at
        if byte < 128:
            return n, at + 1
    raise PayloadError("hyperprior-1: a number of more than 5 bytes")


def unpacked(words: bytes, escapes: bytes, index: Int64) -> Int64:
    """The packed weights of a model, int64 [n], by the Gaussian table of each."""
    stream = _Stream(words, escapes, [list(accumulate(row, initial=0)) for row in gaussian_bank()])
    weights = stream.take(index)
    stream.finish()
    return weights


def _conditions(model: _Model, qualities: Int64) -> tuple[Int64, Int64]:
    """Quantiser steps [N, M] and the value of the quality plane, an activation [N], at qualities 1..100 [N]."""
    last = model.arch["anchors"] - 1
    place = (qualities - 1) * last
    low = np.minimum(place // 99, last - 1)
    part = (place - 99 * low)[:, None]
    mixed = model.steps[low] * (99 - part) + model.steps[low + 1] * part
    steps = (2 * mixed + 99) // 198
    total = log_steps()[steps].sum(1)
    return steps, 2 * ((2 * total + model.latent) // (2 * model.latent)) - 64


def _latents(model: _Model, code: Code, z: Int64, steps: Int64, plane: Int64) -> Int64:
    """Latents [N, h, w, M] from hyper-latents [N, h', w', Z], steps [N, M] and quality planes [N, h, w, 1]."""
    n, height, width, _ = plane.shape
    layers = model.layers
    x = layers["hyper_in"].act(z)
    x = layers["hyper_mid"].act(shuffled(x, 2))
    x = layers["hyper_out"].act(shuffled(x, 2))[:, :height, :width]
    odd = (np.arange(height)[:, None] + np.arange(width)) % 2
    latents = np.zeros((n, height, width, model.latent), np.int64)
    start = 0
    for i, channels in enumerate(model.slices):
        here = slice(start, start + channels)
        shared = [x, plane]
        if i:
            shared.append(layers[f"slices.{i}.before"].act(features(latents[..., :start])))
        own = np.zeros((n, height, width, model.arch["context_width"]), np.int64)
        for parity in (0, 1):
            at = odd == parity  # [h, w]
            if parity:
                own = layers[f"slices.{i}.here"].act(features(latents[..., here]))
            t = np.concatenate([*shared, own], -1)[:, at][:, None]  # [N, 1, positions, K]
            t = layers[f"slices.{i}.hidden"].act(layers[f"slices.{i}.mix"].act(t))
            out = layers[f"slices.{i}.out"]
            sums = out.sums(t)[:, 0]
            grid = np.repeat([6, 3], channels) - out.shift - out.input_bits
            mean, scale = np.split(shifted(sums, grid), 2, -1)  # [N, positions, channels] each
            mean, scale = np.clip(mean, -4095, 4095), np.clip(scale + 24, -96, 96)
            d = steps[:, None, here]
            k = code(mean, np.clip(scale - log_steps()[d] + 24, 0, N_SCALES - 1))
            latents[:, at, here] = np.clip(mean + k * d, -4095, 4095)
        start += channels
    return latents


def _synthesis(model: _Model, latents: Int64, plane: Int64) -> npt.NDArray[np.uint8]:
    """Pixels uint8 [N, h * stride, w * stride, C] of latents [N, h, w, M] and quality planes [N, h, w, 1]."""
    layers, stride = model.layers, model.arch["stride"]
    linear = layers["linear"]
    total = np.clip(linear.scaled(linear.sums(latents), 6), -(1 << 17), 1 << 17)
    total = shuffled(total, stride)
    if model.arch["width"]:
        x = layers["first"].act(np.concatenate([features(latents), plane], -1))
        for i in range(model.arch["blocks"]):
            x = residual(layers[f"coarse.{i}.a"], layers[f"coarse.{i}.b"], x)
        x = shuffled(layers["up"].act(x), stride // 4)
        for i in range(model.arch["fine_blocks"]):
            x = residual(layers[f"fine.{i}.a"], layers[f"fine.{i}.b"], x)
        last = layers["last"]
        x = np.clip(last.scaled(last.sums(x), 4 + 6), -(1 << 17), 1 << 17)  # times 2^4, on the grid of 2^-6
        total = total + shuffled(x, 4)
    return np.clip(shifted(total + (model.offset << 6), -6), 0, 255).astype(np.uint8)


GRAIN_SIZES = (
    *(24, 56, 61, 66, 71, 76, 81, 85, 90, 94, 98, 101, 105, 108, 110, 113, 115, 117, 118, 119),
    *(120, 121, 122, 123, 123, 124, 124, 125, 125, 126, 126, 126, 126, 126, 127, 127, 127, 127, 127, 127),
    *[128] * 41,
)


def mixed(x: int) -> int:
    """32 bits to 32 others."""
    x = (x ^ x >> 16) * 0x7FEB352D % 2**32
    x = (x ^ x >> 15) * 0x846CA68B % 2**32
    return x ^ x >> 16


def _grain(
    model: _Model, coded: list[tuple[Int64, Int64]], z: Int64, steps: Int64, first: int, shape: tuple[int, int], percent: int
) -> Int64:
    """The noise of planes, int64 [n, h, w, M].

    Args:
        model: the model.
        coded: integers and tables 0..80 of each pass, [n, positions, channels] each.
        z: hyper-latents [n, h', w', Z].
        steps: of the planes, [n, M].
        first: the place of the first plane in its group.
        shape: h and w.
        percent: of noise, 1 to 100.
    """
    found = np.zeros((len(z), *shape, model.latent), np.int64)
    passes = [(start, parity) for start in accumulate([0, *model.slices[:-1]]) for parity in (0, 1)]
    places = [[(r, c) for r in range(shape[0]) for c in range(shape[1]) if (r + c) % 2 == parity] for parity in (0, 1)]
    for i in range(len(z)):
        seed = mixed(first + i)
        for value in z[i].reshape(-1).tolist():
            seed = mixed((seed + value + 0x9E3779B9) % 2**32)
        for (start, parity), (k, index) in zip(passes, coded, strict=True):
            for at, (row, column) in enumerate(places[parity]):
                for c in range(k.shape[2]):
                    if k[i, at, c] == 0:
                        channel = start + c
                        number = (row * shape[1] + column) * model.latent + channel
                        draw = (mixed((seed + number) % 2**32) >> 18) - 8192
                        largest = percent * int(steps[i, channel]) * GRAIN_SIZES[index[i, at, c]] // 100
                        found[i, row, column, channel] = largest * (2 * draw + 1) + (1 << 21) >> 22
    return found


def _read(model: _Model, payload: bytes, n: int, height: int, width: int, grain: int = 0) -> tuple[Int64, Int64]:
    """Latents [n, height, width, M] and quality planes [n, height, width, 1] of a payload of n planes."""
    data = iter(payload)
    try:
        number, _ = leb128(data)
        base = next(data)
        several = base == 0
        base, spread = next(data) if several else base, next(data)
        if several and not 0 < number < n:
            raise PayloadError(f"hyperprior-1 payload: streams of {number} planes each, and {n} in all")
        each = number if several else n
        sizes = [(leb128(data)[0], leb128(data)[0]) for _ in range(0, n, each)] if several else []
    except StopIteration:
        raise PayloadError(f"hyperprior-1 payload: {len(payload)} bytes, too few for its fields") from None
    if not 1 <= base <= 100 or spread >= N_SCALES:
        raise PayloadError(f"hyperprior-1 payload: quality {base} with spread {spread}")
    body = bytes(data)
    if not several:
        sizes = [(number, len(body) - number)]
    if sum(map(sum, sizes)) != len(body) or min(map(min, sizes)) < 0:
        raise PayloadError(f"hyperprior-1 payload: streams of {sum(map(sum, sizes))} bytes in {len(body)}")
    latents, planes, at = [], [], 0
    for first, (n_escapes, n_words) in zip(range(0, n, each), sizes, strict=True):
        middle, end = at + n_escapes, at + n_escapes + n_words
        stream = _Stream(body[middle:end], body[at:middle], model.tables)
        places = range(first, min(n, first + each))
        some = _read_stream(model, stream, base, spread, places, height, width, grain)
        latents.append(some[0])
        planes.append(some[1])
        at = end
    return np.concatenate(latents), np.concatenate(planes)


def _read_stream(
    model: _Model, stream: _Stream, base: int, spread: int, places: range, height: int, width: int, grain: int
) -> tuple[Int64, Int64]:
    """The same of one stream, whose planes have these places."""
    hyper, n = model.arch["hyper"], len(places)
    qualities = np.full(n, base, np.int64)
    if spread:
        qualities += stream.take(np.full(n, hyper + spread))
    if ((qualities < 1) | (qualities > 100)).any():
        raise PayloadError("hyperprior-1 payload: a quality outside 1..100")
    z = stream.take(np.tile(np.arange(hyper), (n, -(-height // 4), -(-width // 4), 1)))
    if (np.abs(z) > 63).any():
        raise PayloadError("hyperprior-1 payload: a hyper-latent out of range")
    steps, level = _conditions(model, qualities)
    plane = np.broadcast_to(level[:, None, None, None], (n, height, width, 1))
    coded: list[tuple[Int64, Int64]] = []

    def code(_: Int64, index: Int64) -> Int64:
        coded.append((stream.take(hyper + index), index))
        return coded[-1][0]

    latents = _latents(model, code, z, steps, plane)
    stream.finish()
    if grain:
        noise = _grain(model, coded, z, steps, places[0], (height, width), grain)
        latents = np.clip(latents + noise, -4095, 4095)
    return latents, plane


def probed(model: _Model) -> int:
    """The hash of what the networks give for made-up integers."""
    digest, seed = xxhash.xxh3_64(), 1000

    def numbers(seed: int, reach: int, n: int, channels: int, positions: int) -> Int64:
        """Integers [n, positions, channels] in -reach..reach; they are made in the order image, channel, position."""
        found = [(i * 2654435761 % 2**32 >> 16) % (2 * reach + 1) - reach for i in range(seed, seed + n * channels * positions)]
        return np.array(found, np.int64).reshape(n, channels, positions).transpose(0, 2, 1)

    def code(mean: Int64, index: Int64) -> Int64:
        nonlocal seed
        seed += mean.size
        for array in (mean, index):
            digest.update(array.transpose(0, 2, 1).astype("<i4").tobytes())
        n, positions, channels = mean.shape
        return numbers(seed, 3, n, channels, positions)

    hyper = model.arch["hyper"]
    steps, level = _conditions(model, np.array([1, 60]))
    plane = np.broadcast_to(level[:, None, None, None], (2, 5, 5, 1))
    latents = _latents(model, code, numbers(1, 7, 2, hyper, 4).reshape(2, 2, 2, hyper), steps, plane)
    digest.update(latents.transpose(0, 3, 1, 2).astype("<i4").tobytes())
    digest.update(_synthesis(model, latents, plane).transpose(0, 3, 1, 2).tobytes())
    return int(digest.intdigest())


class ReferenceHyperprior(Codec):
    """Decodes what `hyperprior-1` has encoded, and encodes nothing.

    Args:
        model: the bytes of a model file.
        grain: percent of noise, 0 to 100.

    Raises:
        ModelError: it is not a sound model of this codec.
    """

    codec_id = "hyperprior-1"
    channels = (1, 2, 3, 4)
    needs_model = True

    def __init__(self, *, model: bytes, grain: int = 0) -> None:
        self._blob, self._model, self._grain = model, _Model(model), grain

    def check(self, spec: ImageSpec) -> None:
        """Refuse images of other channels than the model is for, unless it is a model for one channel."""
        super().check(spec)
        if self._model.arch["channels"] not in (1, spec.channels):
            what = f"this model is for {self._model.arch['channels']} channels and cannot hold {spec}"
            raise UnsupportedImageError(what, codec=self.codec_id, spec=str(spec))

    def get_config(self) -> dict[str, JSON]:
        """The grain, if there is any: all else is in the model and in the payloads."""
        return {"grain": self._grain} if self._grain else {}

    def get_model(self) -> bytes:
        """The model as it was given."""
        return self._blob

    @classmethod
    def restore(cls, config: dict[str, JSON], model: bytes) -> Self:
        """The decoder from what an archive stores."""
        grain = config.get("grain")
        if set(config) - {"grain"} or (config and not (type(grain) is int and 1 <= grain <= 100)):
            raise ModelError(f"the codec's config is {config}, expected nothing, or 'grain' with a number from 1 to 100")
        return cls(model=model, grain=grain if type(grain) is int else 0)

    def encode(self, images: Pixels) -> bytes:
        """Not here."""
        raise CodecError("the reference of hyperprior-1 can only decode")

    def decode(self, payload: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
        """A payload to uint8 [N, H, W, C]; the synthesis runs for the asked items only."""
        self.check(spec.image)
        channels, stride = self._model.arch["channels"], self._model.arch["stride"]
        per_image, picks = spec.image.channels // channels, range(spec.n_items) if items is None else items
        height, width = -(-spec.image.height // stride), -(-spec.image.width // stride)
        latents, plane = _read(self._model, payload, spec.n_items * per_image, height, width, self._grain)
        rows = [i * per_image + c for i in picks for c in range(per_image)]
        pixels = _synthesis(self._model, latents[rows], plane[rows])[:, : spec.image.height, : spec.image.width]
        grouped = pixels.reshape(len(picks), per_image, *pixels.shape[1:3], channels).transpose(0, 2, 3, 1, 4)
        return np.ascontiguousarray(grouped.reshape(len(picks), *spec.image.shape))


def decode_payload(payload: bytes, model: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
    """Decode one payload.

    Args:
        payload: what `hyperprior-1` wrote.
        model: the bytes of the model file that it was written with; the encoder's tensors may be missing.
        spec: of the group.
        items: places in the group, 0..n_items - 1; None is all.

    Returns:
        uint8 [N, H, W, C], or [len(items), H, W, C].

    Raises:
        ModelError: the model is damaged, or not of this codec.
        PayloadError: the payload is damaged, or not of this spec.
        UnsupportedImageError: the model is not for images of this spec.
    """
    return ReferenceHyperprior(model=model).decode(payload, spec, items)
