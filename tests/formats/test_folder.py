from __future__ import annotations

import base64
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from batchcodec_plugins.formats import FolderFormat, folder
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from batchcodec.dataset import FormatOptions
from batchcodec.errors import InputError, ItemError, MissingDependencyError, OptionError, OutputError, UnsafeNameError
from batchcodec.types import Item

from .samples import assert_same, dtypes, items_of, noise, png_bytes, shapes, stems


def put(root: Path, *names: str) -> None:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png_bytes(noise((3, 4, 1), seed=i)))


def names_of(root: Path, **options: object) -> list[str]:
    return [item.name for item in FolderFormat(FormatOptions(**options)).read(root)]


def test_names_order_labels_and_ignored(tmp_path: Path) -> None:
    put(tmp_path, "s/b/2.png", "s/b/10.png", "s/a b/ü.PNG", "s/a/x/1.png", "s/Z.png", "s/.hidden.png", "s/.git/a.png")
    (tmp_path / "s/readme.txt").write_text("")
    (tmp_path / "s/b/noext").write_text("")
    (tmp_path / "empty").mkdir()
    items = FolderFormat().read(tmp_path)
    assert [item.name for item in items] == ["s/Z.png", "s/a b/ü.PNG", "s/a/x/1.png", "s/b/10.png", "s/b/2.png"]
    assert [item.label for item in items] == [None, "a b", "a", "b", "b"]
    assert items.ignored == 2
    assert [item.name for item in items[1:4:2]] == ["s/a b/ü.PNG", "s/b/10.png"]
    assert items[1:][-1].name == "s/b/2.png"


def test_empty_missing_and_not_a_folder(tmp_path: Path) -> None:
    assert len(FolderFormat().read(tmp_path)) == 0
    with pytest.raises(InputError, match="No such file"):
        FolderFormat().read(tmp_path / "none")
    (tmp_path / "f").write_text("")
    with pytest.raises(InputError, match="Not a directory"):
        FolderFormat().read(tmp_path / "f")
    assert FolderFormat.matches(tmp_path)
    assert not FolderFormat.matches(tmp_path / "f")
    assert not FolderFormat.matches(tmp_path / "none")
    assert not FolderFormat.matches(Path("a\0b"))


def test_what_is_not_an_image_is_an_item_that_raises(tmp_path: Path) -> None:
    put(tmp_path, "good.png")
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "zero.png").touch()
    (tmp_path / "broken.png").symlink_to("nowhere")
    (tmp_path / "circle.png").symlink_to("circle.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
    items = FolderFormat().read(tmp_path)
    reasons = {}
    for i in range(len(items)):
        try:
            assert items[i].name == "good.png"
        except ItemError as error:
            reasons[error.item] = error.reason
    assert reasons["text.jpg"] == "not an image in a known format, or its header is damaged"
    assert reasons["zero.png"] == "the file is empty"
    assert reasons["broken.png"] == "No such file or directory"
    assert "symbolic links" in reasons["circle.png"]
    if hasattr(os, "mkfifo"):
        assert reasons["pipe.png"] == "not a regular file"


def test_permission_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.png")
    items = FolderFormat().read(tmp_path)

    def refuse(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(folder, "_open_without_waiting", refuse)
    with pytest.raises(ItemError, match=r"'a.png': Permission denied"):
        items[0]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_permission_denied_by_the_system(tmp_path: Path) -> None:
    put(tmp_path, "a/a.png", "b.png")
    (tmp_path / "b.png").chmod(0)
    with pytest.raises(ItemError, match="Permission denied"):
        FolderFormat().read(tmp_path)[1]
    (tmp_path / "a").chmod(0)
    try:
        with pytest.raises(InputError, match="Permission denied"):
            FolderFormat().read(tmp_path)
    finally:
        (tmp_path / "a").chmod(0o700)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are any bytes on Linux")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    put(tmp_path, "a.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.png")).write_bytes(png_bytes(noise((3, 3, 1))))
    items = FolderFormat().read(tmp_path)
    assert items[0].name == "a.png"
    with pytest.raises(ItemError, match="not valid UTF-8") as caught:
        items[1]
    assert caught.value.item == r"b\xff.png"
    str(caught.value).encode()


def test_links(tmp_path: Path) -> None:
    put(tmp_path, "set/a/1.png", "elsewhere/2.png")
    (tmp_path / "set/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/a/loop").symlink_to(tmp_path / "set")
    (tmp_path / "set/a/self").symlink_to(".")
    (tmp_path / "set/3.png").symlink_to(tmp_path / "elsewhere/2.png")
    assert names_of(tmp_path / "set") == ["3.png", "a/1.png", "linked/2.png"]


def test_frames(tmp_path: Path) -> None:
    pages = [Image.fromarray(noise((6, 6, 1), seed=i)[..., 0]) for i in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    put(tmp_path, "b.png")
    assert names_of(tmp_path) == ["a.tif", "b.png"]
    items = FolderFormat(FormatOptions(frames="all")).read(tmp_path)
    assert [item.name for item in items] == ["a.0000.tif", "a.0001.tif", "a.0002.tif", "b.png"]
    np.testing.assert_array_equal(items[2].pixels[..., 0], np.asarray(pages[2]))
    with pytest.raises(OptionError, match="first or all"):
        FolderFormat(FormatOptions(frames="some")).read(tmp_path)


# ---- write


def written(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_suffixes_and_collisions(tmp_path: Path) -> None:
    pixels = noise((4, 4, 3))
    names = ["a.jpg", "a.png", "a.bmp", "d/b", "d/b.png", "C.PNG", "e.tar.gif"]
    FolderFormat().write(tmp_path / "o", [Item(name, pixels) for name in names])
    assert written(tmp_path / "o") == ["C.PNG", "a.bmp.png", "a.png", "a.png.png", "d/b.png", "d/b.png.png", "e.tar.png"]


@pytest.mark.parametrize(
    ("image_format", "names"),
    [
        ("png", ["a.png", "b.png", "c.png", "d.png"]),
        ("webp", ["a.png", "b.webp", "c.webp", "d.png"]),
        ("jpg", ["a.JPG", "b.jpg", "c.png", "d.png"]),
        ("tiff", ["a.tiff", "b.tiff", "c.tiff", "d.tiff"]),
        ("bmp", ["a.bmp", "b.bmp", "c.png", "d.png"]),
        ("keep", ["a.JPG", "b.webp", "c.png", "d.png"]),
    ],
)
def test_formats_that_cannot_hold_the_pixels_become_png(tmp_path: Path, image_format: str, names: list[str]) -> None:
    items = [
        Item("a.JPG", noise((4, 6, 1))),
        Item("b.webp", noise((4, 6, 3))),
        Item("c.jpg", noise((4, 6, 4))),
        Item("d.xyz", noise((4, 6, 3), "uint16")),
    ]
    FolderFormat(FormatOptions(image_format=image_format)).write(tmp_path / "o", items)
    assert written(tmp_path / "o") == names
    for found, item in zip(FolderFormat().read(tmp_path / "o"), items, strict=True):
        assert found.pixels.shape == item.pixels.shape
        if not found.name.lower().endswith("jpg"):
            np.testing.assert_array_equal(found.pixels, item.pixels)


def test_kept_jpeg_is_not_subsampled(tmp_path: Path) -> None:
    from PIL import JpegImagePlugin

    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    FolderFormat(FormatOptions(image_format="keep")).write(tmp_path / "o", [Item("a.jpeg", smooth)])
    with Image.open(tmp_path / "o/a.jpeg") as image:
        assert JpegImagePlugin.get_sampling(image) == 0
        assert np.abs(np.asarray(image).astype(int) - smooth).mean() < 2


def test_unknown_image_format(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="image_format"):
        FolderFormat(FormatOptions(image_format="gif")).write(tmp_path / "o", items_of(1))


@pytest.mark.parametrize("suffix", ["png", "tiff", "bmp", "webp", "keep"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_lossless_formats_are_exact(tmp_path: Path, suffix: str, dtype: str, channels: int) -> None:
    items = [Item(f"{kind}.{kind}", noise((5, 7, channels), dtype)) for kind in ("bmp", "pgm", "png", "ppm", "tif", "webp")]
    FolderFormat(FormatOptions(image_format=suffix)).write(tmp_path / "o", items)
    assert_same(FolderFormat().read(tmp_path / "o"), items, names=False)


def test_labels_become_folders_only_where_there_are_none(tmp_path: Path) -> None:
    pixels = noise((2, 2, 1))
    FolderFormat().write(
        tmp_path / "o", [Item("1.png", pixels, "a/b"), Item("2.png", pixels, "c"), Item("d/3.png", pixels, "e")]
    )
    assert written(tmp_path / "o") == ["a_b/1.png", "c/2.png", "d/3.png"]
    assert [item.label for item in FolderFormat().read(tmp_path / "o")] == ["a_b", "c", "d"]


@pytest.mark.parametrize("name", ["/etc/x.png", "../x.png", "a/../../x.png", "a\\b.png", "C:x.png", "a\0.png", "", "x" * 252])
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnsafeNameError):
        FolderFormat().write(tmp_path / "o", [Item(name, noise((2, 2, 1)))])
    assert written(tmp_path) == []


def test_nothing_is_written_through_links(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "out/d").symlink_to(tmp_path / "other")
    (tmp_path / "out/a.png").symlink_to(tmp_path / "other/a.png")
    with pytest.raises(UnsafeNameError, match="is a link"):
        FolderFormat().write(tmp_path / "out", [Item("d/x.png", noise((2, 2, 1)))])
    FolderFormat().write(tmp_path / "out", [Item("a.png", noise((2, 2, 1)))])
    assert written(tmp_path / "other") == []


def test_folder_and_file_of_one_name(tmp_path: Path) -> None:
    pixels = noise((2, 2, 1))
    with pytest.raises(ItemError, match="needs a folder"):
        FolderFormat().write(tmp_path / "o", [Item("a.png", pixels), Item("a.png/b.png", pixels)])
    FolderFormat().write(tmp_path / "p", [Item("a.png/b.png", pixels), Item("a.png", pixels)])
    assert written(tmp_path / "p") == ["a.png.png", "a.png/b.png"]


def test_output_errors(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(OutputError):
        FolderFormat().write(tmp_path / "f", items_of(1))


def test_missing_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setitem(sys.modules, "tifffile", None)
    for image_format, extra in (("png", "imagecodecs"), ("tiff", "tiff")):
        with pytest.raises(MissingDependencyError, match=rf"batchcodec\[{extra}\]"):
            FolderFormat(FormatOptions(image_format=image_format)).write(tmp_path / "o", items_of(1, (2, 2, 3), "uint16"))


@pytest.mark.parametrize(
    ("image_format", "dtype"), [("png", "uint8"), ("jpg", "uint8"), ("webp", "uint8"), ("tiff", "uint8"), ("png", "uint16")]
)
def test_metadata_round_trip(tmp_path: Path, image_format: str, dtype: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[271], exif[274] = "a maker", 6
    attributes = {"exif": base64.b64encode(exif.tobytes()).decode(), "icc": base64.b64encode(profile).decode()}
    item = Item("a.png", noise((4, 5, 3), dtype), attributes=attributes)
    FolderFormat(FormatOptions(image_format=image_format)).write(tmp_path / "o", [item])
    found = FolderFormat(FormatOptions(metadata=True)).read(tmp_path / "o")[0]
    assert found.notes == ()  # the orientation is reset
    assert found.attributes["icc"] == attributes["icc"]
    assert b"a maker" in base64.b64decode(found.attributes["exif"])
    assert found.pixels.shape == (4, 5, 3)


@pytest.mark.parametrize("value", [5, "no base64!", "aGVsbG8=", "", ["x"]])
def test_metadata_that_is_none_is_left_out(tmp_path: Path, value: object) -> None:
    item = Item("a.png", noise((4, 5, 3)), attributes={"exif": value})
    FolderFormat().write(tmp_path / "o", [item])
    np.testing.assert_array_equal(FolderFormat().read(tmp_path / "o")[0].pixels, item.pixels)


@settings(max_examples=40)
@given(
    shape=shapes,
    dtype=dtypes,
    names=st.sets(stems, min_size=1, max_size=4),
    image_format=st.sampled_from(["png", "tiff", "keep"]),
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, shape, dtype, names, image_format) -> None:
    root = tmp_path_factory.mktemp("folder") / "o"
    items = [
        Item(f"{name}.{'tiff' if image_format == 'tiff' else 'png'}", noise(shape, dtype, i))
        for i, name in enumerate(sorted(names))
    ]
    suffixed = {item.name for item in items}
    if any(name.startswith(other + "/") for name in suffixed for other in suffixed):
        return
    FolderFormat(FormatOptions(image_format=image_format)).write(root, items)
    assert_same(FolderFormat().read(root), sorted(items, key=lambda item: item.name), labels=False)
