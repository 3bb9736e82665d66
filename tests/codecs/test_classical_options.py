"""Options, configs, limits and imports of the classical codecs."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from batchcodec_plugins.codecs import register_codecs
from batchcodec_plugins.codecs.jxl import distance_of
from batchcodec_plugins.codecs.layout import MosaicRule

from batchcodec.errors import MissingDependencyError, ModelError, OptionError, PayloadError, UnsupportedImageError
from batchcodec.types import GroupSpec, ImageSpec

CODECS = {codec.codec_id: codec for codec in register_codecs()}


def test_ids_are_frozen():
    assert list(CODECS) == ["store", "zstd", "png", "bmp", "jpeg", "jpeg2000", "webp", "avif", "jxl"]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_help_names_every_option_and_its_default(codec):
    assert codec.summary
    assert set(codec.options_help) == set(codec().options)
    for name, line in codec.options_help.items():
        assert f"(default {str(codec().options[name]).lower()})" in line.lower()


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("zstd", "level", 0),
        ("zstd", "level", 23),
        ("zstd", "level", "19"),
        ("zstd", "level", True),
        ("zstd", "filter", "right"),
        ("png", "level", 2.5),
        ("png", "mosaic", 1),
        ("jpeg", "quality", 101),
        ("jpeg", "subsampling", "4:1:1"),
        ("jpeg2000", "psnr", float("nan")),
        ("jpeg2000", "psnr", 10**400),
        ("webp", "lossless", "yes"),
        ("avif", "speed", 11),
        ("jxl", "quality", 0),
    ],
)
def test_a_bad_value_is_refused_with_what_is_allowed(name, option, value):
    with pytest.raises(OptionError, match=option) as caught:
        CODECS[name](**{option: value})
    assert caught.value.fields["allowed"]


def test_an_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(OptionError, match="quality, subsampling, mosaic"):
        CODECS["jpeg"](qualtiy=40)
    with pytest.raises(OptionError, match="no option at all"):
        CODECS["store"](level=1)


def test_an_integer_is_taken_for_a_number():
    assert CODECS["jpeg2000"](psnr=40).options["psnr"] == 40.0
    assert CODECS["jxl"](quality=90).get_config()["quality"] == 90.0


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_a_bad_config_is_refused(codec):
    for name in codec().options:
        with pytest.raises(PayloadError):
            codec.restore({name: {"x": [None]}}, b"")
    with pytest.raises(PayloadError):
        codec.restore([1, 2], b"")
    with pytest.raises(ModelError):
        codec.restore({}, b"weights")
    if "mosaic" in codec().options:
        with pytest.raises(PayloadError, match="layout"):
            codec.restore({"mosaic": True}, b"")
    assert codec.restore({"from_the_future": 1}, b"").get_config() == codec().get_config()


@pytest.mark.parametrize(
    ("name", "options", "spec"),
    [
        ("jpeg", {}, ImageSpec(8, 8, 4)),
        ("jpeg", {}, ImageSpec(8, 8, 1, "uint16")),
        ("jpeg", {}, ImageSpec(1, 65_501, 3)),
        ("webp", {}, ImageSpec(16_384, 1, 3)),
        ("webp", {"lossless": True}, ImageSpec(8, 8, 1, "uint16")),
        ("avif", {"lossless": True}, ImageSpec(8, 8, 3, "uint16")),
        ("avif", {}, ImageSpec(32_768, 8_193, 3)),
        ("avif", {}, ImageSpec(0, 8, 3)),
        ("jxl", {}, ImageSpec(8, 8, 3, "uint16")),
        ("jxl", {}, ImageSpec(8, 8, 4)),
        ("jpeg2000", {}, ImageSpec(8, 8, 1, "uint16")),
        ("bmp", {}, ImageSpec(8, 8, 2)),
        ("png", {}, ImageSpec(8, 8, 5)),
        ("store", {}, ImageSpec(8, 8, 3, "float32")),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(name, options, spec):
    with pytest.raises(UnsupportedImageError, match=name):
        CODECS[name](**options).check(spec)


def test_sixteen_bits_are_taken_where_they_are_kept():
    for name, options in [
        ("jxl", {"lossless": True}),
        ("jpeg2000", {"lossless": True}),
        ("png", {}),
        ("zstd", {}),
        ("store", {}),
    ]:
        CODECS[name](**options).check(ImageSpec(8, 8, 3, "uint16"))


def test_only_lossless_is_called_exact():
    assert {name for name, codec in CODECS.items() if codec().exact} == {"store", "zstd", "png", "bmp"}
    for name in ("jpeg2000", "webp", "avif", "jxl"):
        assert CODECS[name](lossless=True).exact


def test_of_several_mosaics_only_those_asked_for_are_decoded(monkeypatch, make_images):
    codec, images = CODECS["png"](mosaic=True), make_images(10, 8, 8, 3)
    codec.mosaic_rule = MosaicRule(max_side=16)  # 2 x 2 tiles: 3 pictures
    payload, spec = codec.encode(images), GroupSpec.of(images)
    decoder, decoded = CODECS["png"].restore(codec.get_config(), b""), []
    decode_picture = decoder.decode_picture
    monkeypatch.setattr(decoder, "decode_picture", lambda *args: decoded.append(1) or decode_picture(*args))
    assert np.array_equal(decoder.decode(payload, spec, [9, 1, 8]), images[[9, 1, 8]])
    assert len(decoded) == 2
    assert np.array_equal(decoder.decode(payload, spec), images)


@pytest.mark.parametrize("name", ["avif", "jxl", "zstd"])
def test_bytes_do_not_depend_on_the_number_of_cores(name, monkeypatch, make_images):
    images, payloads = make_images(4, 200, 300, 3), set()
    for n_cores in (1, 2, 16):
        monkeypatch.setattr("os.cpu_count", lambda n_cores=n_cores: n_cores)
        monkeypatch.setattr("os.sched_getaffinity", lambda pid, n_cores=n_cores: set(range(n_cores)), raising=False)
        payloads.add(CODECS[name](**({} if name == "zstd" else {"mosaic": True})).encode(images))
    assert len(payloads) == 1


def test_quality_of_jpeg_xl_is_that_of_cjxl():
    assert [round(distance_of(quality), 3) for quality in (90, 75, 30, 10)] == [1.0, 2.35, 6.4, 15.267]


def test_without_imagecodecs_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    images = np.zeros((1, 4, 4, 3), np.uint8)
    cases = [("jxl", {}, images), ("avif", {"lossless": True}, images), ("png", {}, images.astype(np.uint16))]
    for name, options, group in cases:
        with pytest.raises(MissingDependencyError, match=f"codec {name}.*imagecodecs"):
            CODECS[name](**options).encode(group)
    assert CODECS["avif"](lossless=True).encode(images[..., :1])  # gray needs Pillow only


def test_importing_the_codecs_is_cheap():
    heavy = "PIL, imagecodecs, torch"
    code = (
        "import sys; from batchcodec_plugins.codecs import register_codecs\n"
        "for codec in register_codecs(): codec(), codec.options_help\n"
        f"print([name for name in '{heavy}'.split(', ') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
