from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from batchcodec_plugins.formats import TarFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.dataset import FormatOptions
from batchcodec.errors import InputError, ItemError, UnsafeNameError
from batchcodec.types import Item

from .samples import assert_same, dtypes, items_of, labels_text, long_stems, noise, png_bytes, shapes, stems

SUFFIXES = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst"]
PIXELS = noise((3, 4, 1))
PNG = png_bytes(PIXELS)


def make(path: Path, members: dict[str, bytes] | list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_webdataset(tmp_path: Path) -> None:
    members = {
        "d/0.cls": b"7",
        "d/0.png": PNG,
        "d/1.left.png": PNG,
        "d/1.right.png": PNG,
        "d/1.cls": b"cat\n",
        "d/1.right.cls": b"dog",
        "d/2.png": PNG,
        "d/2.json": json.dumps({"label": 5, "by": ["x", 1.5, None]}).encode(),
        "d/3.png": PNG,
        "d/3.txt": b"a caption",
        "d/4.png": PNG,
        "d/4.json": b'["list", NaN]',
    }
    items = TarFormat().read(make(tmp_path / "a.tar", members))
    assert [item.name for item in items] == [name for name in members if name.endswith(".png")]
    assert [item.label for item in items] == ["7", "cat", "dog", "5", None, None]
    assert items[3].attributes == {"label": 5, "by": ["x", 1.5, None]}
    assert items[5].attributes == {"json": ["list", None]}
    assert items.ignored == 1


def test_folder_labels_without_cls(tmp_path: Path) -> None:
    members = {"./s/b/1.png": PNG, "./s/a/2.png": PNG, "s/.hidden.png": PNG, "s/._x.jpg": b"", "s/a/readme": b""}
    items = TarFormat().read(make(tmp_path / "a.tar", members))
    assert [(item.name, item.label) for item in items] == [("s/b/1.png", "b"), ("s/a/2.png", "a")]
    assert items.ignored == 1


def test_duplicate_names_are_both_listed(tmp_path: Path) -> None:
    items = TarFormat().read(make(tmp_path / "a.tar", [("a.png", PNG), ("a.png", png_bytes(noise((2, 2, 3))))]))
    assert [item.name for item in items] == ["a.png", "a.png"]
    assert [item.pixels.shape for item in items] == [(3, 4, 1), (2, 2, 3)]


def test_bad_members_are_items_that_raise(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
            ("device.png", tarfile.CHRTYPE),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        for name in ("/abs.png", "../up.png", "a/../../up.png", "a/./b.png", "a\\b.png"):
            info = tarfile.TarInfo(name)
            info.size = len(PNG)
            tar.addfile(info, io.BytesIO(PNG))
        for name, data in (
            ("text.png", b"text"),
            ("zero.png", b""),
            ("c.png", PNG),
            ("c.json", b"{"),
            ("d.png", PNG),
            ("d.cls", b"\xff"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        tar.addfile(tarfile.TarInfo("b\udcff.png"))
        directory = tarfile.TarInfo("e.png")
        directory.type = tarfile.DIRTYPE
        tar.addfile(directory)
    items = TarFormat().read(tmp_path / "a.tar")
    errors = []
    for i in range(len(items)):
        with pytest.raises(ItemError) as caught:
            items[i]
        errors.append((type(caught.value), caught.value.item))
    assert [item for kind, item in errors if kind is UnsafeNameError] == [
        "/abs.png",
        "../up.png",
        "a/../../up.png",
        "a/./b.png",
        "a\\b.png",
    ]
    assert [item for kind, item in errors if kind is ItemError] == [
        "link.png", "hard.png", "pipe.png", "device.png", "text.png", "zero.png", "c.png", "d.png", r"b\xff.png",
    ]  # fmt: skip


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_round_trip_of_each_compression(tmp_path: Path, suffix: str) -> None:
    items = [Item(f"{i}/{i % 2}.png", noise((40, 50, 3), seed=i), f"l{i % 3}", {"i": i, "s": "ü"}) for i in range(12)]
    path = tmp_path / f"a{suffix}"
    TarFormat().write(path, iter(items))
    TarFormat().write(tmp_path / f"b{suffix}", items)
    assert path.read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert TarFormat.matches(path)
    found = TarFormat().read(path)
    assert_same(found, items)
    assert [item.attributes for item in found] == [item.attributes for item in items]
    for index in (11, 0, 5, 5, 4):
        np.testing.assert_array_equal(found[index].pixels, items[index].pixels)


def test_what_tar_itself_says(tmp_path: Path) -> None:
    TarFormat().write(tmp_path / "a.tar", [Item("x.jpg", PIXELS, "cat", {"k": 1, "exif": "AAAA"}), Item("y", PIXELS)])
    with tarfile.open(tmp_path / "a.tar") as tar:
        assert tar.getnames() == ["x.png", "x.cls", "x.json", "y.png"]
        assert tar.extractfile("x.cls").read() == b"cat"
        assert tar.extractfile("x.json").read() == b'{"k":1}'
        assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in tar} == {(0, 0, 0, "", 0o644)}


def test_sidecars_do_not_mix(tmp_path: Path) -> None:
    items = [
        Item("a.jpg", PIXELS, "x"),
        Item("a.png", PIXELS, "y"),
        Item("a.b.png", PIXELS, "z", {"n": 1}),
        Item("c.jpg", PIXELS, "same"),
        Item("c.webp", PIXELS, "same"),
    ]
    TarFormat(FormatOptions(image_format="keep")).write(tmp_path / "a.tar", items)
    found = TarFormat().read(tmp_path / "a.tar")
    assert [(item.name, item.label) for item in found] == [
        ("a.jpg", "x"),
        ("a.png.png", "y"),
        ("a.b.png", "z"),
        ("c.jpg", "same"),
        ("c.png", "same"),
    ]
    assert found[2].attributes == {"n": 1}


def test_frames_share_their_key(tmp_path: Path) -> None:
    from PIL import Image

    out = io.BytesIO()
    pages = [Image.fromarray(noise((6, 6, 1), seed=i)[..., 0]) for i in range(3)]
    pages[0].save(out, "TIFF", save_all=True, append_images=pages[1:])
    make(tmp_path / "a.tar", {"k.tif": out.getvalue(), "k.cls": b"5"})
    items = list(TarFormat(FormatOptions(frames="all")).read(tmp_path / "a.tar"))
    assert [(item.name, item.label) for item in items] == [(f"k.000{i}.tif", "5") for i in range(3)]
    TarFormat().write(tmp_path / "b.tar", items)
    again = TarFormat().read(tmp_path / "b.tar")
    assert [(item.name, item.label, item.attributes) for item in again] == [
        (f"k.000{i}.png", "5", {"frames": 3, "frame": i}) for i in range(3)
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_cut_and_damaged(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    TarFormat().write(path, items_of(8, (30, 30, 3)))
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    refused = 0
    for trial in range(30):
        data = bytearray(whole[: generator.integers(1, len(whole) * 7 // 8)] if trial % 2 else whole)
        if trial % 2 == 0:
            data[generator.integers(0, len(data))] ^= 0x55
        path.write_bytes(data)
        try:
            items = TarFormat().read(path)
        except InputError:
            refused += 1
            continue
        for i in range(len(items)):
            try:
                items[i]
            except ItemError:
                refused += 1
    assert refused > 8


def test_a_damaged_header_is_not_the_end(tmp_path: Path) -> None:
    path = make(tmp_path / "a.tar", {f"{i}.png": PNG for i in range(4)})
    data = bytearray(path.read_bytes())
    data[2 * (512 + 512)] ^= 0xFF  # the name of the third member: its checksum is wrong now
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged header at byte 2048"):
        TarFormat().read(path)


def test_a_negative_size_does_not_loop(tmp_path: Path) -> None:
    info = tarfile.TarInfo("b.png")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + (-1024 & 0xFFFF).to_bytes(2, "big")  # base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = make(tmp_path / "a.tar", {"a.png": PNG})
    data = path.read_bytes()
    path.write_bytes(data[:1024] + header + data[1024:])
    with pytest.raises(InputError, match="damaged"):
        TarFormat().read(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_not_a_tar(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for data in (b"", b"hello", b"\x1f\x8b no gzip", b"x" * 2000):
        path.write_bytes(data)
        assert TarFormat.matches(path)
        with pytest.raises(InputError):
            TarFormat().read(path)
    with pytest.raises(InputError, match="No such file"):
        TarFormat().read(tmp_path / "none.tar")


def test_an_empty_tar_and_one_under_a_wrong_suffix(tmp_path: Path) -> None:
    assert len(TarFormat().read(make(tmp_path / "a.tar", {}))) == 0
    assert len(TarFormat().read(make(tmp_path / "a.tar.gz", {"a.png": PNG}))) == 1


def test_unsafe_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsafeNameError):
        TarFormat().write(tmp_path / "a.tar", [Item("../a.png", PIXELS)])
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=40)
@given(
    shape=shapes,
    dtype=dtypes,
    named=st.dictionaries(st.one_of(stems, long_stems), labels_text, min_size=1, max_size=4),
    attributes=st.dictionaries(
        st.sampled_from(["a", "ü"]), st.one_of(st.integers(), st.text(max_size=3), st.none()), max_size=2
    ),
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, shape, dtype, named, attributes) -> None:
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    items = [Item(f"{name}.png", noise(shape, dtype, i), label, attributes) for i, (name, label) in enumerate(named.items())]
    TarFormat().write(path, items)
    found = TarFormat().read(path)
    assert_same(found, items)
    assert all(item.attributes == attributes for item in found)
