"""Bits of `hyperprior-1`: qualities and steps that are chosen for them, in models that any decoder reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import picture

from batchcodec.errors import OptionError
from batchcodec.learned import model_file
from batchcodec.learned.exact import numerics
from batchcodec.learned.hyperprior import precision
from batchcodec.learned.hyperprior.codec import HyperpriorCodec
from batchcodec.learned.hyperprior.model import LoadedModel
from batchcodec.reference import ReferenceHyperprior
from batchcodec.testing import check_codec
from batchcodec.types import GroupSpec, Pixels

ONE = np.ones(1)


@pytest.fixture(scope="module")
def blob(hyperprior_models: Path) -> bytes:
    return (hyperprior_models / "tiny-gray.safetensors").read_bytes()


@pytest.fixture
def images() -> Pixels:
    return np.stack([picture((24, 40, 1), i) for i in range(3)])


def mean_price(model: LoadedModel, quality: int) -> float:
    with numerics(), torch.no_grad():
        return float(precision.prices(model, precision.sampled(model, quality), precision.steps_of(model, quality, ONE)).mean())


@pytest.mark.parametrize("options", [{"bits": 0.5}, {"bits": "auto:0.5"}, {"bits_map": [2.0] * 4 + [0.3] * 12}], ids=str)
def test_bits_conform_and_the_reference_decodes_them(options: dict[str, Any], blob: bytes, images: Pixels) -> None:
    codec = HyperpriorCodec(model=blob, **options)
    check_codec(codec, images, n_damaged=4)
    assert codec.get_config() == {}
    payload, spec = codec.encode(images), GroupSpec.of(images)
    reference = ReferenceHyperprior.restore({}, codec.get_model())
    np.testing.assert_array_equal(reference.decode(payload, spec), codec.decode(payload, spec))


def test_a_number_is_the_highest_quality_that_costs_no_more(blob: bytes) -> None:
    model = LoadedModel(blob)
    codec = HyperpriorCodec(model=blob, bits=0.6)
    assert mean_price(model, codec._quality) <= 0.6 < mean_price(model, codec._quality + 1)
    assert codec.get_model() == HyperpriorCodec(model=blob).get_model()
    assert HyperpriorCodec(model=blob, bits=0.001)._quality == 1
    assert HyperpriorCodec(model=blob, bits=16)._quality == 100


def test_more_bits_are_more_bytes_and_nearer(blob: bytes, images: Pixels) -> None:
    sizes, errors = [], []
    for bits in ("auto:0.2", "auto:0.6", "auto:1.5"):
        codec = HyperpriorCodec(model=blob, bits=bits, effort=1)
        payload = codec.encode(images)
        sizes.append(len(payload))
        errors.append(float(np.square(codec.decode(payload, GroupSpec.of(images)) - images.astype(float)).mean()))
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)


def test_automatic_steps_level_what_channels_add(blob: bytes) -> None:
    """Of steps that are wrong on purpose; each channel then adds nearly the same."""
    factors = np.geomspace(0.3, 3, 16)
    wrong = precision.with_factors(blob, factors)
    with numerics(), torch.no_grad():
        for source in (blob, wrong):
            level = LoadedModel(precision.with_factors(source, precision.levelled(LoadedModel(source), 50)))
            added = precision.noise(level, precision.sampled(level, 50), precision.steps_of(level, 50, ONE))
            assert added.max() / added.min() < 3
        model = LoadedModel(wrong)
        added = precision.noise(model, precision.sampled(model, 50), precision.steps_of(model, 50, ONE))
    assert added.max() / added.min() > 10


def test_a_map_says_what_each_channel_may_cost(blob: bytes) -> None:
    bits = np.array([3.0, 2.5, 2.0, 1.5, *([0.5] * 11), 0.0])
    codec = HyperpriorCodec(model=blob, bits_map=bits.tolist())
    model = LoadedModel(blob)
    with numerics(), torch.no_grad():
        quality, factors = precision.mapped(model, bits)
        sample = precision.sampled(model, quality)
        costs = precision.prices(model, sample, precision.steps_of(model, quality, factors))
        finer = precision.prices(model, sample, precision.steps_of(model, quality, factors / 2**0.125))
    assert quality == codec._quality
    held = factors < precision.FACTORS[0]
    assert (costs[held] <= bits[held]).all()
    assert (finer[held & (factors > precision.FACTORS[-1])] > bits[held & (factors > precision.FACTORS[-1])]).all()
    assert factors[-1] == precision.FACTORS[0]


def test_factors_move_the_steps_and_nothing_else(blob: bytes) -> None:
    tensors, document = model_file.parse(blob)
    changed, same = model_file.parse(precision.with_factors(blob, np.full(16, 2.0)))
    assert same == document
    np.testing.assert_array_equal(changed["steps"], np.minimum(2 * tensors["steps"], 1023))
    assert {name for name in tensors if not np.array_equal(tensors[name], changed[name])} == {"steps", "probe"}
    assert precision.with_factors(blob, np.ones(16)) == blob


def test_the_same_again(blob: bytes) -> None:
    wrong = precision.with_factors(blob, np.geomspace(0.3, 3, 16))
    first, again = (HyperpriorCodec(model=wrong, bits="auto:0.5") for _ in range(2))
    assert first.get_model() == again.get_model()
    assert first.get_model() != HyperpriorCodec(model=wrong).get_model()
    assert first._quality == again._quality


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"bits": 0}, "bits"),
        ({"bits": -1}, "bits"),
        ({"bits": 17}, "bits"),
        ({"bits": True}, "bits"),
        ({"bits": float("nan")}, "bits"),
        ({"bits": "many"}, "bits"),
        ({"bits": "auto:"}, "bits"),
        ({"bits": "auto:0"}, "bits"),
        ({"bits": "auto:nan"}, "bits"),
        ({"bits": 0.5, "quality": 70}, "bits"),
        ({"bits": "auto:0.5", "model_ref": True}, "bits"),
        ({"bits_map": [1.0] * 16, "model_ref": True}, "bits-map"),
        ({"bits_map": [1.0] * 16, "bits": 1}, "bits-map"),
        ({"bits_map": [1.0] * 16, "quality": 70}, "bits-map"),
        ({"bits_map": [1.0] * 15}, "bits-map"),
        ({"bits_map": [1.0] * 15 + [-1]}, "bits-map"),
        ({"bits_map": [1.0] * 15 + [True]}, "bits-map"),
        ({"bits_map": "no such file"}, "bits-map"),
    ],
    ids=str,
)
def test_bad_bits(options: dict[str, Any], name: str, blob: bytes) -> None:
    with pytest.raises(OptionError, match=f"option {name}: got"):
        HyperpriorCodec(model=blob, **options)


def test_bits_may_go_with_a_model_that_is_only_named(blob: bytes) -> None:
    """A number chooses a quality, and leaves the model as it is."""
    assert "model" in HyperpriorCodec(model=blob, bits=0.5, model_ref=True).get_config()


def test_a_map_in_a_file(blob: bytes, tmp_path: Path) -> None:
    (tmp_path / "bits.json").write_text(json.dumps({"bits": [1] * 16}))
    first, second = (HyperpriorCodec(model=blob, bits_map=given) for given in (tmp_path / "bits.json", [1] * 16))
    assert first.get_model() == second.get_model()
