"""Every classical codec, with every set of options that changes its bytes, through the conformance kit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from batchcodec_plugins.codecs import register_codecs

from batchcodec.errors import UnsupportedImageError
from batchcodec.testing import check_codec
from batchcodec.types import GroupSpec, ImageSpec, Pixels

CODECS = {codec.codec_id: codec for codec in register_codecs()}
FAST = {"avif": {"speed": 10}, "jxl": {"effort": 1}, "png": {"level": 1}, "zstd": {"level": 3}, "webp": {"method": 0}}
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("store", {}),
    ("zstd", {}),
    ("zstd", {"filter": "none"}),
    ("png", {}),
    ("png", {"mosaic": True}),
    ("bmp", {}),
    ("bmp", {"mosaic": True}),
    ("jpeg", {}),
    ("jpeg", {"mosaic": True}),
    ("jpeg", {"quality": 100, "subsampling": "4:4:4"}),
    ("jpeg2000", {}),
    ("jpeg2000", {"mosaic": True, "psnr": 30}),
    ("jpeg2000", {"lossless": True}),
    ("jpeg2000", {"lossless": True, "mosaic": True}),
    ("webp", {}),
    ("webp", {"mosaic": True}),
    ("webp", {"lossless": True}),
    ("webp", {"lossless": True, "mosaic": True}),
    ("avif", {}),
    ("avif", {"mosaic": True, "subsampling": "4:2:0", "tune": "psnr"}),
    ("avif", {"lossless": True}),
    ("avif", {"lossless": True, "mosaic": True}),
    ("jxl", {}),
    ("jxl", {"mosaic": True}),
    ("jxl", {"lossless": True}),
    ("jxl", {"lossless": True, "mosaic": True}),
]
LOSSY = [(name, options) for name, options in VARIANTS if not CODECS[name](**options).lossless]
each_variant = pytest.mark.parametrize(
    ("name", "options"), VARIANTS, ids=[f"{name}-{'-'.join(map(str, options.values()))}" for name, options in VARIANTS]
)


def fast_codec(name: str, options: dict[str, Any]) -> Any:
    if name in ("avif", "jxl", "png", "jpeg2000"):
        pytest.importorskip("imagecodecs")
    return CODECS[name](**{**FAST.get(name, {}), **options})


def takes(codec: Any, spec: ImageSpec) -> bool:
    try:
        codec.check(spec)
    except UnsupportedImageError:
        return False
    return True


@each_variant
@pytest.mark.parametrize("shape", [(2, 1, 1), (4, 3, 5), (5, 28, 28), (3, 17, 200), (1, 64, 64)], ids=str)
def test_codec_keeps_the_laws_on_generated_images(name, options, shape, make_images):
    codec = fast_codec(name, options)
    taken = 0
    for dtype in ("uint8", "uint16"):
        for channels in (1, 2, 3, 4):
            if takes(codec, ImageSpec(8, 8, channels, dtype)):
                check_codec(codec, make_images(*shape, channels, dtype), n_damaged=12)
                taken += 1
    assert taken >= 2


@each_variant
def test_codec_keeps_the_laws_on_noise_and_on_a_constant(name, options):
    codec = fast_codec(name, options)
    noise = np.random.default_rng(3).integers(0, 256, (3, 41, 52, 3), dtype=np.uint8)
    check_codec(codec, noise, n_damaged=0)
    check_codec(codec, np.full_like(noise, 7), n_damaged=0)


@each_variant
def test_opaque_and_transparent_alpha_come_back(name, options, make_images):
    codec = fast_codec(name, options)
    for channels in (2, 4):
        if not takes(codec, ImageSpec(8, 8, channels)):
            continue
        images = make_images(3, 20, 24, channels)
        for alpha in (255, 0):
            images[..., -1] = alpha
            check_codec(codec, images, n_damaged=0)
            decoded = codec.decode(codec.encode(images), GroupSpec.of(images))
            assert np.abs(decoded[..., -1].astype(int) - alpha).max() <= (0 if codec.lossless else 40)
            assert psnr(decoded[..., :-1], images[..., :-1]) > 25  # colour under transparency is kept


@each_variant
def test_codec_round_trips_all_kodak_crops(name, options, kodak):
    crops = np.stack([image[200:264, 300:372] for image in kodak])
    check_codec(fast_codec(name, options), crops, n_damaged=2)


@each_variant
def test_codec_round_trips_the_odd_files(name, options, odd_images):
    codec = fast_codec(name, options)
    taken = [image for image in odd_images if takes(codec, ImageSpec.of(image))]
    assert len(taken) >= 10
    for image in taken:
        check_codec(codec, image[None], n_damaged=1)


@pytest.mark.slow
@each_variant
def test_whole_kodak(name, options, kodak):
    """All 24 at full size: the lossless bit for bit, the lossy with a quality that shows that nothing is mixed up."""
    if not options.get("mosaic") and (name, {**options, "mosaic": True}) in VARIANTS:
        pytest.skip("the mosaic of the same options is as telling")
    codec = fast_codec(name, options)
    for height in (512, 768):
        images: Pixels = np.stack([image for image in kodak if image.shape[0] == height])
        decoded = codec.decode(codec.encode(images), GroupSpec.of(images))
        if codec.lossless:
            assert np.array_equal(decoded, images)
        else:
            assert min(map(psnr, decoded, images)) > 24


@pytest.mark.parametrize(("name", "options"), LOSSY, ids=lambda value: value if isinstance(value, str) else "")
@pytest.mark.parametrize("channels", [1, 3])
def test_lossy_pictures_resemble_the_source(name, options, channels, make_images):
    images = make_images(7, 30, 45, channels)
    codec = fast_codec(name, options)
    decoded = codec.decode(codec.encode(images), GroupSpec.of(images))
    assert min(map(psnr, decoded, images)) > 25


@pytest.mark.parametrize("name", ["avif", "webp", "jxl", "jpeg", "jpeg2000"])
def test_a_mosaic_is_smaller_than_files(name, make_images):
    images = make_images(36, 28, 28, 1)
    files, mosaic = fast_codec(name, {}).encode(images), fast_codec(name, {"mosaic": True}).encode(images)
    assert len(mosaic) < len(files)


def psnr(first: Pixels, second: Pixels) -> float:
    """dB, peak 255."""
    error = np.mean((first.astype(float) - second) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))
