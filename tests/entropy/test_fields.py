"""Integers of a few bits side by side: round trips, the bytes themselves, and data that are none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcodec.entropy import fields
from batchcodec.errors import PayloadError


@st.composite
def rows(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    bits = np.array(draw(st.lists(st.integers(0, 8), max_size=6)), np.uint8)
    n = draw(st.integers(0, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(0, 256, (len(bits), n), dtype=np.uint8)
    return (random >> (8 - bits[:, None]) if bits.size else random), bits


def reference(found: np.ndarray, bits: np.ndarray) -> bytes:
    """As text of 0 and 1."""
    text = "".join(f"{value:0{n}b}" for row, n in zip(found.tolist(), bits.tolist(), strict=True) for value in row if n)
    return bytes(int(text[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(text), 8))


@given(rows())
def test_round_trip_and_reference(case: tuple[np.ndarray, np.ndarray]) -> None:
    found, bits = case
    data = fields.pack(found, bits)
    assert data == reference(found, bits)
    assert len(data) == fields.n_bytes(bits, found.shape[1])
    back = fields.unpack(data, bits, found.shape[1])
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, found)


def test_eight_bits_are_the_bytes() -> None:
    found = np.arange(512, dtype=np.uint16).astype(np.uint8).reshape(2, 256)
    assert fields.pack(found, np.array([8, 8])) == found.tobytes()


def test_the_bytes() -> None:
    """They are the format: a change here is a new bitstream."""
    assert fields.pack(np.array([[1, 7, 2], [0, 0, 0], [1, 0, 1]], np.uint8), np.array([3, 0, 1])).hex() == "3d50"


@pytest.mark.parametrize(
    ("found", "bits"),
    [
        (np.array([[8]], np.uint8), np.array([3])),
        (np.array([[1]], np.uint8), np.array([0])),
        (np.array([[1]]), np.array([3])),
        (np.array([1], np.uint8), np.array([3])),
        (np.array([[1]], np.uint8), np.array([3, 3])),
    ],
    ids=["too large", "not 0", "of another type", "not rows", "bits of other rows"],
)
def test_what_is_not_packed(found: np.ndarray, bits: np.ndarray) -> None:
    with pytest.raises(ValueError, match="bits"):
        fields.pack(found, bits)


@pytest.mark.parametrize("data", ["3d", "3d5000", "3d51", "", "3d58"])
def test_data_that_are_none(data: str) -> None:
    with pytest.raises(PayloadError, match="fields of 3 rows"):
        fields.unpack(bytes.fromhex(data), np.array([3, 0, 1]), 3)
