"""The int64 reference of `hyperprior-1` and the float32 codec give the same pixels, whatever model, image and payload."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from batchcodec import reference
from batchcodec.entropy import gaussian
from batchcodec.errors import CodecError, InexactMachineError, ModelError, PayloadError, UnsupportedImageError
from batchcodec.learned import model_file
from batchcodec.learned.hyperprior import codec as hyperprior_codec
from batchcodec.learned.hyperprior import model, payloads, probe, quantising, tables
from batchcodec.learned.hyperprior.architecture import Architecture
from batchcodec.learned.hyperprior.codec import HyperpriorCodec, inference
from batchcodec.learned.hyperprior.coding import Conditions
from batchcodec.learned.hyperprior.training import Model
from batchcodec.reference import ReferenceHyperprior, decode_payload
from batchcodec.types import GroupSpec, ImageSpec, Pixels

SMALL = {"width": 8, "blocks": 1, "fine_width": 6, "fine_blocks": 1, "hyper": 4, "hyper_width": 6, "context_width": 5}
ARCHITECTURES = {
    "rgb": Architecture(channels=3, stride=8, slices=(3, 5, 8), anchors=9, **SMALL),
    "gray, stride 16": Architecture(channels=1, stride=16, slices=(20,), anchors=2, **SMALL),
    "gray, two blocks": Architecture(
        channels=1, stride=8, slices=(2, 6), anchors=5, **{**SMALL, "blocks": 2, "fine_blocks": 2}
    ),
    "LA, linear": Architecture(channels=2, stride=8, slices=(4, 4, 4), anchors=3, **{**SMALL, "width": 0}),
    "RGBA, stride 16": Architecture(channels=4, stride=16, slices=(9, 1, 7), anchors=4, **{**SMALL, "fine_blocks": 0}),
    "least": Architecture(1, 8, (1,), 1, 0, 1, 0, 1, 1, 1, 2),
}
SIZES = [(1, 1), (3, 50), (17, 30), (64, 64)]


def pictures(n: int, height: int, width: int, channels: int, seed: int = 0) -> Pixels:
    """Smooth waves under noise whose strength differs between images: uint8 [n, height, width, channels]."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width][:, None, :, :, None] / 20
    phase, angle = rng.uniform(0, 7, (2, n, 1, 1, channels))
    smooth = 128 + 100 * np.sin(y * np.cos(angle) + x * np.sin(angle) + phase)
    noise = rng.normal(size=smooth.shape) * 40 * np.linspace(0, 1, n)[:, None, None, None]
    return np.clip(np.rint(smooth + noise), 0, 255).astype(np.uint8)


@cache
def perturbed(name: str) -> bytes:
    """A model file: principal components and noise on all weights, so that each layer decides pixels."""
    arch, rng = ARCHITECTURES[name], np.random.default_rng(len(name))
    torch.manual_seed(len(name))
    net = Model(arch, width=8, blocks=0, fine_width=8)
    if arch.channels * arch.stride**2 <= 192:  # principal components of more take seconds
        net.start_linear(list(pictures(8, 40, 40, arch.channels)), 64.0, 1.0)
    else:
        basis = torch.linalg.qr(torch.randn(arch.channels * arch.stride**2, arch.latent))[0]
        with torch.no_grad():
            net.encoder.linear.weight.copy_(basis.T.reshape(net.encoder.linear.weight.shape))
            net.decoder.linear.weight.copy_(basis[:, :, None, None])
            net.decoder.offset.fill_(101.0)
    steps = np.geomspace(64, 1, arch.anchors)[:, None] * rng.uniform(0.5, 2, (1, arch.latent))
    net.decoder.log_steps.data = torch.from_numpy(np.log2(steps)).float()
    with torch.no_grad():
        for layer_name, layer in model.exact_layers(net.decoder):
            strength = 0.02 if layer_name == "linear" else layer.weight[0].numel() ** -0.5
            layer.weight.add_(torch.randn_like(layer.weight) * strength)
            layer.bias.add_(torch.randn_like(layer.bias) * 0.3)
    z = rng.normal(size=(200, arch.hyper)) * [1 + i % 5 for i in range(arch.hyper)]
    found = tables.hyper_tables(np.rint(z).astype(int))
    return model.dump(net.decoder, net.encoder, found)


def sealed(tensors: dict[str, Any], document: dict[str, Any]) -> bytes:
    """The model file of changed tensors, with the probe that fits them."""
    unchecked = model.LoadedModel(model_file.dump(tensors, document))
    return model_file.dump({**tensors, "probe": np.array([probe.run(unchecked.decoder)], np.uint64)}, document)


@cache
def wild(name: str, seed: int = 0) -> bytes:
    """`perturbed` with random integers in all layers of the decoder: shifts of all sizes, sums near their bound."""
    parsed, document = model_file.parse(perturbed(name))
    rng = np.random.default_rng(seed)
    changed = dict(parsed)
    for key, tensor in parsed.items():
        layer = key.removesuffix(".weight")
        if not key.startswith("decoder.") or layer == key:
            continue
        n = len(tensor)
        weight = np.rint(rng.normal(size=tensor.shape) * rng.choice([2, 20, 60], (n, 1, 1, 1))).clip(-127, 127)
        shift = rng.integers(-4, 15, n)
        max_input = 4095 if layer.endswith(".linear") else 511
        room = (1 << 24) - 1 - (127 << np.maximum(shift, 0)) - np.abs(weight).sum((1, 2, 3)) * max_input
        assert room.min() > 0
        bias = rng.integers(-1, 2, n) * np.minimum(rng.choice([5, 5000, 1 << 24], n), room)
        changed |= {f"{layer}.weight": weight.astype(np.int8), f"{layer}.shift": shift.astype(np.int8)}
        changed[f"{layer}.bias"] = bias.astype(np.int32)
    return sealed(changed, document)


def outcome(decode: Callable[[], Pixels]) -> Pixels | None:
    """Pixels, or None for a PayloadError; anything else goes on."""
    try:
        return decode()
    except PayloadError:
        return None


def same(blob: bytes, images: Pixels, *, quality: int = 50, items: list[int] | None = None) -> bytes:
    """Encode, decode twice, compare; returns the payload."""
    codec = HyperpriorCodec(model=blob, quality=quality, effort=1)
    payload, spec = codec.encode(images), GroupSpec.of(images)
    expected = codec.decode(payload, spec, items)
    found = decode_payload(payload, codec.get_model(), spec, items)
    assert found.dtype == np.uint8
    assert found.shape == expected.shape == (len(images) if items is None else len(items), *spec.image.shape)
    assert np.array_equal(found, expected)
    return payload


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "{}x{}".format(*size))
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_same_pixels(name: str, size: tuple[int, int]) -> None:
    images = pictures(3, *size, ARCHITECTURES[name].channels)
    for quality in (1, 37, 100):
        same(perturbed(name), images, quality=quality)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_wild_models(name: str, seed: int) -> None:
    images = pictures(2, 33, 47, ARCHITECTURES[name].channels, seed)
    for quality in (1, 64, 100):
        same(wild(name, seed), images, quality=quality)


def test_the_models_are_not_trivial() -> None:
    images = pictures(3, 64, 64, 3)
    codec = HyperpriorCodec(model=perturbed("rgb"), quality=80, effort=1)
    decoded = codec.decode(codec.encode(images), GroupSpec.of(images))
    assert decoded.std((0, 1, 2)).min() > 20
    parsed, document = model_file.parse(perturbed("rgb"))
    for key in [key for key in parsed if key.startswith("decoder.") and key.endswith(".weight")]:
        blob = sealed(parsed | {key: parsed[key] // 2}, document)
        other = HyperpriorCodec(model=blob, quality=80, effort=1)
        assert not np.array_equal(other.decode(other.encode(images), GroupSpec.of(images)), decoded), key


@pytest.mark.parametrize("name", ["gray, two blocks", "gray, stride 16"])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_planes_of_a_model_for_one_channel(name: str, channels: int) -> None:
    same(perturbed(name), pictures(2, 17, 30, channels), quality=70)
    same(perturbed(name), pictures(3, 17, 30, channels), quality=70, items=[2, 0, 2])


def test_items() -> None:
    for items in ([1], [3, 0], []):
        same(perturbed("rgb"), pictures(4, 20, 20, 3), items=items)


def test_tables_of_the_model() -> None:
    images, rng = pictures(3, 40, 40, 3), np.random.default_rng(0)
    index = rng.integers(0, 81, 50_000)
    found = tables.scale_tables(np.rint(rng.laplace(size=50_000) * 2 ** ((index - 24) / 8)).astype(int), index)
    parsed, document = model_file.parse(perturbed("rgb"))
    blob = model_file.dump({**parsed, **found}, document)
    for quality in (1, 50, 100):
        payload = same(blob, images, quality=quality)
        assert payload != HyperpriorCodec(model=perturbed("rgb"), quality=quality, effort=1).encode(images)


def coded(blob: bytes, images: Pixels, qualities: np.ndarray, each: int | None = None) -> bytes:
    """The payload of images of these qualities, in streams of so many."""
    loaded = model.LoadedModel(blob)
    with inference():
        conditions = Conditions.of(loaded.decoder, qualities)
        y = quantising.analysed(loaded, images)
        integers = quantising.quantised(loaded, conditions, y, quantising.hyper_analysed(loaded, y, conditions), None)
        return payloads.write(loaded, qualities, integers.z, integers.passes, each)


@pytest.mark.parametrize("n", [1, 2, 50])
def test_qualities_that_differ(n: int) -> None:
    blob, images = perturbed("rgb"), pictures(n, 13, 9, 3)
    qualities = np.random.default_rng(n).integers(1, 101, n).astype(np.uint8)
    payload = coded(blob, images, qualities)
    expected = HyperpriorCodec(model=blob).decode(payload, GroupSpec.of(images))
    assert np.array_equal(decode_payload(payload, blob, GroupSpec.of(images)), expected)
    _, at = reference.leb128(iter(payload))
    assert (payload[at + 1] > 0) == (n > 1)


@pytest.mark.parametrize(("n", "each"), [(2, 1), (5, 2), (6, 2), (9, 8)])
@pytest.mark.parametrize("differ", [False, True])
def test_streams(n: int, each: int, differ: bool) -> None:
    """Read alike where they are sound, and refused alike where they are damaged."""
    blob, images = perturbed("rgb"), pictures(n, 9, 12, 3)
    payload, expected = streams(n, each, differ)
    codec, reader, spec = HyperpriorCodec(model=blob), ReferenceHyperprior(model=blob), GroupSpec.of(images)
    assert np.array_equal(reader.decode(payload, spec), expected)
    assert np.array_equal(codec.decode(payload, spec), expected)
    for items in ([n - 1], [0, n - 1, 0]):
        assert np.array_equal(reader.decode(payload, spec, items), expected[items])
    rng = np.random.default_rng(n)
    damaged = [payload[:k] for k in range(0, len(payload), 7)] + [payload + b"\0"]
    for at in [*range(16), *rng.integers(0, len(payload), 30)]:
        flipped = bytearray(payload)
        flipped[at] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(flipped))
    for other in damaged:
        made, found = outcome(lambda p=other: codec.decode(p, spec)), outcome(lambda p=other: reader.decode(p, spec))
        assert (made is None) == (found is None)
        if made is not None and found is not None:
            assert np.array_equal(found, made)


def streams(n: int, each: int, differ: bool) -> tuple[bytes, Pixels]:
    """A payload of streams of so many images each, and the pixels of the same in one stream."""
    blob, images = perturbed("rgb"), pictures(n, 9, 12, 3)
    qualities = (np.random.default_rng(n).integers(1, 101, n) if differ else np.full(n, 60)).astype(np.uint8)
    payload, plain = (coded(blob, images, qualities, some) for some in (each, n))
    return payload, HyperpriorCodec(model=blob).decode(plain, GroupSpec.of(images))


def test_all_qualities() -> None:
    blob, reader = perturbed("rgb"), ReferenceHyperprior(model=perturbed("rgb"))
    loaded, every = model.LoadedModel(blob), np.arange(1, 101)
    with inference():
        conditions = Conditions.of(loaded.decoder, every.astype(np.uint8))
    steps, plane = reference._conditions(reader._model, every)
    assert np.array_equal(steps, conditions.steps[:, :, 0, 0].numpy())
    assert np.array_equal(plane, conditions.plane[:, 0, 0, 0].numpy() * 16)


def test_escapes() -> None:
    """Scales of the smallest table, and noise at the best quality: most integers are beyond their table."""
    parsed, document = model_file.parse(perturbed("rgb"))
    changed = dict(parsed)
    for i, channels in enumerate((3, 5, 8)):
        bias, shift = changed[f"decoder.slices.{i}.out.bias"].copy(), changed[f"decoder.slices.{i}.out.shift"].astype(int)
        bias[channels:] = (-8 << (4 + shift))[channels:]  # 8 units of 8 steps
        changed[f"decoder.slices.{i}.out.bias"] = bias
    noise = np.random.default_rng(1).integers(0, 256, (2, 30, 41, 3), dtype=np.uint8)
    payload = same(sealed(changed, document), noise, quality=100)
    n_escapes, at = reference.leb128(iter(payload))
    assert n_escapes > 1000
    assert max(payload[at + 2 : at + 2 + n_escapes]) > 127, "some take more than a byte"


def test_damaged_payloads() -> None:
    blob, images = perturbed("rgb"), pictures(2, 9, 20, 3)
    codec, reader = HyperpriorCodec(model=blob, quality=90, effort=1), ReferenceHyperprior(model=blob)
    payload, spec = codec.encode(images), GroupSpec.of(images)
    rng = np.random.default_rng(0)
    damaged = [payload[:n] for n in range(len(payload))] + [payload + b"\0", payload + b"\0\0", b"\xff" * 20, payload[::-1]]
    for at in [*range(12), *rng.integers(0, len(payload), 150)]:
        flipped = bytearray(payload)
        flipped[at] ^= 1 << int(rng.integers(8))
        damaged.append(bytes(flipped))
    for other in damaged:
        expected, found = outcome(lambda p=other: codec.decode(p, spec)), outcome(lambda p=other: reader.decode(p, spec))
        assert (expected is None) == (found is None)
        if expected is not None and found is not None:
            assert np.array_equal(found, expected)
    for n in range(len(payload)):
        with pytest.raises(PayloadError):
            reader.decode(payload[:n], spec)


@pytest.mark.parametrize("shape", [(2, 9, 20, 3), (1, 9, 20, 3), (3, 9, 20, 3), (2, 8, 20, 3), (2, 9, 40, 3), (2, 100, 1, 3)])
def test_payloads_of_another_shape(shape: tuple[int, int, int, int]) -> None:
    blob = perturbed("rgb")
    payload = HyperpriorCodec(model=blob, quality=90, effort=1).encode(pictures(2, 9, 20, 3))
    pixels = outcome(lambda: decode_payload(payload, blob, GroupSpec(shape[0], ImageSpec(*shape[1:]))))
    assert (pixels is not None) == (shape == (2, 9, 20, 3))


@pytest.mark.parametrize(
    ("numbers", "is_sound"),
    [([0xFE, 0xFF, 0xFF, 0xFF, 0x0F], False), ([0x80, 0x80, 0x80, 0x80, 0x80, 0], False), ([0x80], False), ([0x80, 0], True)],
    ids=["too large", "six bytes", "cut", "longer than need be"],
)
def test_escape_bytes(numbers: list[int], is_sound: bool) -> None:
    """A stream of two symbols, both escapes, of a table of two symbols: z = 1 + the number."""
    half = 1 << 15  # of each symbol
    state = 1 << 16
    start = (state // half << 16) + state % half + half
    words = start.to_bytes(4, "little") * 2
    stream = reference._Stream(words, bytes([0, *numbers]), [[0, half, 1 << 16]])
    if is_sound:
        assert stream.take(np.zeros(2, np.int64)).tolist() == [1, 1]
        stream.finish()
    else:
        with pytest.raises(PayloadError):
            stream.take(np.zeros(2, np.int64))


def _set(name: str, value: object) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda tensors, document: document["config"].update({name: value})


def _tensor(name: str, change: Callable[[Any], Any]) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda tensors, document: tensors.update({name: change(tensors[name])})


LIES: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "another codec": lambda tensors, document: document.update(codec="autoencoder-1"),
    "no config": lambda tensors, document: document.pop("config"),
    "a list as config": lambda tensors, document: document.update(config=[]),
    "an unknown field": _set("bits", 16),
    "a field less": lambda tensors, document: document["config"].pop("hyper"),
    "boolean": _set("blocks", True),
    "stride 12": _set("stride", 12),
    "no slices": _set("slices", []),
    "17 slices": _set("slices", [1] * 17),
    "slices of text": _set("slices", "abc"),
    "too many latents": _set("slices", [1025]),
    "other slices": _set("slices", [3, 5, 9]),
    "huge": _set("width", 10**30),
    "another width": _set("width", 9),
    "one anchor": _set("anchors", 1),
    "no steps": lambda tensors, document: tensors.pop("steps"),
    "a step of zero": _tensor("steps", lambda x: x * np.uint16(0)),
    "a step of 1024": _tensor("steps", lambda x: x * np.uint16(0) + np.uint16(1024)),
    "steps of int32": _tensor("steps", lambda x: x.astype(np.int32)),
    "offset 256": _tensor("offset", lambda x: x * np.int16(0) + np.int16(256)),
    "offset -1": _tensor("offset", lambda x: x * np.int16(0) - np.int16(1)),
    "two offsets": _tensor("offset", lambda x: np.repeat(x, 2)),
    "no layer": lambda tensors, document: tensors.pop("decoder.up.weight"),
    "weight of -128": _tensor("decoder.up.weight", lambda x: np.full_like(x, -128)),
    "weights of uint8": _tensor("decoder.up.weight", lambda x: x.astype(np.uint8)),
    "shift 15": _tensor("decoder.up.shift", lambda x: np.full_like(x, 15)),
    "shift -5": _tensor("decoder.up.shift", lambda x: np.full_like(x, -5)),
    "bias of 2^24": _tensor("decoder.hyper_in.bias", lambda x: np.full_like(x, -(1 << 24))),
    "least bias": _tensor("decoder.hyper_in.bias", lambda x: np.full_like(x, -(1 << 31))),
    "residual beyond the bound": lambda tensors, document: tensors.update(
        {
            "decoder.fine.0.b.weight": np.zeros_like(tensors["decoder.fine.0.b.weight"]),
            "decoder.fine.0.b.bias": np.full(6, (1 << 24) - (127 << 3), np.int32),
            "decoder.fine.0.b.shift": np.full(6, 3, np.int8),
        }
    ),
    "no probe": lambda tensors, document: tensors.pop("probe"),
    "probe of int64": _tensor("probe", lambda x: x.view(np.int64)),
    "no tables": lambda tensors, document: tensors.pop("hyper.freqs"),
    "a frequency of zero": _tensor("hyper.freqs", lambda x: x * np.uint16(0)),
    "a sum beyond 2^16": _tensor("hyper.freqs", lambda x: x + np.uint16(1)),
    "one symbol": _tensor("hyper.sizes", lambda x: x * np.uint16(0) + np.uint16(1)),
    "a frequency less": _tensor("hyper.freqs", lambda x: x[:-1]),
    "half a pair of scales": lambda tensors, document: tensors.update({"scales.sizes": np.full(81, 2, np.uint16)}),
    "80 scales": lambda tensors, document: tensors.update(
        {"scales.sizes": np.full(80, 2, np.uint16), "scales.freqs": np.full(160, 1 << 15, np.uint16)}
    ),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_models_that_lie(lie: Callable[[dict[str, Any], dict[str, Any]], Any]) -> None:
    images = pictures(1, 8, 8, 3)
    payload, spec = HyperpriorCodec(model=perturbed("rgb"), effort=1).encode(images), GroupSpec.of(images)
    parsed, document = model_file.parse(perturbed("rgb"))
    tensors = dict(parsed)
    lie(tensors, document)
    blob = model_file.dump(tensors, document)
    with pytest.raises(ModelError):
        decode_payload(payload, blob, spec)
    with pytest.raises(ModelError):
        HyperpriorCodec(model=blob).decode(payload, spec)


def test_packed_weights() -> None:
    """What an archive stores is the same model, in fewer bytes."""
    blob = perturbed("gray, stride 16")
    stored = model.LoadedModel(blob).without_encoder()
    assert b"packed" in stored
    assert reference._Model(stored).layers.keys() == reference._Model(blob).layers.keys()
    for layer, other in zip(reference._Model(stored).layers.values(), reference._Model(blob).layers.values(), strict=True):
        assert np.array_equal(layer.weight, other.weight)
    tensors, document = _unparsed(stored)
    for name in ("packed.words", "packed.escapes", "packed.tables"):
        for damaged in (tensors[name][:-1], np.append(tensors[name], np.uint8(0)), tensors[name] ^ np.uint8(1)):
            if np.array_equal(damaged, tensors[name]):  # there may be no escapes
                continue
            with pytest.raises(ModelError):
                ReferenceHyperprior(model=model_file.dump({**tensors, name: damaged}, document))


def _unparsed(blob: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tensors and document as the file has them, packed."""
    header = json.loads(blob[8 : 8 + int.from_bytes(blob[:8], "little")])
    return load(blob), json.loads(header["__metadata__"]["batchcodec"])


@pytest.mark.parametrize("key", ["probe", "decoder.slices.1.out.bias", "decoder.first.weight", "decoder.up.shift", "offset"])
def test_the_probe_finds_a_damaged_network(key: str) -> None:
    parsed, document = model_file.parse(perturbed("rgb"))
    blob = model_file.dump({**parsed, key: parsed[key] ^ parsed[key].dtype.type(1)}, document)
    with pytest.raises(ModelError):
        ReferenceHyperprior(model=blob)
    with pytest.raises(InexactMachineError):
        HyperpriorCodec(model=blob, effort=1).encode(pictures(1, 8, 8, 3))


def test_large_images_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hyperprior_codec, "STRIP_PIXELS", 1)
    for name in ("rgb", "gray, two blocks", "RGBA, stride 16", "LA, linear"):
        same(perturbed(name), pictures(1, 600, 20, ARCHITECTURES[name].channels), quality=80)
        same(wild(name), pictures(1, 600, 20, ARCHITECTURES[name].channels), quality=80)


def test_damaged_models() -> None:
    """Cut or flipped model files: a ModelError, or a model."""
    blob = model.LoadedModel(perturbed("rgb")).without_encoder()
    rng = np.random.default_rng(0)
    for n in [0, 7, 8, 9, 100, len(blob) // 2, len(blob) - 1]:
        with pytest.raises(ModelError):
            ReferenceHyperprior(model=blob[:n])
    header = 8 + int.from_bytes(blob[:8], "little")
    for at in [*rng.integers(0, header, 150), *rng.integers(header, len(blob), 30)]:
        flipped = bytearray(blob)
        flipped[at] ^= 1 << int(rng.integers(8))
        try:
            ReferenceHyperprior(model=bytes(flipped))
        except ModelError:
            continue


def test_the_contract() -> None:
    blob, images = perturbed("rgb"), pictures(1, 8, 8, 3)
    codec = ReferenceHyperprior.restore({}, blob)
    assert (codec.codec_id, codec.get_config(), codec.get_model()) == (HyperpriorCodec.codec_id, {}, blob)
    payload = HyperpriorCodec(model=blob, effort=1).encode(images)
    assert codec.decode(payload, GroupSpec.of(images)).shape == images.shape
    with pytest.raises(CodecError):
        codec.encode(images)
    with pytest.raises(ModelError):
        ReferenceHyperprior.restore({"quality": 3}, blob)
    for spec in (ImageSpec(8, 8, 1), ImageSpec(8, 8, 4), ImageSpec(8, 8, 3, "uint16")):
        with pytest.raises(UnsupportedImageError):
            decode_payload(payload, blob, GroupSpec(1, spec))


def test_rounding() -> None:
    numbers = np.arange(-200, 200)
    for by in range(-7, 4):
        assert np.array_equal(reference.shifted(numbers, by), np.rint(numbers * 2.0**by))
    every = np.arange(-7, 4)
    assert np.array_equal(reference.shifted(numbers[:, None], every), np.rint(numbers[:, None] * 2.0**every))


def test_constants() -> None:
    assert reference.gaussian_bank() == [row.tolist() for row in gaussian.frequencies()]
    assert np.array_equal(reference.log_steps()[1:], np.rint(8 * np.log2(np.arange(1, 1024))))


def test_neither_torch_nor_numba(tmp_path: Any) -> None:
    blob, images = perturbed("gray, two blocks"), pictures(1, 17, 9, 1)
    codec = HyperpriorCodec(model=blob, quality=60, effort=1)
    payload = codec.encode(images)
    np.savez(tmp_path / "x.npz", payload=np.frombuffer(payload, np.uint8), model=np.frombuffer(codec.get_model(), np.uint8))
    code = """
import sys
import numpy as np
from batchcodec.reference import decode_payload
from batchcodec.types import GroupSpec, ImageSpec
x = np.load(sys.argv[1])
pixels = decode_payload(x["payload"].tobytes(), x["model"].tobytes(), GroupSpec(1, ImageSpec(17, 9, 1)))
assert not {"torch", "numba"} & set(sys.modules)
sys.stdout.buffer.write(pixels.tobytes())
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.npz")], capture_output=True, timeout=60, check=True)
    assert done.stdout == codec.decode(payload, GroupSpec.of(images)).tobytes()
