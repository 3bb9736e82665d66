"""Payloads made to harm: bombs, lies about shapes, other formats inside."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import zstandard
from batchcodec_plugins.codecs import register_codecs
from batchcodec_plugins.codecs.layout import join_pictures

from batchcodec.errors import PayloadError
from batchcodec.types import GroupSpec, ImageSpec

CODECS = {codec.codec_id: codec for codec in register_codecs()}
PICTURE_CODECS = ("png", "bmp", "jpeg", "jpeg2000", "webp", "avif", "jxl")
CHEAP = {"avif": {"speed": 10}, "jxl": {"effort": 1}, "png": {"level": 1}, "webp": {"method": 0}}


@pytest.mark.parametrize("name", PICTURE_CODECS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_bomb_is_refused_by_its_header(name, dtype):
    options = {**CHEAP.get(name, {}), **({"lossless": True} if dtype == "uint16" and name in ("jxl", "jpeg2000") else {})}
    codec = CODECS[name](**options)
    if dtype not in codec.dtypes:
        pytest.skip(f"{name} has no {dtype}")
    payload = codec.encode(np.zeros((1, 2000, 2000, 3), dtype))
    lie = GroupSpec(1, ImageSpec(8, 8, 3, dtype))
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError, match=r"2000|shape"):
            codec.decode(payload, lie)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(payload) + 2_000_000


@pytest.mark.parametrize("mosaic", [False, True])
@pytest.mark.parametrize("name", PICTURE_CODECS)
@pytest.mark.parametrize("n_items", [0, -1, 2, 10**6, 10**15])
def test_a_lie_about_the_number_of_items_is_refused(name, mosaic, n_items, make_images):
    codec = CODECS[name](**CHEAP.get(name, {}), mosaic=mosaic)
    payload = codec.encode(make_images(1, 16, 16, 3))
    with pytest.raises(PayloadError):
        codec.decode(payload, GroupSpec(n_items, ImageSpec(16, 16, 3)))


@pytest.mark.parametrize("name", CODECS)
def test_a_lie_about_the_shape_is_refused(name, make_images):
    codec = CODECS[name](**CHEAP.get(name, {}))
    payload = codec.encode(make_images(2, 16, 16, 3))
    for image in (ImageSpec(16, 17, 3), ImageSpec(10**6, 10**6, 3), ImageSpec(16, 16, 3, "float64"), ImageSpec(16, 16, 9)):
        with pytest.raises(PayloadError):
            codec.decode(payload, GroupSpec(2, image))


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("items", [[2], [-1], [0, 5]])
def test_items_outside_of_the_group_are_an_index_error(name, items, make_images):
    codec = CODECS[name](**CHEAP.get(name, {}))
    payload = codec.encode(make_images(2, 16, 16, 3))
    with pytest.raises(IndexError, match="group of 2"):
        codec.decode(payload, GroupSpec(2, ImageSpec(16, 16, 3)), items)


@pytest.mark.parametrize("inside", PICTURE_CODECS)
@pytest.mark.parametrize("name", PICTURE_CODECS)
def test_a_picture_of_another_format_is_refused(name, inside, make_images):
    if name == inside:
        return
    payload = CODECS[inside](**CHEAP.get(inside, {})).encode(make_images(1, 16, 16, 3))
    with pytest.raises(PayloadError):
        CODECS[name]().decode(payload, GroupSpec(1, ImageSpec(16, 16, 3)))


@pytest.mark.parametrize("name", PICTURE_CODECS)
@pytest.mark.parametrize("picture", [b"", b"\x00", b"junk" * 20])
def test_junk_is_refused(name, picture):
    with pytest.raises(PayloadError):
        CODECS[name]().decode(join_pictures([picture]), GroupSpec(1, ImageSpec(16, 16, 3)))


def test_a_jp2_file_is_refused_since_it_states_its_size_twice():
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "JPEG2000")
    with pytest.raises(PayloadError, match="not a codestream"):
        CODECS["jpeg2000"]().decode(join_pictures([buffer.getvalue()]), GroupSpec(1, ImageSpec(16, 16, 3)))


def test_a_zstd_frame_must_state_the_size_that_it_has():
    spec = GroupSpec(1, ImageSpec(16, 16, 3))
    bomb = zstandard.compress(bytes(50_000_000))
    unknown = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(spec.n_bytes))
    trailing = zstandard.compress(bytes(spec.n_bytes)) + b"more"
    for payload in (bomb, unknown, trailing, b"", b"junk"):
        with pytest.raises(PayloadError):
            CODECS["zstd"]().decode(payload, spec)
