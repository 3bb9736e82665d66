"""Real files: what each of them reads as."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from batchcodec_plugins.formats import FolderFormat, IdxFormat, NpyFormat, NpzFormat, TarFormat
from batchcodec_plugins.formats.pixels import read_image

from batchcodec.dataset import FormatOptions
from batchcodec.errors import ItemError
from batchcodec.types import Item

P, ONE_BIT = {"mode": "P"}, {"mode": "1"}

ODD = [
    ("16bit.cropped.tif", "uint16", (64, 64, 1), {}, ()),
    ("1_trns.png", "uint8", (64, 64, 2), ONE_BIT, ("1-bit to LA",)),
    ("200x32_la.png", "uint8", (32, 200, 2), {}, ()),
    ("apng_mode_16bit.png", "uint16", (64, 128, 4), {"frames": 3}, ("frame 1 of 3",)),
    ("dispose_bgnd.gif", "uint8", (100, 100, 3), {"frames": 5, **P}, ("frame 1 of 5", "P to RGB")),
    ("exif_imagemagick_orientation.png", "uint8", (512, 512, 3), {"exif_orientation": 3}, ("EXIF orientation 3 applied",)),
    ("hopper.Lab.tif", "uint8", (128, 128, 3), {"mode": "LAB"}, ("LAB to RGB",)),
    ("hopper.iccprofile.tif", "uint8", (128, 128, 3), {}, ()),
    ("hopper_16bit.pgm", "uint16", (128, 128, 1), {}, ()),
    ("hopper_bw_500.png", "uint8", (500, 500, 1), ONE_BIT, ("1-bit to L",)),
    ("hopper_gray.jpg", "uint8", (128, 128, 1), {}, ()),
    ("hopper_orientation_6.jpg", "uint8", (128, 128, 3), {"exif_orientation": 6}, ("EXIF orientation 6 applied",)),
    ("hopper_rle8.bmp", "uint8", (128, 128, 3), P, ("P to RGB",)),
    ("i_trns.png", "uint16", (64, 64, 2), {"mode": "I;16"}, ("L with colour key to LA",)),
    ("icc_profile.png", "uint8", (57, 57, 4), {}, ()),
    ("icc_profile_big.jpg", "uint8", (250, 425, 3), {}, ()),
    ("iss634.gif", "uint8", (245, 245, 3), {"frames": 42, **P}, ("frame 1 of 42", "P to RGB")),
    ("junk_jpeg_header.jpg", "uint8", (768, 1024, 3), {}, ()),
    ("l_trns.png", "uint8", (64, 64, 2), {"mode": "L"}, ("L with colour key to LA",)),
    ("multipage.tiff", "uint8", (10, 10, 3), {"frames": 3, **P}, ("frame 1 of 3", "P to RGB")),
    ("pil123p.png", "uint8", (150, 162, 4), P, ("P to RGBA",)),
    ("pil123rgba.png", "uint8", (150, 162, 4), {}, ()),
    ("pil_sample_cmyk.jpg", "uint8", (100, 100, 3), {"mode": "CMYK"}, ("CMYK to RGB",)),
    ("pport_g4.tif", "uint8", (3296, 2548, 1), ONE_BIT, ("1-bit to L",)),
    ("rgb.jpg", "uint8", (100, 100, 3), {}, ()),
    ("rgb_trns.png", "uint8", (64, 64, 4), {"mode": "RGB"}, ("RGB with colour key to RGBA",)),
    ("sugarshack.mpo", "uint8", (480, 640, 3), {"frames": 2}, ("frame 1 of 2",)),
    ("tiff_16bit_RGB.tiff", "uint16", (40, 100, 3), {}, ()),
    ("tiff_strip_cmyk_jpeg.tif", "uint8", (100, 100, 3), {"mode": "CMYK"}, ("CMYK to RGB",)),
    ("transparent.webp", "uint8", (150, 200, 4), {}, ()),
    ("wrong-extension.jpg", "uint8", (128, 128, 3), {}, ()),
]
FAILING = {
    "10ct_32bit_128.tiff": "float images are not supported",
    "truncated_jpeg.jpg": "truncated",
    "ultrahdr.jpg": "truncated",
    "truncated_image.png": "truncated",
    "broken.png": "not an image in a known format",
    "broken_data_stream.png": "unrecognized data stream",
    "png_decompression_dos.png": "too large",
    "decompression_bomb.gif": "bomb",
    "empty.png": "the file is empty",
}


def read(path: Path, **options: object):
    with path.open("rb") as stream:
        return read_image(path.parent, path.name, stream, **options)


def test_every_odd_file_is_in_the_tables(data: Path) -> None:
    items = FolderFormat().read(data / "odd")
    assert len(items) == 40
    good, bad = [], []
    for i in range(len(items)):
        try:
            good.append(items[i].name)
        except ItemError as error:
            bad.append(error.item)
    assert good == [row[0] for row in ODD]
    assert sorted(bad) == sorted(FAILING)


@pytest.mark.parametrize(("name", "dtype", "shape", "attributes", "notes"), ODD, ids=[row[0] for row in ODD])
def test_odd_files(data: Path, name: str, dtype: str, shape: tuple[int, ...], attributes: dict, notes: tuple[str, ...]) -> None:
    decoded = read(data / "odd" / name)
    assert (str(decoded.pixels.dtype), decoded.pixels.shape) == (dtype, shape)
    assert (decoded.attributes, decoded.notes) == (attributes, notes)
    assert decoded.pixels.min() < decoded.pixels.max()


@pytest.mark.parametrize("name", FAILING)
def test_odd_files_that_fail(data: Path, name: str) -> None:
    with pytest.raises(ItemError, match=FAILING[name]) as caught:
        read(data / "odd" / name)
    assert caught.value.item == name


def test_orientation_turns_the_pixels(data: Path) -> None:
    from PIL import Image

    with Image.open(data / "odd/hopper_orientation_6.jpg") as stored:
        unturned = np.asarray(stored)
    np.testing.assert_array_equal(read(data / "odd/hopper_orientation_6.jpg").pixels, np.rot90(unturned, -1))


def test_lab_is_the_same_picture(data: Path) -> None:
    lab = read(data / "odd/hopper.Lab.tif").pixels.astype(int)
    rgb = read(data / "odd/wrong-extension.jpg").pixels.astype(int)
    assert np.abs(lab - rgb).mean() < 6


def test_adobe_cmyk_is_not_inverted(data: Path) -> None:
    cmyk = read(data / "odd/pil_sample_cmyk.jpg").pixels.astype(int)
    rgb = read(data / "odd/rgb.jpg").pixels.astype(int)
    assert np.abs(cmyk - rgb).mean() < 40  # the same picture, converted without profiles


def test_16_bit_data_are_exact(data: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    tifffile = pytest.importorskip("tifffile")
    apng = (data / "odd/apng_mode_16bit.png").read_bytes()
    np.testing.assert_array_equal(read(data / "odd/apng_mode_16bit.png").pixels, imagecodecs.png_decode(apng))
    for name in (
        "odd/16bit.cropped.tif",
        "odd/tiff_16bit_RGB.tiff",
        "science/geotiff/RGBA.uint16.tif",
        "science/microscopy/IXMtest_A02_s9.tif",
        "science/microscopy/img3d.tif",
        "science/microscopy/membrane_2d_timelapse.tif",
    ):
        expected = tifffile.imread(data / name, key=0)
        decoded = read(data / name)
        assert decoded.pixels.dtype == np.uint16
        np.testing.assert_array_equal(decoded.pixels.squeeze(), expected)
    trns = read(data / "odd/i_trns.png").pixels
    np.testing.assert_array_equal(trns, imagecodecs.png_decode((data / "odd/i_trns.png").read_bytes()))


def test_16_bit_colour_without_the_decoders_says_what_to_install(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ItemError, match=r"\[imagecodecs\]"):
        read(data / "odd/apng_mode_16bit.png")
    for name in ("odd/tiff_16bit_RGB.tiff", "science/geotiff/RGBA.uint16.tif"):
        with pytest.raises(ItemError, match=r"\[tiff\]"):
            read(data / name)


def test_tiff_whose_later_pages_are_unknown(data: Path) -> None:
    decoded = read(data / "science/geotiff/goes.tif")
    assert decoded.pixels.shape == (542, 542, 3)
    assert decoded.notes == ("frame 1, further frames unreadable",)
    assert decoded.pixels.std() > 10


def test_all_frames(data: Path, tmp_path: Path) -> None:
    assert len(FolderFormat(FormatOptions(frames="all")).read(data / "odd")) == 40 + 41 + 4 + 2 + 2 + 1
    (tmp_path / "iss634.gif").symlink_to(data / "odd/iss634.gif")
    items = FolderFormat(FormatOptions(frames="all")).read(tmp_path)
    assert len(items) == 42
    frames = [items[i] for i in (0, 1, 20, 41)]
    assert [item.name for item in frames] == [f"iss634.{i:04d}.gif" for i in (0, 1, 20, 41)]
    np.testing.assert_array_equal(frames[0].pixels, read(data / "odd/iss634.gif").pixels)
    assert len({item.pixels.tobytes() for item in frames}) == 4
    assert frames[2].attributes["frames"] == 42
    assert frames[2].attributes["frame"] == 20


def test_metadata(data: Path) -> None:
    big = read(data / "odd/icc_profile_big.jpg", metadata=True)
    assert len(big.attributes["icc"]) > 400_000
    assert "exif" in read(data / "odd/hopper_orientation_6.jpg", metadata=True).attributes


def test_kodak_and_chest_xray(data: Path) -> None:
    kodak = FolderFormat().read(data / "kodak")
    assert len(kodak) == 24
    shapes = [kodak[i].pixels.shape for i in (0, 3, 18)]
    assert shapes == [(512, 768, 3), (768, 512, 3), (768, 512, 3)]
    chest = FolderFormat().read(data / "medical/chest-xray")
    assert len(chest) == 52
    by_name = {chest._names[i]: i for i in range(52)}
    assert chest[by_name["COVID-00004.jpg"]].pixels.shape[2] == 3
    assert chest[by_name["nih-00001613_000.png"]].pixels.shape == (1024, 1024, 1)
    assert chest[0].notes == ()
    assert chest[0].label is None


def test_eurosat(data: Path) -> None:
    items = TarFormat().read(data / "eurosat.tar")
    assert TarFormat.matches(data / "eurosat.tar")
    assert len(items) == 5000
    labels = [items._label(i) for i in range(5000)]
    assert len(set(labels)) == 10
    assert all(labels.count(label) == 500 for label in set(labels))
    for i in range(0, 5000, 250):
        item = items[i]
        assert item.pixels.shape == (64, 64, 3)
        assert item.name.split("/")[:2] == ["eurosat", item.label]


def test_photos_have_the_labels_of_their_folders(data: Path) -> None:
    items = TarFormat().read(data / "photos-train.tar")
    assert len(items) == 1124
    assert {items._label(i) for i in range(len(items))} == {"imagenet", "imagenet-reduced", "bsds"}


def test_fashion_mnist(data: Path) -> None:
    path = data / "fashion-mnist/train-images-idx3-ubyte.gz"
    assert IdxFormat.matches(path)
    assert not IdxFormat.matches(data / "fashion-mnist/train-labels-idx1-ubyte.gz")
    items = IdxFormat().read(path)
    assert len(items) == 60_000
    total, squares = 0, 0
    counts: dict[str | None, int] = {}
    for item in items:
        values = item.pixels.astype(np.int64)
        total, squares = total + values.sum(), squares + (values * values).sum()
        counts[item.label] = counts.get(item.label, 0) + 1
    mean = total / (60_000 * 784 * 255)
    assert round(float(mean), 4) == 0.2860
    assert round(float(np.sqrt(squares / (60_000 * 784 * 255**2) - mean**2)), 4) == 0.3530
    assert counts == {str(label): 6000 for label in range(10)}


def test_from_format_to_format(data: Path, tmp_path: Path) -> None:
    """IDX to folder to tar to npz to npy to IDX: the pixels, and the labels as far as a format has them."""
    start: list[Item] = list(IdxFormat().read(data / "fashion-mnist/t10k-images-idx3-ubyte.gz")[:60])
    FolderFormat().write(tmp_path / "folder", start)
    unpacked = sorted(FolderFormat().read(tmp_path / "folder"), key=lambda item: item.name.split("/")[1])
    assert [item.label for item in unpacked] == [item.label for item in start]
    TarFormat().write(tmp_path / "a.tar.zst", unpacked)
    NpzFormat().write(tmp_path / "a.npz", TarFormat().read(tmp_path / "a.tar.zst"))
    IdxFormat().write(tmp_path / "a.idx", NpzFormat().read(tmp_path / "a.npz"))
    NpyFormat().write(tmp_path / "a.npy", IdxFormat().read(tmp_path / "a.idx"))
    end = IdxFormat().read(tmp_path / "a.idx")
    assert [item.label for item in end] == [item.label for item in start]
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.stack([item.pixels[:, :, 0] for item in start]))


def test_exactly_one_format_matches(data: Path, tmp_path: Path) -> None:
    from batchcodec_plugins.formats import register_formats

    paths = [data / "odd", data / "eurosat.tar", data / "fashion-mnist/t10k-images-idx3-ubyte.gz"]
    for name in ("a.npy", "a.npz", "a.idx", "a.tar", "a.tar.gz", "a.tgz", "idx3.npy.tar", "x-idx3-ubyte"):
        (tmp_path / name).write_bytes(b"")
        paths.append(tmp_path / name)
    for path in paths:
        assert sum(kind.matches(path) for kind in register_formats()) == 1, path
    for path in (tmp_path / "none.npy", tmp_path / "none", data / "README.md", data / "odd/rgb.jpg", Path("a\0.npy")):
        assert sum(kind.matches(path) for kind in register_formats()) == 0, path
