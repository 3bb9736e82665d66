"""The conversion rule on made-up files: one test per row of the table, and per way to fail."""

from __future__ import annotations

import base64
import io
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from batchcodec_plugins.formats.pixels import Decoded, count_frames, read_image
from batchcodec_plugins.formats.quiet import quiet
from PIL import Image

from batchcodec.errors import ItemError

from .samples import noise

imagecodecs = pytest.importorskip("imagecodecs")
tifffile = pytest.importorskip("tifffile")


def read(data: bytes, **options: object) -> Decoded:
    return read_image(Path("set"), "a.png", io.BytesIO(data), **options)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_8_bits_are_kept(channels: int) -> None:
    pixels = noise((5, 7, channels))
    decoded = read(saved(Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels)))
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert decoded.notes == ()
    assert decoded.attributes == {}


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["png", "tiff", "tiff planar", "tiff big-endian", "jp2"])
def test_16_bits_are_kept(channels: int, kind: str) -> None:
    pixels = noise((5, 7, channels), "uint16")
    options = {"photometric": "rgb" if channels > 2 else "minisblack"}
    if channels > 1:
        options["planarconfig"] = "contig"
    if kind == "png":
        data = imagecodecs.png_encode(pixels)
    elif kind == "jp2":
        if channels == 2:
            pytest.skip("the encoder takes no two channels")
        pixels = noise((64, 64, channels), "uint16")
        data = imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="jp2")
    else:
        out = io.BytesIO()
        stored = pixels.squeeze(-1) if channels == 1 else pixels
        if kind == "tiff planar" and channels > 1:
            options["planarconfig"] = "separate"
            stored = np.moveaxis(pixels, -1, 0)
        tifffile.imwrite(out, stored, byteorder=">" if kind == "tiff big-endian" else "<", metadata=None, **options)
        data = out.getvalue()
    decoded = read(data)
    assert decoded.pixels.dtype == np.uint16
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert "mode" not in decoded.attributes


@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("channels", [1, 3])
def test_netpbm_samples_are_those_of_the_file(bits: int, channels: int) -> None:
    pixels = noise((3, 4, channels), "uint16") >> (16 - bits)
    kind = {1: b"5", 3: b"6"}[channels]
    data = b"P" + kind + b"\n4 3\n%d\n" % ((1 << bits) - 1) + pixels.astype(">u2").tobytes()
    np.testing.assert_array_equal(read(data).pixels, pixels)
    text = (
        b"P" + {1: b"2", 3: b"3"}[channels] + b"\n4 3\n%d\n" % ((1 << bits) - 1) + b" ".join(b"%d" % v for v in pixels.ravel())
    )
    np.testing.assert_array_equal(read(text).pixels, pixels)


def test_netpbm_of_few_levels_is_scaled_and_said() -> None:
    decoded = read(b"P5 2 1 15\n\x0f\x01")
    np.testing.assert_array_equal(decoded.pixels.ravel(), [255, 17])
    assert decoded.notes == ("maxval 15 scaled to 255",)


def test_1_bit_and_palette_and_cmyk() -> None:
    bits = noise((5, 9, 1))[..., 0] > 127
    decoded = read(saved(Image.fromarray(bits)))
    np.testing.assert_array_equal(decoded.pixels[..., 0], bits * 255)
    assert (decoded.notes, decoded.attributes["mode"]) == (("1-bit to L",), "1")

    colours = Image.fromarray(noise((5, 7, 3))).quantize(8)
    decoded = read(saved(colours))
    np.testing.assert_array_equal(decoded.pixels, np.asarray(colours.convert("RGB")))
    assert (decoded.notes, decoded.attributes["mode"]) == (("P to RGB",), "P")
    decoded = read(saved(colours, transparency=2))
    assert decoded.notes == ("P to RGBA",)
    assert sorted(np.unique(decoded.pixels[..., 3])) == [0, 255]

    decoded = read(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"))
    assert decoded.notes == ("CMYK to RGB",)
    np.testing.assert_array_equal(decoded.pixels[0, 0], [255, 0, 0])


@pytest.mark.parametrize(("depth", "factor"), [(2, 85), (4, 17), (8, 1)])
def test_grey_colour_key_is_on_the_scale_of_the_samples(depth: int, factor: int) -> None:
    import zlib

    from batchcodec_plugins.formats.encode import _chunk

    top = (1 << depth) - 1
    levels = [0, 1, top - 1, top]
    row = sum(level << depth * (3 - i) for i, level in enumerate(levels)).to_bytes(depth * 4 // 8, "big")
    data = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", bytes([0, 0, 0, 4, 0, 0, 0, 1, depth, 0, 0, 0, 0]))
    data += _chunk(b"tRNS", bytes([0, 1])) + _chunk(b"IDAT", zlib.compress(b"\0" + row)) + _chunk(b"IEND", b"")
    decoded = read(data)
    assert decoded.pixels[0].tolist() == [[level * factor, 0 if level == 1 else 255] for level in levels]
    assert decoded.notes == ("L with colour key to LA",)


def test_32_bit_integers_that_fit() -> None:
    values = np.array([[0, 65535]], dtype=np.int32)
    decoded = read(saved(Image.fromarray(values), "TIFF"))
    assert decoded.pixels.dtype == np.uint16
    assert decoded.pixels.ravel().tolist() == [0, 65535]
    assert decoded.notes == ("I to 16-bit L",)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (saved(Image.fromarray(np.array([[0, 65536]], dtype=np.int32)), "TIFF"), "from 0 to 65536 do not fit"),
        (saved(Image.fromarray(np.array([[-1, 5]], dtype=np.int32)), "TIFF"), "from -1 to 5 do not fit"),
        (saved(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF"), "float images are not supported"),
        (b"", "empty"),
        (b"hello, world", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "."),
        (b"II*\x00", "."),
        (b"P6 70000 70000 255\n", "decompression bomb"),
    ],
)
def test_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ItemError, match=reason) as caught:
        read(data)
    assert caught.value.item == "a.png"
    assert "object at 0x" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF", "QOI", "TGA", "ICO", "PCX"])
def test_damaged_files_raise_item_error_only(kind: str) -> None:
    try:
        whole = saved(Image.fromarray(noise((40, 40, 3))), kind)
    except (KeyError, OSError):
        pytest.skip(f"this Pillow cannot write {kind}")
    generator = np.random.default_rng(1)
    for trial in range(40):
        data = bytearray(whole[: generator.integers(1, len(whole))] if trial % 2 else whole)
        for position in generator.integers(0, len(data), 4):
            data[position] ^= int(generator.integers(1, 256))
        try:
            decoded = read(bytes(data), metadata=True)
        except ItemError:
            continue
        assert decoded.pixels.dtype in (np.uint8, np.uint16)
        assert decoded.pixels.ndim == 3


def test_avif_of_10_bits_is_refused() -> None:
    if not imagecodecs.AVIF.available:
        pytest.skip("imagecodecs has no AVIF")
    pixels = noise((32, 32, 3))
    with pytest.raises(ItemError, match="AVIF of more than 8 bits"):
        read(bytes(imagecodecs.avif_encode(pixels.astype(np.uint16), level=90, bitspersample=10)))
    assert read(bytes(imagecodecs.avif_encode(pixels, level=90))).pixels.shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("channels", "photometric", "extra", "notes"),
    [
        (2, "minisblack", ["unassalpha"], ()),
        (4, "rgb", ["unassalpha"], ()),
        (4, "rgb", ["assocalpha"], ("premultiplied alpha kept",)),
        (3, "minisblack", None, ("3 bands as RGB",)),
        (4, "minisblack", None, ("4 bands as RGBA",)),
        (5, "minisblack", None, None),
    ],
)
def test_bands_of_16_bit_tiff(channels: int, photometric: str, extra: list[str] | None, notes: tuple[str, ...] | None) -> None:
    out = io.BytesIO()
    pixels = noise((6, 7, channels), "uint16")
    tifffile.imwrite(out, pixels, photometric=photometric, planarconfig="contig", extrasamples=extra, metadata=None)
    if notes is None:
        with pytest.raises(ItemError, match="5 channels are not supported"):
            read(out.getvalue())
        return
    decoded = read(out.getvalue())
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert decoded.notes == notes


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_white_is_zero(dtype: str) -> None:
    out = io.BytesIO()
    pixels = noise((6, 7, 1), dtype)
    tifffile.imwrite(out, pixels[..., 0], photometric="miniswhite", metadata=None)
    np.testing.assert_array_equal(read(out.getvalue()).pixels, np.iinfo(dtype).max - pixels)


def test_truncated_16_bit_tiff_is_not_filled_with_zeros() -> None:
    out = io.BytesIO()
    tifffile.imwrite(out, noise((64, 64, 3), "uint16"), photometric="rgb", metadata=None)
    with pytest.raises(ItemError, match="truncated"):
        read(out.getvalue()[:-5000])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "16-bit PNG", "16-bit TIFF"])
def test_orientation_is_applied(orientation: int, kind: str) -> None:
    from PIL import ImageOps

    pixels = noise((3, 5, 3))
    exif = Image.Exif()
    exif[274] = orientation
    if kind == "16-bit TIFF":
        out = io.BytesIO()
        tifffile.imwrite(
            out, pixels.astype(np.uint16) * 257, photometric="rgb", metadata=None, extratags=[(274, 3, 1, orientation)]
        )
        data = out.getvalue()
    elif kind == "16-bit PNG":
        from batchcodec_plugins.formats.encode import _deep_png

        data = _deep_png(pixels.astype(np.uint16) * 257, exif.tobytes(), b"")
    else:
        data = saved(Image.fromarray(pixels), kind, exif=exif)
    reference = Image.open(io.BytesIO(saved(Image.fromarray(pixels), "PNG", exif=exif)))
    expected = np.asarray(ImageOps.exif_transpose(reference))
    decoded = read(data)
    if kind.startswith("16"):
        assert decoded.pixels.dtype == np.uint16
        expected = expected.astype(np.uint16) * 257
    np.testing.assert_array_equal(decoded.pixels, expected)
    if orientation == 1:
        assert decoded.notes == ()
    else:
        assert decoded.notes == (f"EXIF orientation {orientation} applied",)
        assert decoded.attributes["exif_orientation"] == orientation


def test_metadata_is_kept_when_asked_for() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[271] = "a maker"
    data = saved(Image.fromarray(noise((4, 4, 3))), "JPEG", exif=exif, icc_profile=profile)
    assert read(data).attributes == {}
    kept = read(data, metadata=True).attributes
    assert base64.b64decode(kept["icc"]) == profile
    assert b"a maker" in base64.b64decode(kept["exif"])


def test_frames() -> None:
    frames = [Image.fromarray(noise((6, 6, 1), seed=i)[..., 0]) for i in range(3)]
    data = saved(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    assert count_frames(io.BytesIO(data)) == 3
    first = read(data)
    assert (first.notes, first.attributes) == (("frame 1 of 3",), {"frames": 3})
    for i, frame in enumerate(frames):
        decoded = read(data, frame=i)
        np.testing.assert_array_equal(decoded.pixels[..., 0], np.asarray(frame))
        assert (decoded.notes, decoded.attributes) == ((), {"frames": 3, "frame": i})


def test_large_images_below_the_limit_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read(saved(Image.new("L", (15, 10)))).pixels.shape == (10, 15, 1)
    with pytest.raises(ItemError, match="bomb"):
        read(saved(Image.new("L", (21, 10))))


def test_missing_decoder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = imagecodecs.png_encode(noise((4, 4, 3), "uint16"))
    out = io.BytesIO()
    tifffile.imwrite(out, noise((4, 4, 3), "uint16"), photometric="rgb")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ItemError, match=r"pip install 'batchcodec\[imagecodecs\]'"):
        read(data)
    with pytest.raises(ItemError, match=r"pip install 'batchcodec\[tiff\]'"):
        read(out.getvalue())


def test_warning_filters_survive_threads() -> None:
    before = list(warnings.filters)
    barrier = threading.Barrier(4)

    def overlap(pause: float) -> None:
        barrier.wait()
        for _ in range(50):
            with quiet():
                threading.Event().wait(pause)

    threads = [threading.Thread(target=overlap, args=(0.0001 * i,)) for i in range(1, 4)]
    for thread in threads:
        thread.start()
    barrier.wait()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before
