"""Pixels of any kind as 8-bit pictures."""

from __future__ import annotations

import io

import numpy as np
import pytest
from helpers import picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from batchcodec import display
from batchcodec.display import Window


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_8_bits_stay_as_they_are(channels: int) -> None:
    pixels = picture((9, 7, channels))
    assert display.window_of(pixels) == Window(0, 255)
    assert np.array_equal(display.shown(pixels), pixels)
    decoded = np.asarray(Image.open(io.BytesIO(display.png(pixels)))).reshape(pixels.shape)
    assert np.array_equal(decoded, pixels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_stretched_and_alpha_is_not(channels: int) -> None:
    pixels = (picture((40, 50, channels), dtype="uint16") >> 5).astype(np.uint16)  # of 11 bits
    made = display.shown(pixels)
    assert made.dtype == np.uint8
    n = {1: 1, 2: 1, 3: 3, 4: 3}[channels]
    assert (made[..., :n].min(), made[..., :n].max()) == (0, 255)
    assert np.array_equal(made[..., n:], np.rint(pixels[..., n:] / 257))
    order = np.argsort(pixels[..., 0], axis=None)
    assert (np.diff(made[..., 0].ravel()[order].astype(int)) >= 0).all()


def test_a_few_hot_samples_do_not_make_the_rest_black() -> None:
    pixels = (picture((100, 100, 1), dtype="uint16") >> 6).astype(np.uint16)
    pixels[3, 4] = 65535
    assert display.window_of(pixels).high < 2000


@given(value=st.integers(0, 65535), side=st.integers(1, 20))
def test_one_value_is_as_bright_as_it_is(value: int, side: int) -> None:
    made = display.shown(np.full((side, side, 1), value, np.uint16))
    assert (made == round(value / 257)).all()


@given(height=st.integers(1, 300), width=st.integers(1, 300), side=st.integers(8, 64), channels=st.integers(1, 4))
def test_what_is_fitted_fits_and_keeps_its_shape(height: int, width: int, side: int, channels: int) -> None:
    pixels = np.zeros((height, width, channels), np.uint8)
    made = display.fitted(pixels, side, side)
    assert made.shape[2] == channels
    if max(height, width) <= side:
        assert made is pixels
    else:
        assert max(made.shape[:2]) == side
        assert abs(made.shape[0] - max(1, height * side / max(height, width))) <= 0.5


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_differences(channels: int, dtype: str) -> None:
    original = picture((6, 5, channels), dtype=dtype)
    decoded = original.copy()
    window = display.window_of(original)
    assert not display.difference(original, decoded, window, 256).any()
    step = 3 * (1 if dtype == "uint8" else 257)
    decoded[2, 3, -1] = original[2, 3, -1] - step if original[2, 3, -1] >= step else original[2, 3, -1] + step
    made = display.difference(original, decoded, window, 8)
    assert made.shape == (6, 5, 1 if channels < 3 else 3)
    assert [tuple(place) for place in np.argwhere(made.any(axis=2))] == [(2, 3)]
    if channels in (2, 4):  # alpha, in all colours, whatever the window
        assert (made[2, 3] == 24).all()
    elif dtype == "uint8":
        assert made[2, 3, -1] == 24
    else:
        assert made[2, 3, -1] >= 24  # stretched, as the image is
