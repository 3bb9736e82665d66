"""The codec `balle2017-1`: conformance, qualities, and what strangers may send."""

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

from batchcodec.errors import BatchcodecError, ModelError, OptionError, PayloadError, UnsupportedImageError
from batchcodec.learned import model_file
from batchcodec.learned.balle.codec import Balle2017Codec
from batchcodec.testing import check_codec
from batchcodec.types import GroupSpec, ImageSpec, Pixels

SIZES = [(1, 1), (28, 28), (65, 33), (7, 200)]


def _images(height: int, width: int, channels: int = 1, n: int = 3) -> Pixels:
    return np.stack([picture((height, width, channels), i) for i in range(n)])


def _decoded(codec: Balle2017Codec, images: Pixels) -> Pixels:
    return codec.decode(codec.encode(images), GroupSpec.of(images))


@pytest.fixture(scope="module")
def gray(balle_models: dict[int, Path]) -> bytes:
    return balle_models[1].read_bytes()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_it_conforms(size: tuple[int, int], channels: int, balle_models: dict[int, Path]) -> None:
    codec = Balle2017Codec(model=balle_models[channels].read_bytes(), quality=70)
    check_codec(codec, _images(*size, channels=channels), n_damaged=4)


def test_quality_trades_bytes_for_error(gray: bytes) -> None:
    images = _images(32, 32, n=12)
    rows = []
    for quality in (1, 34, 67, 100):
        codec = Balle2017Codec(model=gray, quality=quality)
        rows.append((len(codec.encode(images)), float(np.square(_decoded(codec, images) - images.astype(float)).mean())))
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    assert [row[1] for row in rows] == sorted((row[1] for row in rows), reverse=True)
    assert rows[-1][0] > 1.3 * rows[0][0]


def test_all_qualities_decode(gray: bytes) -> None:
    images = _images(9, 20)
    for quality in range(1, 101):
        assert _decoded(Balle2017Codec(model=gray, quality=quality), images).shape == images.shape


def test_images_are_continued_at_their_edges(gray: bytes) -> None:
    images, codec = _images(9, 20), Balle2017Codec(model=gray)
    padded = np.pad(images, ((0, 0), (0, 7), (0, 4), (0, 0)), mode="edge")
    assert codec.encode(images) == codec.encode(padded)
    assert np.array_equal(_decoded(codec, images), _decoded(codec, padded)[:, :9, :20])


def test_what_no_image_of_the_training_had(gray: bytes) -> None:
    """Noise has latents beyond the tables: they escape, and come back."""
    noise = 255 * np.random.default_rng(0).integers(0, 2, (2, 64, 64, 1), dtype=np.uint8)
    codec = Balle2017Codec(model=gray, quality=100)
    assert codec.encode(noise)[1] > 0, "escape bytes"
    assert np.square(_decoded(codec, noise) - noise.astype(float)).mean() < noise.var()


def test_restore_decodes_and_cannot_encode(gray: bytes) -> None:
    images, codec = _images(28, 28), Balle2017Codec(model=gray, quality=30)
    stored = codec.get_model()
    restored = Balle2017Codec.restore(codec.get_config(), stored)
    assert np.array_equal(restored.decode(codec.encode(images), GroupSpec.of(images)), _decoded(codec, images))
    assert restored.get_model() == stored
    assert not any(name.startswith("encoder.") for name in model_file.parse(stored)[0])
    with pytest.raises(ModelError, match="can only decode"):
        restored.encode(images)
    with pytest.raises(ModelError, match="expected nothing"):
        Balle2017Codec.restore({"quality": 3}, stored)


def test_other_images_are_refused(gray: bytes) -> None:
    codec = Balle2017Codec(model=gray)
    for spec in (ImageSpec(8, 8, 3), ImageSpec(8, 8, 1, "uint16")):
        with pytest.raises(UnsupportedImageError):
            codec.check(spec)


@pytest.mark.parametrize("quality", [0, 101, 5.0, "5", True])
def test_bad_qualities(quality: Any, gray: bytes) -> None:
    with pytest.raises(OptionError):
        Balle2017Codec(model=gray, quality=quality)


# ---- payloads from strangers


@pytest.mark.parametrize(
    ("payload", "match"),
    [
        (b"", "quality missing"),
        (b"\0\0", "quality 0"),
        (b"\x65\0", "quality 101"),
        (b"\x32", "does not end"),
        (b"\x32\x80\x80\x80\x80\x80\x01", "does not end"),
        (b"\x32\x7f", "too few for 127"),
        (b"\x32\0", "cannot hold|words"),
        (b"\x32\0\0\0\1", "cannot hold|even"),
    ],
)
def test_payloads_that_are_none(payload: bytes, match: str, gray: bytes) -> None:
    with pytest.raises(PayloadError, match=match):
        Balle2017Codec(model=gray).decode(payload, GroupSpec(3, ImageSpec(28, 28, 1)))


def test_a_payload_of_other_images_is_refused(gray: bytes) -> None:
    codec = Balle2017Codec(model=gray)
    payload = codec.encode(_images(28, 28))
    for spec in (GroupSpec(2, ImageSpec(28, 28, 1)), GroupSpec(1 << 14, ImageSpec(512, 512, 1))):
        with pytest.raises(PayloadError):
            codec.decode(payload, spec)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_payloads_never_crash(data: st.DataObject, gray: bytes) -> None:
    images, codec = _images(20, 28), Balle2017Codec(model=gray)
    payload = bytearray(codec.encode(images))
    payload[data.draw(st.integers(0, len(payload) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(PayloadError):
        assert codec.decode(bytes(payload), GroupSpec.of(images)).shape == images.shape


# ---- models from strangers

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
    "another latent": _set("latent", 25),
    "latent beyond the limit": _set("latent", 10**12),
    "another depth": _set("depth", 3),
    "no depth": lambda tensors, document: document["config"].pop("depth"),
    "more than is known": _set("more", 1),
    "unknown activation": _set("activation", "eval"),
    "activation that is a list": _set("activation", ["gdn"]),
    "another upsampling": _set("upsample", "pixelshuffle"),
    "channels": _set("channels", 5),
    "RGB in place of gray": _set("channels", 3),
    "more anchors": _set("anchors", 4),
    "no config": lambda tensors, document: document.pop("config"),
    "another codec": lambda tensors, document: document.update(codec="autoencoder-1"),
    "no masses": lambda tensors, document: tensors.pop("masses"),
    "masses of zeros": _tensor("masses", np.zeros_like),
    "masses of float": _tensor("masses", lambda x: x.astype(np.float32)),
    "masses of fewer channels": _tensor("masses", lambda x: x[1:]),
    "widths of zeros": _tensor("widths", np.zeros_like),
    "widths of fewer qualities": _tensor("widths", lambda x: x[:50]),
    "NaN steps": _tensor("log_step", lambda x: x * np.nan),
    "infinite offset": _tensor("offset", lambda x: x + np.inf),
    "steps of float64": _tensor("log_step", lambda x: x.astype(np.float64)),
    "no steps": lambda tensors, document: tensors.pop("log_step"),
    "no decoder weight": lambda tensors, document: tensors.pop("decoder.0.weight"),
    "no encoder weight": lambda tensors, document: tensors.pop("encoder.0.weight"),
    "NaN in the decoder": _tensor("decoder.0.weight", lambda x: x * np.float16(np.nan)),
    "weights of float32": _tensor("decoder.0.weight", lambda x: x.astype(np.float32)),
    "weights of another shape": _tensor("decoder.0.weight", lambda x: x[:, :, 1:]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_lies_are_refused(change: Change, gray: bytes) -> None:
    parsed, document = model_file.parse(gray)
    tensors = dict(parsed)
    change(tensors, document)
    with pytest.raises(ModelError):
        _decoded(Balle2017Codec(model=model_file.dump(tensors, document)), _images(16, 16))


def test_numbers_that_run_over(gray: bytes) -> None:
    """Weights and steps that are finite, and whose pixels are not: they become some pixels, without a warning."""
    parsed, document = model_file.parse(gray)
    tensors = {name: np.full_like(t, 60_000) if name.startswith("decoder.") else t for name, t in parsed.items()}
    tensors["log_step"] = np.full_like(parsed["log_step"], 3e38)
    codec, images = Balle2017Codec(model=model_file.dump(tensors, document)), _images(16, 16)
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
        _decoded(Balle2017Codec(model=bytes(blob)), images)
