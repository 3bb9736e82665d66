"""Mode and size before coding: Pillow's own results for 8 bits, the same in 16, and a note of all that is changed."""

from __future__ import annotations

import tracemalloc
from typing import Any, get_args

import numpy as np
import pytest
from helpers import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from batchcodec.errors import OptionError
from batchcodec.preprocess import Fit, Mode, Preprocess, Resample, parse_size, resize, to_channels
from batchcodec.types import Item


@pytest.mark.parametrize(
    ("text", "size"), [("native", None), ("64", (64, 64)), ("64x48", (64, 48)), ("1x65535", (1, 65535)), ("007", (7, 7))]
)
def test_parse_size(text: str, size: tuple[int, int] | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "64x", "x64", "64x0", "65536", "-1", "64 x 48", "6.4", "64X48", "٣", "1x1x1"])
def test_parse_size_refuses(text: str) -> None:
    with pytest.raises(OptionError):
        parse_size(text)


def test_a_size_that_would_fill_the_memory() -> None:
    with pytest.raises(OptionError, match="at most 268435456 pixels"):
        Preprocess((65535, 65535))
    assert Preprocess((16384, 16384)).size == (16384, 16384)


@pytest.mark.parametrize("option", [{"resample": "cubic"}, {"fit": "cover"}, {"mode": "L"}])
def test_unknown_settings(option: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="one of"):
        Preprocess(**option)


def test_nothing_is_done_by_default() -> None:
    item = Item("a", picture((4, 5, 2)))
    assert Preprocess()(item) is item
    same = Preprocess(size=(5, 4), mode="keep")(item)
    assert same is item
    assert Preprocess().to_json() == {"size": "native", "resample": "bicubic", "fit": "stretch", "mode": "keep"}


def test_notes_say_what_was_done() -> None:
    done = Preprocess(size=(8, 6), mode="gray")(Item("a", picture((4, 5, 4)), "cat", {"x": 1}, ("frame 1 of 2",)))
    assert done.notes == ("frame 1 of 2", "RGBA to L", "resized to 8x6")
    assert done.pixels.shape == (6, 8, 1)
    assert (done.name, done.label, done.attributes) == ("a", "cat", {"x": 1})


def test_gray_is_that_of_pillow() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(to_channels(rgb, 1)[..., 0], np.asarray(Image.fromarray(rgb).convert("L")))


def test_gray_of_16_bits_is_that_of_8_bits_times_257() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    deep = to_channels(rgb.astype(np.uint16) * 257, 1) / 257
    assert np.abs(deep - to_channels(rgb, 1)).max() <= 0.51


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_alpha_goes_over_white(dtype: str) -> None:
    peak = np.iinfo(dtype).max
    rgba = np.array([[[10, 20, 30, peak], [10, 20, 30, 0], [0, 0, 0, peak // 2]]], dtype)
    found = to_channels(rgba, 3)
    np.testing.assert_array_equal(found[0, 0], [10, 20, 30])
    np.testing.assert_array_equal(found[0, 1], [peak] * 3)
    assert np.abs(found[0, 2].astype(int) - (peak - peak // 2)).max() <= 1
    np.testing.assert_array_equal(to_channels(rgba[..., 2:], 1)[0, 1], [peak])


def test_gray_to_rgb_repeats() -> None:
    gray = picture((3, 4, 1), dtype="uint16")
    found = to_channels(gray, 3)
    assert found.dtype == np.uint16
    assert all(np.array_equal(found[..., c], gray[..., 0]) for c in range(3))


@pytest.mark.parametrize("resample", get_args(Resample))
@pytest.mark.parametrize("channels", [1, 3])
def test_stretching_is_that_of_pillow(resample: Resample, channels: int) -> None:
    pixels = picture((31, 20, channels))
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    expected = np.asarray(image.resize((17, 40), Image.Resampling[resample.upper()])).reshape(40, 17, channels)
    np.testing.assert_array_equal(resize(pixels, (17, 40), resample, "stretch"), expected)


@pytest.mark.parametrize("resample", get_args(Resample))
def test_16_bits_resize_as_8_bits_do(resample: Resample) -> None:
    pixels = picture((30, 20, 3))
    deep = resize(pixels.astype(np.uint16) * 257, (13, 44), resample, "stretch")
    assert deep.dtype == np.uint16
    assert np.abs(deep / 257 - resize(pixels, (13, 44), resample, "stretch")).max() <= 1.5


def test_pad_keeps_the_whole_picture_in_the_middle() -> None:
    white = np.full((10, 30, 3), 255, np.uint8)
    padded = resize(white, (60, 60), "nearest", "pad")
    assert padded.shape == (60, 60, 3)
    np.testing.assert_array_equal(padded[20:40], 255)
    assert padded[:20].max() == padded[40:].max() == 0


def test_crop_takes_the_middle() -> None:
    pixels = np.zeros((10, 30, 1), np.uint8)
    pixels[:, 10:20] = 200
    np.testing.assert_array_equal(resize(pixels, (20, 20), "nearest", "crop"), np.full((20, 20, 1), 200))
    tall = pixels.transpose(1, 0, 2)
    np.testing.assert_array_equal(resize(tall, (5, 5), "box", "crop"), np.full((5, 5, 1), 200))


def test_crop_is_that_of_pillow() -> None:
    from PIL import ImageOps

    pixels = picture((37, 91, 3))
    expected = ImageOps.fit(Image.fromarray(pixels), (24, 40), Image.Resampling.BICUBIC)
    assert np.abs(resize(pixels, (24, 40), "bicubic", "crop").astype(int) - np.asarray(expected)).max() <= 1


@pytest.mark.parametrize("fit", get_args(Fit))
def test_very_long_images_need_little_memory(fit: Fit) -> None:
    """Covering a square with an image of 60,000 by 1 before cutting the middle out would take side^2 * 60,000 bytes."""
    running = tracemalloc.is_tracing()
    tracemalloc.start()
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    found = resize(np.full((1, 60_000, 1), 7, np.uint8), (50, 50), "bicubic", fit)
    _, most = tracemalloc.get_traced_memory()
    if not running:
        tracemalloc.stop()
    assert found.shape == (50, 50, 1)
    assert most - before < 4e6


@settings(max_examples=100)
@given(
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(get_args(Resample)),
    st.sampled_from(get_args(Fit)),
    st.sampled_from(get_args(Mode)),
    st.sampled_from(["uint8", "uint16"]),
)
def test_any_size_becomes_the_wanted_one(
    shape: tuple[int, int, int], size: tuple[int, int], resample: Resample, fit: Fit, mode: Mode, dtype: str
) -> None:
    done = Preprocess(size, resample, fit, mode)(Item("a", picture(shape, dtype=dtype))).pixels
    assert done.shape == (size[1], size[0], {"keep": shape[2], "gray": 1, "rgb": 3}[mode])
    assert done.dtype == dtype
    assert done.flags.c_contiguous
