"""Products of 16-bit integers and of bytes, beside numpy's in 64 bits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from batchcodec.learned import products


def expected(x: NDArray[np.int16], weight: NDArray[np.int8]) -> NDArray[np.int32]:
    """The convolution of [N, H, W, I], modulo 2^32."""
    kernel = weight.shape[2]
    edge = kernel // 2
    wide = np.pad(x.astype(np.int64), ((0, 0), (edge, edge), (edge, edge), (0, 0)))
    height, width = x.shape[1:3]
    total = np.zeros((*x.shape[:3], len(weight)), np.int64)
    for i in range(kernel):
        for j in range(kernel):
            total += wide[:, i : i + height, j : j + width] @ weight[:, :, i, j].astype(np.int64).T
    return total.astype(np.int32)


def found(x: NDArray[np.int16] | NDArray[np.int8], weight: NDArray[np.int8]) -> NDArray[np.int32]:
    """By words, or for int8 [N, H, W, I] by bytes."""
    n, height, width, channels = x.shape
    n_out, kernel = len(weight), weight.shape[2]
    kind, inputs = (np.int8, np.uint8) if x.dtype == np.int8 else (np.int16, np.int16)
    wild = np.full(products.BEYOND, np.iinfo(inputs).max, inputs)
    if kernel == 1:
        seen = np.concatenate([(x.reshape(-1).astype(np.int16) + products.zero_of(wild)).astype(inputs), wild])
    else:
        seen = np.resize(wild, n * (height + 2) * (width + 2) * channels + products.BEYOND)
        products.with_border(x.reshape(-1), height, width, channels, 0, height, seen)
        assert np.array_equal(seen[-products.BEYOND :], wild)
    guard = np.full(n * height * width * n_out + products.ROOM + 5, 77, np.int32)
    weights = products.laid_out(weight, kind), products.begins(weight, kind)
    products.convolved(seen, height, width, channels, kernel, *weights, n_out, guard[:-5])
    assert (guard[-5:] == 77).all()
    return guard[: n * height * width * n_out].reshape(n, height, width, n_out)


needs_bytes = pytest.mark.skipif(not products.BYTES, reason="no instruction for bytes")


@settings(max_examples=200)
@given(
    st.integers(0, 2**32),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 9),
    st.integers(1, 20),
    st.integers(1, 50),
    st.sampled_from([1, 3]),
    st.sampled_from([127, 32767]),
)
def test_convolutions(seed: int, n: int, height: int, width: int, n_in: int, n_out: int, kernel: int, reach: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-reach, reach + 1, (n, height, width, n_in)).astype(np.int16)
    weight = rng.integers(-128, 128, (n_out, n_in, kernel, kernel)).astype(np.int8)
    assert np.array_equal(found(x, weight), expected(x, weight))
    if products.BYTES and reach == 127:
        assert np.array_equal(found(x.astype(np.int8), weight), expected(x, weight))


def test_the_largest_numbers() -> None:
    """Sums that pass 2^31 go on modulo 2^32."""
    x = np.full((1, 3, 7, 64), -32768, np.int16)
    weight = np.full((24, 64, 3, 3), -128, np.int8)
    assert np.array_equal(found(x, weight), expected(x, weight))


@needs_bytes
@pytest.mark.parametrize("value", [-128, -127, 127])
@pytest.mark.parametrize("factor", [-128, 127])
def test_bytes_are_not_clipped_in_between(value: int, factor: int) -> None:
    """As older instructions do, to 16 bits for the sum of two products."""
    x, weight = np.full((1, 3, 7, 64), value, np.int8), np.full((24, 64, 3, 3), factor, np.int8)
    assert np.array_equal(found(x, weight), expected(x.astype(np.int16), weight))


@pytest.mark.parametrize("kind", [np.int8, np.int16])
def test_some_lines_with_what_is_around_them(kind: type) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-127, 128, (2, 6, 5, 3)).astype(kind)
    whole = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))).astype(np.int16)
    for first, n_lines in ((0, 6), (0, 1), (2, 3), (5, 1)):
        out = np.empty((2, n_lines + 2, 7, 3), np.int16)
        products.with_border(x.reshape(-1), 6, 5, 3, first, n_lines, out.reshape(-1))
        assert np.array_equal(out, whole[:, first : first + n_lines + 2])
        if kind is np.int8:
            shifted = np.empty(out.shape, np.uint8)
            products.with_border(x.reshape(-1), 6, 5, 3, first, n_lines, shifted.reshape(-1))
            assert np.array_equal(shifted, out + products.ZERO)


INSIDE = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[1])
from test_products import expected, found
rng = np.random.default_rng(0)
for kernel, n_in, n_out in ((3, 24, 24), (1, 65, 42), (3, 1, 1)):
    x = rng.integers(-32767, 32768, (2, 5, 7, n_in)).astype(np.int16)
    weight = rng.integers(-127, 128, (n_out, n_in, kernel, kernel)).astype(np.int8)
    assert np.array_equal(found(x, weight), expected(x, weight))
print("same")
"""


@pytest.mark.parametrize("name", ["generic", "nehalem"])
def test_code_for_other_processors(name: str, tmp_path: Path) -> None:
    """Those without AVX2: vectors are split, and the numbers are the same."""
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, str(Path(__file__).parent)],
        env={**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr
