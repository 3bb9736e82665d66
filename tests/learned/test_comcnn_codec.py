"""The codec `comcnn-1`: conformance with several base codecs, strips, and what strangers may send."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchcodec.errors import (
    BatchcodecError,
    ModelError,
    OptionError,
    PayloadError,
    UnknownCodecError,
    UnsupportedImageError,
)
from batchcodec.learned import model_file
from batchcodec.learned.comcnn import strips
from batchcodec.learned.comcnn.codec import STRENGTHS, ComcnnCodec
from batchcodec.learned.comcnn.model import LoadedModel
from batchcodec.testing import check_codec
from batchcodec.types import GroupSpec, ImageSpec, Pixels

SIZES = [(1, 1), (28, 28), (65, 33), (7, 200)]
CHANNELS = {"gray": 1, "rgb": 3, "rgba": 4, "gray-filter": 1, "rgb-filter": 3}


def _images(height: int, width: int, channels: int = 1, n: int = 3) -> Pixels:
    return np.stack([picture((height, width, channels), i) for i in range(n)])


def _decoded(codec: ComcnnCodec, images: Pixels) -> Pixels:
    return codec.decode(codec.encode(images), GroupSpec.of(images))


@pytest.fixture(scope="module")
def gray(comcnn_models: dict[str, Path]) -> bytes:
    return comcnn_models["gray"].read_bytes()


@pytest.fixture(scope="module")
def gray_filter(comcnn_models: dict[str, Path]) -> bytes:
    return comcnn_models["gray-filter"].read_bytes()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", CHANNELS)
def test_it_conforms(size: tuple[int, int], kind: str, comcnn_models: dict[str, Path]) -> None:
    base = "webp" if kind == "rgba" else "jpeg"
    codec = ComcnnCodec(model=comcnn_models[kind].read_bytes(), base=base, quality=70)
    check_codec(codec, _images(*size, channels=CHANNELS[kind]), n_damaged=4)


@pytest.mark.parametrize(
    "options",
    [
        {"base": "jpeg", "quality": 30, "mosaic": True},
        {"base": "webp", "lossless": True},
        {"base": "avif", "quality": 60, "mosaic": True},
        {"base": "jpeg2000"},
        {"base": "png"},
        {"base": "bmp"},
        {"base": "store"},
        {"base": "zstd"},
    ],
    ids=lambda options: options["base"],
)
def test_any_classical_codec_can_be_the_base(options: dict[str, Any], gray: bytes) -> None:
    check_codec(ComcnnCodec(model=gray, **options), _images(20, 31), n_damaged=4)


def test_a_compact_image_has_a_quarter_of_the_pixels(gray: bytes, gray_filter: bytes) -> None:
    images = _images(32, 48)
    assert len(ComcnnCodec(model=gray, base="store").encode(images)) == 1 + images.size // 4
    assert len(ComcnnCodec(model=gray_filter, base="store").encode(images)) == 1 + images.size


def test_a_filter_over_a_lossless_base_stores_the_very_pixels(gray_filter: bytes) -> None:
    """For a dataset that is JPEG already: what is stored is as it was, what is read is restored."""
    images = _images(17, 31)
    payload = ComcnnCodec(model=gray_filter, base="store").encode(images)
    assert np.array_equal(np.frombuffer(payload[1:], np.uint8).reshape(images.shape), images)


def test_quality_trades_bytes_for_error(gray: bytes) -> None:
    images = _images(64, 64, n=6)
    rows = []
    for quality in (5, 30, 90):
        codec = ComcnnCodec(model=gray, quality=quality)
        rows.append((len(codec.encode(images)), float(np.square(_decoded(codec, images) - images.astype(float)).mean())))
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True)


def test_the_strength_is_the_best_one(comcnn_models: dict[str, Path]) -> None:
    """Of all strengths that a payload can say, none gives a smaller error, but for rounding."""
    images = _images(40, 56, 3)
    codec = ComcnnCodec(model=comcnn_models["rgb"].read_bytes(), quality=20)
    payload = codec.encode(images)
    errors = []
    for strength in range(STRENGTHS + 1):
        decoded = codec.decode(bytes([strength]) + payload[1:], GroupSpec.of(images))
        errors.append(float(np.square(decoded - images.astype(float)).mean()))
    assert len(set(errors)) > 1, "the residual does something"
    assert errors[payload[0]] <= min(errors) + 0.02


def test_a_residual_that_does_harm_is_left_out(gray: bytes) -> None:
    """A model is no worse than its base, whatever it was trained on."""
    parsed, document = model_file.parse(gray)
    turned = {name: -t if name.startswith("decoder.layers.3.") else t for name, t in parsed.items()}  # the last layer
    images = _images(32, 32)
    assert 0 < ComcnnCodec(model=gray).encode(images)[0] <= STRENGTHS
    assert ComcnnCodec(model=model_file.dump(turned, document)).encode(images)[0] == 0


def test_strips_change_nothing(gray: bytes, gray_filter: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _images(230, 39, n=2)
    for model in (gray, gray_filter):
        codec = ComcnnCodec(model=model, base="store")
        whole = codec.encode(images)
        decoded = codec.decode(whole, GroupSpec.of(images)).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr(strips, "STRIP_PIXELS", 700)
            assert len(list(strips.strips(images, 2, 12))) > 5
            parts = codec.encode(images)
            assert parts[0] == whole[0]
            difference = np.frombuffer(parts[1:], np.uint8).astype(int) - np.frombuffer(whole[1:], np.uint8)
            assert np.abs(difference).max() <= 1, "rounding"
            assert np.count_nonzero(difference) < 0.001 * difference.size
            difference = codec.decode(whole, GroupSpec.of(images)).astype(int) - decoded
            assert np.abs(difference).max() <= 1
            assert np.count_nonzero(difference) < 0.001 * difference.size


def test_restore_decodes_and_cannot_encode(gray: bytes) -> None:
    images, codec = _images(28, 28), ComcnnCodec(model=gray, base="webp", quality=30)
    stored = codec.get_model()
    restored = ComcnnCodec.restore(codec.get_config(), stored)
    assert np.array_equal(restored.decode(codec.encode(images), GroupSpec.of(images)), _decoded(codec, images))
    assert restored.get_model() == stored
    assert restored.get_config() == codec.get_config()
    assert not any(name.startswith("encoder.") for name in model_file.parse(stored)[0])
    with pytest.raises(ModelError, match="can only decode"):
        restored.encode(images)


def test_other_images_are_refused(gray: bytes, comcnn_models: dict[str, Path]) -> None:
    codec = ComcnnCodec(model=gray)
    for spec in (ImageSpec(8, 8, 3), ImageSpec(8, 8, 1, "uint16")):
        with pytest.raises(UnsupportedImageError):
            codec.check(spec)
    with pytest.raises(UnsupportedImageError, match="jpeg"):  # what the model takes, and the base does not
        ComcnnCodec(model=comcnn_models["rgba"].read_bytes()).check(ImageSpec(8, 8, 4))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"base": "jpegg"}, "base.*jpegg"),
        ({"base": 3}, "base.*3"),
        ({"base": "hyperprior-1"}, "without a model"),
        ({"base": "comcnn-1"}, "without a model"),
        ({"base": "bmp", "quality": 3}, "quality.*base codec bmp"),
        ({"quality": 101}, "quality.*101"),
        ({"speed": 3}, "speed.*base codec jpeg"),
    ],
)
def test_bad_options(options: dict[str, Any], match: str, gray: bytes) -> None:
    with pytest.raises(OptionError, match=match):
        ComcnnCodec(model=gray, **options)


# ---- configs, payloads and models from strangers

STORE = {"codec": "store", "config": {}, "distribution": "batchcodec"}


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"base": None},
        {"base": "jpeg"},
        {"base": []},
        {"base": {"codec": "store", "config": {}}},
        {"base": {**STORE, "more": 1}},
        {"base": {**STORE, "codec": 3}},
        {"base": {**STORE, "config": []}},
        {"base": {**STORE, "distribution": 3}},
        {"base": {**STORE, "codec": "hyperprior-1"}},
        {"base": {**STORE, "codec": "comcnn-1", "config": {"base": STORE}}},
        {"base": STORE, "more": 1},
    ],
    ids=str,
)
def test_configs_that_are_none(config: dict[str, Any], gray: bytes) -> None:
    with pytest.raises(ModelError):
        ComcnnCodec.restore(config, ComcnnCodec(model=gray).get_model())


def test_a_base_that_is_not_installed_says_where_it_is_from(gray: bytes) -> None:
    config: dict[str, Any] = {"base": {"codec": "flif", "config": {}, "distribution": "batchcodec-flif"}}
    with pytest.raises(UnknownCodecError, match="batchcodec-flif"):
        ComcnnCodec.restore(config, ComcnnCodec(model=gray).get_model())


def test_a_base_with_an_impossible_config(gray: bytes) -> None:
    config: dict[str, Any] = {"base": {"codec": "jpeg", "config": {"quality": "high"}, "distribution": "batchcodec"}}
    with pytest.raises(PayloadError):
        ComcnnCodec.restore(config, ComcnnCodec(model=gray).get_model())


@pytest.mark.parametrize(
    ("payload", "match"), [(b"", "strength missing"), (b"\x21", "strength 33"), (b"\x10", "0 bytes cannot hold")]
)
def test_payloads_that_are_none(payload: bytes, match: str, gray: bytes) -> None:
    with pytest.raises(PayloadError, match=match):
        ComcnnCodec(model=gray).decode(payload, GroupSpec(3, ImageSpec(28, 28, 1)))


def test_a_payload_of_other_images_is_refused(gray: bytes) -> None:
    codec = ComcnnCodec(model=gray)
    payload = codec.encode(_images(28, 28))
    for spec in (GroupSpec(2, ImageSpec(28, 28, 1)), GroupSpec(1 << 14, ImageSpec(512, 512, 1))):
        with pytest.raises(PayloadError):
            codec.decode(payload, spec)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_payloads_never_crash(data: st.DataObject, gray: bytes) -> None:
    images, codec = _images(20, 28), ComcnnCodec(model=gray)
    payload = bytearray(codec.encode(images))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(PayloadError):
        assert codec.decode(bytes(payload), GroupSpec.of(images)).shape == images.shape


Change = Callable[[dict[str, Any], dict[str, Any]], Any]


def _set(name: str, value: object) -> Change:
    return lambda tensors, document: document["config"].update({name: value})


def _tensor(name: str, change: Callable[[Any], Any]) -> Change:
    return lambda tensors, document: tensors.update({name: change(tensors[name])})


CHANGES: dict[str, Change] = {
    "absurd width": _set("width", 512),
    "width beyond the limit": _set("width", 10**9),
    "width of zero": _set("width", 0),
    "boolean width": _set("width", True),
    "another depth": _set("depth", 6),
    "depth beyond the limit": _set("depth", 65),
    "no depth": lambda tensors, document: document["config"].pop("depth"),
    "more than is known": _set("more", 1),
    "unknown activation": _set("activation", "eval"),
    "activation that is a list": _set("activation", ["relu"]),
    "another upsampling": _set("upsample", "transpose"),
    "compact that is a number": _set("compact", 1),
    "channels": _set("channels", 5),
    "RGB in place of gray": _set("channels", 3),
    "no config": lambda tensors, document: document.pop("config"),
    "another codec": lambda tensors, document: document.update(codec="balle2017-1"),
    "no decoder weight": lambda tensors, document: tensors.pop("decoder.layers.0.weight"),
    "no encoder weight": lambda tensors, document: tensors.pop("encoder.layers.0.weight"),
    "NaN in the decoder": _tensor("decoder.layers.0.weight", lambda x: x * np.float16(np.nan)),
    "weights of float32": _tensor("decoder.layers.0.weight", lambda x: x.astype(np.float32)),
    "weights of another shape": _tensor("decoder.layers.0.weight", lambda x: x[:, :, 1:]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_lies_are_refused(change: Change, gray: bytes) -> None:
    parsed, document = model_file.parse(gray)
    tensors = dict(parsed)
    change(tensors, document)
    with pytest.raises(ModelError):
        _ = LoadedModel(model_file.dump(tensors, document)).networks


def test_numbers_that_run_over(gray: bytes) -> None:
    """Weights that are finite, and whose pixels are not: they become some pixels, without a warning."""
    parsed, document = model_file.parse(gray)
    tensors = {name: np.full_like(t, 60_000) for name, t in parsed.items()}
    codec, images = ComcnnCodec(model=model_file.dump(tensors, document)), _images(16, 16)
    assert _decoded(codec, images).shape == images.shape


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_of_a_model_never_crash(data: st.DataObject, gray: bytes) -> None:
    blob, images = bytearray(gray), _images(16, 16)
    n_header = 8 + int.from_bytes(blob[:8], "little")
    last = data.draw(st.sampled_from((n_header, len(blob)))) - 1
    for _ in range(data.draw(st.integers(1, 3))):
        blob[data.draw(st.integers(0, last))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(BatchcodecError):
        _decoded(ComcnnCodec(model=bytes(blob)), images)
