"""What is laid out for speed computes what it is laid out from, number for number."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from batchcodec.errors import InexactMachineError, OptionError
from batchcodec.learned import convolution, kernels, products
from batchcodec.learned.convolution import Convolution, pixel_shuffled, shuffled
from batchcodec.learned.exact import ACT_LIMIT, ExactConv2d, activation, numerics, on_grid
from batchcodec.learned.hyperprior import codec, coding, model, probe, quantising
from batchcodec.learned.hyperprior import engine as engine_module
from batchcodec.learned.hyperprior.codec import inference
from batchcodec.learned.hyperprior.engine import Engine
from batchcodec.learned.hyperprior.kernels import quantise
from batchcodec.learned.hyperprior.layer_engine import LayerEngine
from tests.learned.test_exact import extreme_inputs, frozen, random_layer
from tests.learned.test_reference import ARCHITECTURES, perturbed, wild

WAYS = [
    pytest.param(True, marks=pytest.mark.skipif(not products.BYTES, reason="no instruction for bytes"), id="bytes"),
    pytest.param(False, id="words"),
]


def gathered(layer: Convolution, x: NDArray[np.int16], *, wide: bool) -> NDArray[np.float32]:
    """All sums with scale and bias, float32 [N, H, W, O]."""
    out = np.zeros((*x.shape[:3], layer.n_out), np.float32)
    layer.accumulate(out, x if wide else x.astype(np.int8))
    return out


@pytest.mark.parametrize("as_bytes", WAYS)
@pytest.mark.parametrize("seed", range(6))
def test_convolutions(seed: int, as_bytes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(40):
        monkeypatch.setattr(convolution, "TILE_BYTES", int(rng.choice([1, 500, 5000, 1 << 19])))
        layer = frozen(random_layer(rng))
        fast = Convolution.of(layer, 4.0, as_bytes=as_bytes)
        assert layer.frozen_shift is not None
        steps = torch.exp2(layer.frozen_shift.double())[:, None, None, None]
        integers = (layer.weight.detach().double() * steps).numpy()
        for x in extreme_inputs(rng, integers.astype(np.int64), layer.max_input):
            with numerics(), torch.no_grad():
                sums = layer(torch.from_numpy(x * 2.0**-layer.input_bits).float())
            expected = 4 * sums.permute(0, 2, 3, 1).numpy()
            given_ = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).astype(np.int16)
            if layer.max_input <= ACT_LIMIT:
                assert np.array_equal(gathered(fast, given_, wide=False), expected)
            if layer.max_input > ACT_LIMIT or not as_bytes:
                assert np.array_equal(gathered(fast, given_, wide=True), expected)


@pytest.mark.skipif(not products.BYTES, reason="no instruction for bytes")
def test_a_layer_of_bytes_takes_no_words() -> None:
    layer = Convolution(np.ones((8, 3, 1, 1), np.int8), np.ones(8), np.zeros(8), as_bytes=True)
    for kind in (np.int16, np.uint8):
        with pytest.raises(TypeError):
            layer.activations(np.zeros((1, 2, 2, 3), kind))


def test_parts_of_a_layer() -> None:
    rng = np.random.default_rng(0)
    layer = frozen(ExactConv2d(10, 8, 3))
    x = rng.integers(-127, 128, (2, 5, 6, 10)).astype(np.int16)
    whole = gathered(Convolution.of(layer, as_bytes=False), x, wide=False)
    order = rng.permutation(8)
    assert np.array_equal(gathered(Convolution.of(layer, order=order, as_bytes=False), x, wide=False), whole[..., order])
    x[..., 4:] = 0
    expected = gathered(Convolution.of(layer, as_bytes=False), x, wide=False)
    some = np.ascontiguousarray(x[..., :4])
    assert np.array_equal(gathered(Convolution.of(layer, inputs=slice(4), as_bytes=False), some, wide=False), expected)


def test_pixel_shuffle() -> None:
    x = torch.arange(2 * 3 * 5 * 32).reshape(2, 32, 3, 5)
    for factor in (1, 2, 4):
        order = pixel_shuffled(32, factor)
        found = shuffled(x.permute(0, 2, 3, 1).numpy()[..., order], factor)
        expected = torch.nn.functional.pixel_shuffle(x, factor).permute(0, 2, 3, 1).numpy()
        assert np.array_equal(found, expected)


@given(st.integers(0, 2**32), st.integers(-14, 2), st.integers(1, 3000))
def test_loops_after_a_product(seed: int, bits: int, n: int) -> None:
    """With sums up to 2^24, halves among them, and scales and biases that differ between channels."""
    rng = np.random.default_rng(seed)
    reach = int(rng.choice([300, 1 << 14, (1 << 23) - 1]))
    channels = int(rng.integers(1, 60))
    sums = rng.integers(-reach, reach + 1, n * channels).astype(np.int32)
    unit = 2.0**bits
    scale = np.full(channels, unit, np.float32)
    bias = (rng.integers(-reach, reach + 1, channels) * unit).astype(np.float32)
    grid = torch.from_numpy(sums.reshape(n, channels).astype(np.float32) * scale + bias) / 16  # in units of the networks
    flat = np.empty(n * channels, np.int8)
    many = [np.tile(part, 7) for part in (scale, bias)]
    kernels.activate(sums, *many, flat)
    assert np.array_equal(flat.reshape(n, channels), 16 * activation(grid).numpy())
    x = rng.integers(-127, 128, n * channels).astype(np.int8)
    before = torch.from_numpy(x.reshape(n, channels).astype(np.float32)) / 16
    kernels.add(sums, *many, x)
    if reach < 1 << 23:  # the bound of a block's second layer leaves room for what it adds to
        assert np.array_equal(x.reshape(n, channels), 16 * on_grid(before + grid).numpy())
    for kind in (np.int16, np.uint8):
        inputs = np.empty(n * channels, kind)
        kernels.activate(sums, *many, inputs)
        assert np.array_equal(inputs, flat.astype(np.int16) + products.zero_of(inputs))
    total = rng.standard_normal(n * channels).astype(np.float32)
    expected = total.reshape(n, channels) + 16 * grid.numpy()
    kernels.accumulate(sums, *many, total)
    assert np.array_equal(total.reshape(n, channels), expected)


@pytest.mark.parametrize("as_bytes", WAYS)
@pytest.mark.parametrize("kind", [perturbed, wild])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_walk_and_pixels(name: str, kind: object, as_bytes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = model.LoadedModel(kind(name))  # type: ignore[operator]
    decoder, arch = loaded.decoder, loaded.arch
    engine = Engine(decoder, as_bytes=as_bytes)
    rng = np.random.default_rng(3)
    for n, height, width in ((1, 1, 1), (3, 1, 5), (2, 7, 6), (5, 4, 4), (3, 9, 8), (1, 17, 14)):  # the last are several blocks
        z = rng.integers(-63, 64, (n, -(-height // 4), -(-width // 4), arch.hyper))
        asked: list[tuple[NDArray[np.int16], NDArray[np.uint16], NDArray[np.int32]]] = []

        def code(
            _: int, at: NDArray[np.int64], mean: NDArray[np.int16], index: NDArray[np.uint16], asked: list = asked
        ) -> NDArray[np.int32]:
            k = rng.integers(-5, 6, mean.shape).astype(np.int32) * int(rng.choice([1, 1, 1 << 20]))
            asked.append((mean.copy(), index.copy(), k))
            return k

        def replay(i: int, at: Tensor, mean: Tensor, steps: Tensor, index: Tensor, asked: list = asked) -> Tensor:
            means, tables, k = asked.pop(0)
            assert np.array_equal(mean.squeeze(2).permute(0, 2, 1).numpy(), means)
            assert np.array_equal(index.squeeze(2).permute(0, 2, 1).numpy() + arch.hyper, tables)
            return torch.from_numpy(k.clip(-(1 << 13), 1 << 13)).float().permute(0, 2, 1).unsqueeze(2)

        with inference():
            conditions = coding.Conditions.of(decoder, rng.integers(1, 101, n).astype(np.uint8))
            latents = engine.walk(z, conditions, height, width, code)
            plain = coding.walk(decoder, torch.from_numpy(z).permute(0, 3, 1, 2).float(), conditions, height, width, replay)
            assert not asked
            assert np.array_equal(latents, plain.permute(0, 2, 3, 1).numpy())
            out = np.empty((n, height * arch.stride, width * arch.stride, arch.channels), np.uint8)
            engine.pixels(latents, conditions.arrays[2], out)
            expected = decoder.pixels(plain, conditions.plane.expand(-1, 1, height, width)).permute(0, 2, 3, 1).numpy()
            assert np.array_equal(out, expected)
            first, last = sorted(rng.choice(height + 1, 2, replace=False))
            for tile_bytes in (1, 20_000):  # a line at once, and some
                monkeypatch.setattr(engine_module, "TILE_BYTES", tile_bytes)
                some = np.empty((n, (last - first) * arch.stride, *out.shape[2:]), np.uint8)
                engine.pixels(latents, conditions.arrays[2], some, first)
                assert np.array_equal(some, expected[:, first * arch.stride : last * arch.stride])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_what_runs_on_devices(name: str) -> None:
    """On this one: the same arrays in and out."""
    loaded = model.LoadedModel(wild(name))
    engine, layers = loaded.engine, LayerEngine(loaded.decoder, "cpu")
    assert probe.run_engine(layers, loaded.decoder) == probe.run_engine(engine, loaded.decoder)
    rng = np.random.default_rng(0)
    z = rng.integers(-63, 64, (3, 2, 2, loaded.arch.hyper))

    def code(_: int, at: NDArray[np.int64], mean: NDArray[np.int16], index: NDArray[np.uint16]) -> NDArray[np.int32]:
        assert (mean.dtype, index.dtype, at.dtype) == (np.int16, np.uint16, np.int64)
        return np.resize(np.array([0, 1 << 20, -3, 2], np.int32), mean.shape)

    with inference():
        conditions = coding.Conditions.of(loaded.decoder, np.array([1, 50, 100], np.uint8))
        found = [way.walk(z, conditions, 6, 5, code) for way in (engine, layers)]
        assert found[0].dtype == found[1].dtype == np.int16
        assert np.array_equal(*found)
        pixels = [codec.synthesised(_with(loaded, way), found[0][[2, 0]], conditions[[2, 0]]) for way in (engine, layers)]
        assert np.array_equal(*pixels)
        some = np.empty((3, 2 * loaded.arch.stride, *pixels[0].shape[2:]), np.uint8)
        layers.pixels(found[0], conditions.arrays[2], some, 3)
    assert np.array_equal(some[[2, 0]], pixels[0][:, 3 * loaded.arch.stride : 5 * loaded.arch.stride])


def _with(loaded: model.LoadedModel, engine: Engine | LayerEngine) -> model.LoadedModel:
    other = copy.copy(loaded)
    other.__dict__["engine"] = engine
    return other


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    coder = codec.HyperpriorCodec(model=perturbed("rgb"))
    coder.use_device("auto")
    coder.use_device("cpu")
    with pytest.raises(OptionError, match="device"):
        coder.use_device("cuda")


@given(st.integers(0, 2**32), st.floats(0.3, 300), st.sampled_from([None, 1e-6, 1e-3, 1.0]))
def test_the_quantiser_is_that_for_tensors(seed: int, spread: float, worth: float | None) -> None:
    rng = np.random.default_rng(seed)
    n, positions, channels, n_hyper = 2, 3, 5, 4
    bits = rng.uniform(0, 20, (81, 9)).astype(np.float32).cumsum(1)
    y = (rng.normal(size=(n, 8, 7)) * spread).astype(np.float32)
    mean = rng.integers(-40, 41, (n, positions, channels)).astype(np.int16)
    steps = rng.integers(1, 200, (n, channels)).astype(np.int16)
    index = rng.integers(n_hyper, n_hyper + 81, (n, positions, channels)).astype(np.uint16)
    at = np.sort(rng.choice(8, positions, replace=False)).astype(np.int64)
    k = np.empty(mean.shape, np.int32)
    price = np.full(n, 0 if worth is None else quantising.CAUTION * worth, np.float32)
    quantise(y, 1, at, mean, steps, index, n_hyper, bits if worth else bits[:0, :0], price, k)
    exact = torch.from_numpy((y[:, at, 1:6] - mean) / steps[:, None].astype(np.float32))
    if worth is None:
        expected = torch.round(exact)
    else:
        worths = torch.from_numpy(worth * steps[:, None].astype(np.float32) ** 2)
        tables = torch.from_numpy(index.astype(int) - n_hyper)
        expected = quantising.optimised(exact, tables, torch.from_numpy(bits), worths)
    assert (np.abs(k - expected.numpy()) <= 1).all()
    assert (k != expected.numpy()).mean() < 0.1  # ties of costs, of which the last bit decides


# ---- machines that multiply in another way

INSIDE = """
import sys
from pathlib import Path
from batchcodec.learned import products
from batchcodec.learned.hyperprior.model import LoadedModel
assert LoadedModel(Path(sys.argv[1]).read_bytes()).engine
print(products.BYTES)
"""


@pytest.mark.parametrize("features", ["", "+avx2", "+avx512f,+avx512vl,+avx512bw"])
def test_without_the_instruction_for_bytes(features: str, tmp_path: Path) -> None:
    """Words take over, and the model passes its self-check."""
    path = tmp_path / "model"
    path.write_bytes(perturbed("rgb"))
    found = subprocess.run(
        [sys.executable, "-c", INSIDE, str(path)],
        env={**os.environ, "NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout.split()) == (0, ["False"]), found.stderr


def test_what_fails_the_self_check_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "run_engine", lambda engine, decoder: 1)
    with pytest.raises(InexactMachineError):
        _ = model.LoadedModel(perturbed("rgb")).engine
