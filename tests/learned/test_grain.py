"""Grain: noise in the place of what was not coded, the same for every decoder and for any choice of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batchcodec
from batchcodec import PackOptions, pack, unpack
from batchcodec.entropy import gaussian
from batchcodec.errors import ModelError, OptionError
from batchcodec.learned.hyperprior import grain
from batchcodec.learned.hyperprior.codec import HyperpriorCodec
from batchcodec.reference import GRAIN_SIZES, ReferenceHyperprior, mixed
from batchcodec.testing import check_codec
from batchcodec.types import GroupSpec
from learned.test_reference import ARCHITECTURES, coded, perturbed, pictures, wild


def same(blob: bytes, payload: bytes, images: np.ndarray, percent: int) -> None:
    """Decode with grain, and compare with the reference."""
    spec = GroupSpec.of(images)
    found, expected = (kind(model=blob, grain=percent).decode(payload, spec) for kind in (HyperpriorCodec, ReferenceHyperprior))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_same_pixels_as_the_reference(name: str) -> None:
    images = pictures(3, 17, 30, ARCHITECTURES[name].channels)
    for quality, percent in ((1, 100), (37, 1), (90, 63)):
        payload = HyperpriorCodec(model=perturbed(name), quality=quality, effort=1).encode(images)
        same(perturbed(name), payload, images, percent)
        same(wild(name), HyperpriorCodec(model=wild(name), quality=quality, effort=1).encode(images), images, percent)


def test_planes_streams_and_qualities() -> None:
    blob, images = perturbed("gray, two blocks"), pictures(4, 17, 30, 3)
    same(blob, HyperpriorCodec(model=blob, quality=20, effort=1).encode(images), images, 100)
    images = pictures(5, 20, 20, 3)
    qualities = np.array([1, 90, 40, 1, 70], np.uint8)
    for each in (1, 2, 5):
        same(perturbed("rgb"), coded(perturbed("rgb"), images, qualities, each), images, 80)
    same(
        perturbed("least"),
        HyperpriorCodec(model=perturbed("least"), effort=1).encode(images[:, :1, :1, :1]),
        images[:, :1, :1, :1],
        50,
    )


@given(data=st.data())
@settings(max_examples=30)
def test_any_choice_of_images(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 7))
    images, blob = pictures(n, 13, 22, 3), perturbed("rgb")
    payload = coded(blob, images, np.full(n, 30, np.uint8), data.draw(st.integers(1, n)))
    codec, spec = HyperpriorCodec(model=blob, grain=data.draw(st.integers(1, 100))), GroupSpec.of(images)
    rows = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=9))
    assert np.array_equal(codec.decode(payload, spec, rows), codec.decode(payload, spec)[rows])


def test_bytes_do_not_depend_on_it_and_more_of_it_is_rougher() -> None:
    images, blob = pictures(6, 64, 64, 3), perturbed("rgb")
    spec, added = GroupSpec.of(images), []
    payload = HyperpriorCodec(model=blob, quality=1, effort=1).encode(images)
    plain = HyperpriorCodec(model=blob).decode(payload, spec).astype(float)
    for percent in (0, 25, 50, 100):
        codec = HyperpriorCodec(model=blob, quality=1, effort=1, grain=percent)
        assert codec.encode(images) == payload
        added.append(float(((codec.decode(payload, spec) - plain) ** 2).mean()))
    assert added[0] == 0
    assert added[2] > 2 * added[1] > 0
    assert added[3] > 2 * added[2]


def test_equal_images_get_other_noise() -> None:
    images, blob = pictures(1, 32, 32, 3).repeat(3, 0), perturbed("rgb")
    codec = HyperpriorCodec(model=blob, quality=1, effort=1, grain=100)
    first, second, third = codec.decode(codec.encode(images), GroupSpec.of(images))
    assert not np.array_equal(first, second)
    assert not np.array_equal(second, third)


def test_noise_has_the_size_that_it_should_have() -> None:
    """Even from -a to a, and nothing where an integer was coded."""
    n, step, percent, table = 200_000, 1000, 40, 9
    k = (np.arange(n, dtype=np.int32) % 4 == 3).astype(np.int32).reshape(1, n // 4, 4)
    found = np.full((1, n // 4, 4), 99, np.int16)
    index, steps = np.full(k.shape, 5 + table, np.uint16), np.full((1, 4), step, np.int16)
    seeds = np.array([mixed(7)], np.uint32)
    grain.sprinkle(k, index, steps, np.arange(n // 4), 0, 5, percent, seeds, found)
    noise, largest = found[k == 0], step * percent / 100 * grain.SIZES[table] / 256
    assert not found[k == 1].any()
    assert abs(noise).max() == pytest.approx(largest, abs=1)
    assert noise.std() == pytest.approx(largest / 3**0.5, rel=0.01)
    assert abs(noise.mean()) < 0.01 * largest
    counts = np.histogram(noise, 20)[0]
    assert counts.min() > 0.9 * counts.mean(), "as even as whole numbers in 20 bins can be"
    assert abs(np.corrcoef(noise[:-1], noise[1:])[0, 1]) < 0.01


def test_sizes() -> None:
    assert tuple(grain.SIZES.tolist()) == GRAIN_SIZES
    assert len(grain.SIZES) == gaussian.N_SCALES
    assert (np.diff(grain.SIZES) >= 0).all()
    assert grain.SIZES.max() == 128, "half a step: beyond it another integer would have been coded"


def test_latents_stay_within_their_limits() -> None:
    latents = np.array([4090, -4090, 3], np.int16)
    grain.add(np.array([500, -500, 4], np.int16), latents)
    assert latents.tolist() == [4095, -4095, 7]


@pytest.mark.parametrize("value", [-1, 101, 0.5, "much", None, True])
def test_bad_options(value: Any) -> None:
    with pytest.raises(OptionError, match="grain"):
        HyperpriorCodec(model=perturbed("rgb"), grain=value)


@pytest.mark.parametrize("value", [0, -1, 101, 0.5, "much", None, True])
def test_bad_configs(value: Any) -> None:
    for codec in (HyperpriorCodec, ReferenceHyperprior):
        with pytest.raises(ModelError, match="grain"):
            codec.restore({"grain": value}, perturbed("rgb"))


def test_the_contract() -> None:
    check_codec(HyperpriorCodec(model=perturbed("rgb"), quality=20, effort=1, grain=70), pictures(3, 17, 24, 3), n_damaged=8)


def test_archives(tmp_path: Path, hyperprior_models: Path) -> None:
    """The archive says how much, whoever reads it gets those pixels, and the report is of them."""
    images = pictures(9, 24, 24, 1)[..., 0]
    np.save(tmp_path / "images.npy", images)
    reports = {}
    for percent in (0, 100):
        target = tmp_path / f"{percent}.cpack"
        options = PackOptions(
            codec=f"hyperprior-1:quality=5,grain={percent}",
            model=str(hyperprior_models / "tiny-gray.safetensors"),
            group_items=4,
        )
        reports[percent] = pack(tmp_path / "images.npy", target, options)
        unpack(target, tmp_path / f"{percent}.npy")
    smooth, rough = (np.load(tmp_path / f"{percent}.npy") for percent in (0, 100))
    assert not np.array_equal(smooth, rough)
    assert abs(reports[100].n_bytes - reports[0].n_bytes) < 32
    mse = ((rough.astype(float) - images) ** 2).mean((1, 2))
    assert reports[100].mean_psnr == pytest.approx(float(np.mean(10 * np.log10(255**2 / mse))), abs=1e-3)
    with batchcodec.open(tmp_path / "100.cpack") as archive:
        assert np.array_equal(archive[7].pixels[..., 0], rough[7])
        assert np.array_equal(np.squeeze(np.asarray(archive.read([8, 0]))), rough[[8, 0]])
