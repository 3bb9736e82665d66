"""PSNR, SSIM and MS-SSIM against their definitions, written out plainly, and against other implementations."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
from helpers import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec import metrics
from batchcodec.metrics import similarity
from batchcodec.metrics.errors import _CHUNK_SAMPLES
from batchcodec.types import Pixels


def _pair(shape: tuple[int, int, int], dtype: str = "uint8", n: int = 3) -> tuple[Pixels, Pixels]:
    original = np.stack([picture(shape, i, dtype) for i in range(n)])
    peak = np.iinfo(dtype).max
    noise = np.random.default_rng(0).normal(0, peak / 25, original.shape)
    return original, np.clip(original + noise, 0, peak).astype(dtype)


def _naive_ssim(x: Pixels, y: Pixels, peak: float) -> float:
    """Wang et al. 2004 for one channel, position by position, with two-pass variances."""
    offsets = range(-5, 6)
    weights = np.array([[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in offsets] for i in offsets])
    weights /= weights.sum()
    values = []
    for top in range(x.shape[0] - 10):
        for left in range(x.shape[1] - 10):
            a = x[top : top + 11, left : left + 11].astype(float)
            b = y[top : top + 11, left : left + 11].astype(float)
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            var_a, var_b = (weights * (a - mean_a) ** 2).sum(), (weights * (b - mean_b) ** 2).sum()
            covariance = (weights * (a - mean_a) * (b - mean_b)).sum()
            c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
            values.append(
                (2 * mean_a * mean_b + c1) * (2 * covariance + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    return float(np.mean(values))


@pytest.mark.parametrize(("dtype", "peak"), [("uint8", 255), ("uint16", 65535)])
def test_mse_psnr_and_largest_error(dtype: str, peak: int) -> None:
    original, decoded = _pair((13, 17, 3), dtype)
    for i in range(3):
        errors = [int(a) - int(b) for a, b in zip(original[i].ravel(), decoded[i].ravel(), strict=True)]
        mse = sum(e * e for e in errors) / len(errors)
        assert metrics.mse(original, decoded)[i] == pytest.approx(mse, rel=1e-12)
        assert metrics.psnr(original, decoded)[i] == pytest.approx(10 * math.log10(peak**2 / mse), rel=1e-12)
        assert metrics.max_error(original, decoded)[i] == max(map(abs, errors))


def test_known_values() -> None:
    black, white = np.zeros((1, 16, 16, 1), np.uint8), np.full((1, 16, 16, 1), 255, np.uint8)
    assert metrics.psnr(black, white)[0] == 0
    assert metrics.psnr(black, black + np.uint8(1))[0] == pytest.approx(48.1308036)
    assert metrics.psnr(black, black)[0] == math.inf
    assert metrics.max_error(black, white)[0] == 255
    assert metrics.ssim(black, black)[0] == 1
    assert metrics.ssim(black, white)[0] == pytest.approx(0.01**2 / (1 + 0.01**2))


def test_an_equal_image_counts_100_db_in_a_mean() -> None:
    assert metrics.mean_psnr(np.array([math.inf, 40.0])) == 70
    assert metrics.mean_psnr(np.array([math.inf])) == metrics.LOSSLESS_PSNR == 100


@pytest.mark.parametrize(("shape", "dtype"), [((15, 19, 1), "uint8"), ((11, 14, 3), "uint8"), ((13, 12, 1), "uint16")])
def test_ssim_is_the_published_formula(shape: tuple[int, int, int], dtype: str) -> None:
    original, decoded = _pair(shape, dtype, n=2)
    peak = float(np.iinfo(dtype).max)
    for i in range(2):
        expected = np.mean([_naive_ssim(original[i, ..., c], decoded[i, ..., c], peak) for c in range(shape[2])])
        assert metrics.ssim(original, decoded)[i] == pytest.approx(expected, abs=1e-9)


@pytest.mark.skipif(importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed")
@pytest.mark.parametrize("shape", [(40, 51, 1), (33, 40, 3)])
def test_ssim_is_that_of_scikit_image(shape: tuple[int, int, int]) -> None:
    from skimage.metrics import structural_similarity

    original, decoded = _pair(shape)
    for i, value in enumerate(metrics.ssim(original, decoded)):
        expected = structural_similarity(
            original[i], decoded[i], gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=2
        )
        assert value == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 3), (10, 7, 1), (2, 2, 4)])
def test_ssim_of_images_smaller_than_the_window(shape: tuple[int, int, int]) -> None:
    original, decoded = _pair(shape)
    assert np.isfinite(metrics.ssim(original, decoded)).all()
    np.testing.assert_allclose(metrics.ssim(original, original), 1)


def test_large_batches_are_measured_in_parts() -> None:
    original, decoded = _pair((64, 64, 3), n=4)
    original, decoded = np.repeat(original, 30, axis=0), np.repeat(decoded, 30, axis=0)  # more than one part
    assert original.size > _CHUNK_SAMPLES
    for measure in (metrics.mse, metrics.psnr, metrics.ssim, metrics.ms_ssim, metrics.max_error):
        values = measure(original, decoded)
        assert values.shape == (120,)
        np.testing.assert_allclose(values[::30], measure(original[::30], decoded[::30]))


@settings(max_examples=50)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_ssim_is_symmetric_and_at_most_1(height: int, width: int, channels: int, seed: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 256, (2, 1, height, width, channels), dtype=np.uint8)
    value = metrics.ssim(a, b)[0]
    assert value == pytest.approx(metrics.ssim(b, a)[0])
    assert -1 <= value <= 1 + 1e-9


@pytest.mark.skipif(importlib.util.find_spec("pytorch_msssim") is None, reason="pytorch-msssim is not installed")
@pytest.mark.parametrize(("shape", "dtype"), [((176, 192, 3), "uint8"), ((192, 176, 1), "uint8"), ((176, 176, 1), "uint16")])
def test_ms_ssim_is_that_of_pytorch_msssim(shape: tuple[int, int, int], dtype: str) -> None:
    import torch
    from pytorch_msssim import ms_ssim

    original, decoded = _pair(shape, dtype, n=2)
    tensors = [torch.from_numpy(x.astype(np.float64)).permute(0, 3, 1, 2) for x in (original, decoded)]
    expected = ms_ssim(*tensors, data_range=float(np.iinfo(dtype).max), size_average=False)
    assert metrics.ms_ssim(original, decoded) == pytest.approx(expected.numpy(), abs=1e-6)


@pytest.mark.skipif(importlib.util.find_spec("skimage") is None, reason="scikit-image is not installed")
@pytest.mark.parametrize("shape", [(64, 64, 1), (45, 67, 3), (21, 33, 2), (162, 171, 1)])
def test_ms_ssim_scale_by_scale(shape: tuple[int, int, int]) -> None:
    """Of any size: scikit-image's SSIM at the last scale, and at the others with the constant of luminance so large that its
    term is 1, which leaves contrast and structure."""
    from skimage.metrics import structural_similarity

    original, decoded = _pair(shape, n=2)
    scales = metrics.n_scales(*shape[:2])
    weights = np.array(similarity.SCALE_WEIGHTS[:scales]) / (1 if scales == 5 else sum(similarity.SCALE_WEIGHTS[:scales]))
    for i, found in enumerate(metrics.ms_ssim(original, decoded)):
        values = []
        for c in range(shape[2]):
            x, y = original[i, ..., c].astype(float), decoded[i, ..., c].astype(float)
            value = 1.0
            for scale, weight in enumerate(weights):
                if scale:
                    x, y = _half(x), _half(y)
                last = scale == scales - 1
                term = structural_similarity(
                    x, y, gaussian_weights=True, use_sample_covariance=False, data_range=255, K1=0.01 if last else 1e6
                )
                value *= max(term, 0) ** weight
            values.append(value)
        assert found == pytest.approx(np.mean(values), abs=1e-6)


def _half(x: np.ndarray) -> np.ndarray:
    """Means of 2 by 2; an odd edge is repeated."""
    x = np.pad(x, [(0, side % 2) for side in x.shape], mode="edge")
    return x.reshape(x.shape[0] // 2, 2, x.shape[1] // 2, 2).mean(axis=(1, 3))


def test_scales_by_the_smaller_side() -> None:
    sides = (1, 20, 21, 40, 41, 80, 81, 160, 161, 5000)
    assert [metrics.n_scales(side, 5000) for side in sides] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert [metrics.n_scales(5000, side) for side in sides] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_opposite_images_have_ms_ssim_0_and_no_nan() -> None:
    x = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    original = x[None, :, :, None].astype(np.uint8)
    assert metrics.ssim(original, 255 - original)[0] < 0
    assert metrics.ms_ssim(original, 255 - original)[0] == 0


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@settings(max_examples=30)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_all_measures_at_once_are_those_of_each(dtype: str, height: int, width: int, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, np.iinfo(dtype).max, (2, 2, height, width, channels), dtype=dtype, endpoint=True)
    b = np.where(rng.random(b.shape) < rng.random(), a, b)
    found = metrics.measure(a, b)
    np.testing.assert_allclose(found.mse, metrics.mse(a, b), rtol=1e-12)
    np.testing.assert_allclose(found.psnr, metrics.psnr(a, b))
    np.testing.assert_array_equal(found.max_error, metrics.max_error(a, b))
    np.testing.assert_array_equal(found.ssim, metrics.ssim(a, b))
    np.testing.assert_array_equal(found.ms_ssim, metrics.ms_ssim(a, b))
    assert ((found.ms_ssim >= 0) & (found.ms_ssim <= 1 + 1e-9)).all()


def test_read_only_and_strided_arrays_are_measured() -> None:
    original, decoded = _pair((32, 32, 3))
    original.flags.writeable = False
    expected = metrics.measure(original, decoded)
    turned = np.ascontiguousarray(decoded[:, :, ::-1])[:, :, ::-1]
    np.testing.assert_array_equal(metrics.measure(original, turned).ssim, expected.ssim)


def test_batches_of_two_kinds_are_refused() -> None:
    original, decoded = _pair((16, 16, 1))
    for other in (decoded[:2], decoded.astype(np.uint16)):
        with pytest.raises(ValueError, match="not of one kind"):
            metrics.measure(original, other)
