"""Items for the tests of formats, and a way to compare them."""

from __future__ import annotations

import io
import string
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from batchcodec.types import Item


def noise(shape: tuple[int, ...], dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng([seed, *shape])
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def items_of(n: int, shape: tuple[int, int, int] = (5, 7, 1), dtype: str = "uint8", labels: bool = True) -> list[Item]:
    return [Item(f"{i:06d}.png", noise(shape, dtype, i), str(i % 3) if labels else None) for i in range(n)]


def png_bytes(pixels: np.ndarray) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(out, "PNG")
    return out.getvalue()


def assert_same(found: Sequence[Item], expected: Sequence[Item], *, names: bool = True, labels: bool = True) -> None:
    assert len(found) == len(expected)
    for left, right in zip(found, expected, strict=True):
        np.testing.assert_array_equal(left.pixels, right.pixels)
        assert left.pixels.dtype == right.pixels.dtype
        assert left.pixels.flags.c_contiguous
        if names:
            assert left.name == right.name
        if labels:
            assert left.label == right.label


# Unicode, spaces, newlines, dots inside; no leading dot (hidden) and nothing that is unsafe.
component_text = st.text(
    st.one_of(
        st.sampled_from(string.ascii_letters + " ._-\n\t"), st.characters(exclude_categories=["C"], exclude_characters="/\\:")
    ),
    min_size=1,
    max_size=12,
)
components = component_text.filter(lambda text: not text.startswith("."))
stems = st.lists(components, min_size=1, max_size=3).map("/".join)
long_stems = st.just("長" * 70 + "x" * 30)  # 240 bytes in UTF-8
shapes = st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
dtypes = st.sampled_from(["uint8", "uint16"])
labels_text = st.text(st.characters(exclude_categories=["C"]), min_size=1, max_size=8)
