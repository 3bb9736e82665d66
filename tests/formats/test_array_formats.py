"""npy, npz and idx."""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from batchcodec_plugins.formats import IdxFormat, NpyFormat, NpzFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.dataset import Format, FormatOptions
from batchcodec.errors import EmptyDatasetError, InputError, ItemError, OutputError
from batchcodec.types import Item, Stack

from .samples import assert_same, dtypes, items_of, labels_text, noise, shapes, stems

# ---- npy


@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_npy_reads_nhwc(tmp_path: Path, dtype: str, channels: int) -> None:
    array = noise((12, 5, 7, channels), "uint16").astype(dtype)
    np.save(tmp_path / "a.npy", array)
    items = NpyFormat().read(tmp_path / "a.npy")
    assert [item.name for item in items[:2]] == ["000000.png", "000001.png"]
    assert items[-1].name == "000011.png"
    np.testing.assert_array_equal(np.stack([item.pixels for item in items]), array)
    assert items[3].notes == ()
    assert items[3].label is None
    with pytest.raises(IndexError):
        items[12]


@pytest.mark.parametrize(
    ("shape", "n_items", "image", "note"),
    [
        ((3, 8, 9), 3, (8, 9, 1), ()),
        ((8, 9), 1, (8, 9, 1), ()),
        ((6, 3, 8, 9), 6, (8, 9, 3), ("NCHW to NHWC",)),
        ((6, 1, 8, 9), 6, (8, 9, 1), ("NCHW to NHWC",)),
        ((6, 3, 8, 4), 6, (3, 8, 4), ()),
        ((0, 8, 9), 0, None, None),
        ((2, 8, 1, 9), None, None, "has the shape"),
        ((3, 8, 4), None, None, "may be one image"),
        ((5,), None, None, "has the shape"),
        ((2, 0, 9), None, None, "no pixels"),
        ((1, 2, 3, 4, 5), None, None, "has the shape"),
    ],
)
def test_npy_axes(
    tmp_path: Path, shape: tuple[int, ...], n_items: int | None, image: tuple[int, ...] | None, note: object
) -> None:
    array = noise(shape)
    np.save(tmp_path / "a.npy", array)
    if n_items is None:
        with pytest.raises(InputError, match=str(note)):
            NpyFormat().read(tmp_path / "a.npy")
        return
    items = NpyFormat().read(tmp_path / "a.npy")
    assert len(items) == n_items
    if image is not None:
        assert items[n_items - 1].pixels.shape == image
        assert items[0].notes == note
        assert sorted(items[0].pixels.ravel()) == sorted((array if array.ndim == 2 else array[0]).ravel())


def test_npy_bool(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noise((2, 8, 9)) > 127)
    item = NpyFormat().read(tmp_path / "a.npy")[1]
    assert set(item.pixels.ravel()) == {0, 255}
    assert item.notes == ("bool to L",)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((2, 8, 9), np.float32), "is float32"),
        (np.zeros((2, 8, 9), np.int64), "is int64"),
        (np.array([{}, {}], dtype=object), "never unpickled"),
        (np.asfortranarray(np.zeros((2, 8, 9), np.uint8)), "Fortran"),
    ],
)
def test_npy_refuses(tmp_path: Path, array: np.ndarray, reason: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=reason):
        NpyFormat().read(tmp_path / "a.npy")


@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"\x93NUMPY\x01\x00v\x00{'descr'", b"\x93NUMPY\x09\x00v\x00", b"hello"])
def test_npy_damaged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(InputError, match=r"not a \.npy|version"):
        NpyFormat().read(tmp_path / "a.npy")


def test_npy_truncated(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", noise((3, 8, 9)))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data[:-1])
    with pytest.raises(InputError, match="344 bytes expected, 343 found"):
        NpyFormat().read(tmp_path / "a.npy")


def test_npy_write_is_what_numpy_writes(tmp_path: Path) -> None:
    items = items_of(5, (4, 3, 3), "uint16")
    NpyFormat().write(tmp_path / "a.npy", iter(items))
    array = np.load(tmp_path / "a.npy")
    np.testing.assert_array_equal(array, np.stack([item.pixels for item in items]))
    np.save(tmp_path / "b.npy", array)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


# ---- npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_reads_the_usual_names(tmp_path: Path, save: object) -> None:
    images = noise((6, 8, 9, 3))
    save(tmp_path / "a.npz", x=images, y=np.arange(6) - 2, names=np.array([f"n/{i}.png" for i in range(6)]), mean=np.zeros(3))
    items = NpzFormat().read(tmp_path / "a.npz")
    assert [item.label for item in items] == ["-2", "-1", "0", "1", "2", "3"]
    assert items[4].name == "n/4.png"
    assert items.ignored == 1
    for index in (5, 0, 3):
        np.testing.assert_array_equal(items[index].pixels, images[index])


def test_npz_choices(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    train, test = noise((6, 8, 9)), noise((4, 8, 9), seed=1)
    np.savez(path, x_train=train, y_train=np.arange(6), x_test=test, y_test=np.array(list("abcd"))[:, None])
    with pytest.raises(InputError, match=r"--key.*x_train uint8\[6, 8, 9\]"):
        NpzFormat().read(path)
    items = NpzFormat(FormatOptions(key="x_test")).read(path)
    assert [item.label for item in items] == list("abcd")
    assert [item.label for item in NpzFormat(FormatOptions(key="x_train")).read(path)] == list("012345")
    with pytest.raises(InputError, match=r"y_train .* cannot be the labels: 4 integers"):
        NpzFormat(FormatOptions(key="x_test", label_key="y_train")).read(path)
    with pytest.raises(InputError, match="no array 'z'"):
        NpzFormat(FormatOptions(key="z")).read(path)
    with pytest.raises(InputError, match="no array 'z'"):
        NpzFormat(FormatOptions(key="x_test", label_key="z")).read(path)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"images": np.zeros((2, 8, 9), np.float32)}, "no array of images"),
        ({"images": np.array([None, {}], dtype=object)}, "never unpickled"),
        ({"images": np.zeros((2, 8, 9), np.uint8), "labels": np.arange(3)}, "does not fit as labels"),
        (
            {"images": np.zeros((2, 8, 9), np.uint8), "labels": np.array(["a", None], dtype=object)},
            "'labels': .*never unpickled",
        ),
        (
            {"data": np.zeros((2, 8, 9), np.uint8), "labels": np.arange(2), "targets": np.arange(2)},
            "several arrays may be the labels",
        ),
        ({"a": np.zeros((2, 8, 9), np.uint8), "b": np.zeros((2, 8, 9), np.uint8)}, "several arrays may be the images"),
        ({}, "no array of images"),
    ],
)
def test_npz_refuses(tmp_path: Path, arrays: dict[str, np.ndarray], reason: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=reason):
        NpzFormat().read(tmp_path / "a.npz")


def test_npz_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK\x03\x04 no")
    with pytest.raises(InputError, match=r"not a \.npz"):
        NpzFormat().read(path)
    with pytest.raises(InputError, match="No such file"):
        NpzFormat().read(tmp_path / "none.npz")
    np.savez_compressed(path, images=noise((30, 50, 50)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    items = NpzFormat().read(path)
    with pytest.raises(ItemError, match=r"'000029\.png': damaged"):
        items[29]


def test_npz_is_deterministic_and_plain_numpy(tmp_path: Path) -> None:
    items = items_of(5)
    NpzFormat().write(tmp_path / "a.npz", items)
    NpzFormat().write(tmp_path / "b.npz", iter(items))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz") as loaded:
        assert loaded["images"].shape == (5, 5, 7)
        assert loaded["labels"].dtype == np.int64
        assert loaded["names"].tolist() == [item.name for item in items]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_npz_of_fewer_items_than_promised(tmp_path: Path) -> None:
    class Short(list[Item]):
        def __len__(self) -> int:
            return 4

    items = Short(Item(f"{i}.png", pixels) for i, pixels in enumerate(noise((3, 8, 9, 1))))
    with pytest.raises(InputError, match="3 images came where 4 were promised"):
        NpzFormat().write(tmp_path / "a.npz", items)
    assert not list(tmp_path.iterdir())
    NpzFormat().write(tmp_path / "a.npz", iter(items))  # promises nothing
    assert len(NpzFormat().read(tmp_path / "a.npz")) == 3


@pytest.mark.parametrize(
    "labels", [["01", "2"], ["1", None], ["cat", "7"], [str(1 << 63), "0"], [None, None], [str(-(1 << 63)), "5"]]
)
def test_npz_labels_are_exact(tmp_path: Path, labels: list[str | None]) -> None:
    items = [Item(f"{i}.png", noise((2, 5, 1)), label) for i, label in enumerate(labels)]
    NpzFormat().write(tmp_path / "a.npz", items)
    assert_same(NpzFormat().read(tmp_path / "a.npz"), items)


@settings(max_examples=40)
@given(
    shape=shapes,
    dtype=dtypes,
    named=st.dictionaries(stems, st.one_of(st.none(), labels_text), min_size=1, max_size=4),
    data=st.data(),
)
def test_npz_round_trip(tmp_path_factory: pytest.TempPathFactory, shape, dtype, named, data) -> None:
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    items = [Item(name, noise(shape, dtype, i), label) for i, (name, label) in enumerate(named.items())]
    NpzFormat().write(path, items)
    assert_same(NpzFormat().read(path), items)


@settings(max_examples=25)
@given(shape=shapes, dtype=dtypes, n=st.integers(1, 5))
def test_npy_round_trip(tmp_path_factory: pytest.TempPathFactory, shape, dtype, n) -> None:
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    items = items_of(n, shape, dtype)
    NpyFormat().write(path, items)
    assert_same(NpyFormat().read(path), items, labels=False)


# ---- stacks


class Stacked(Iterable[Item]):
    """The images of an array in stacks of these lengths; they are not to be asked for one by one."""

    def __init__(self, array: np.ndarray, lengths: list[int]) -> None:
        self._array, self._lengths = array, lengths

    def __iter__(self) -> Iterator[Item]:
        raise AssertionError("asked one by one")

    def stacks(self) -> Iterator[Stack]:
        start = 0
        for length in self._lengths:
            pixels = self._array[start : start + length]
            yield Stack([Item(f"{start + i}.png", image, "7") for i, image in enumerate(pixels)], pixels)
            start += length


class PromisedStacks(Stacked):
    """So many of them."""

    def __len__(self) -> int:
        return len(self._array)


def cut(array: np.ndarray, how: str) -> np.ndarray:
    return {"as it is": array, "reversed": array[::-1], "from wider": np.repeat(array, 2, 2)[:, :, ::2]}[how]


@pytest.mark.parametrize("how", ["as it is", "reversed", "from wider"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", ">u2"])
@pytest.mark.parametrize("source", [Stacked, PromisedStacks])
@pytest.mark.parametrize("kind", [NpyFormat, NpzFormat, IdxFormat])
def test_stacks_are_written_as_items_are(
    tmp_path: Path, kind: type[Format], source: type[Stacked], dtype: str, how: str
) -> None:
    array = cut(noise((40, 100, 90, 1), "uint16").astype(dtype), how)
    if kind is IdxFormat:
        array = array.astype(np.uint8)
    for name, lengths in {"ones": [1] * 40, "mixed": [1, 30, 2, 7], "one": [40]}.items():  # shorter and longer than buffers
        kind().write(tmp_path / f"{name}{kind.suffixes[0]}", source(array, lengths))
    kind().write(tmp_path / f"items{kind.suffixes[0]}", (Item(f"{i}.png", image, "7") for i, image in enumerate(array)))
    kinds = {path.read_bytes() for path in tmp_path.iterdir() if "label" not in path.name}
    assert len(kinds) == 1
    read = kind().read(tmp_path / f"one{kind.suffixes[0]}")
    np.testing.assert_array_equal(np.stack([item.pixels for item in read]), array)


@pytest.mark.parametrize("kind", [NpyFormat, NpzFormat, IdxFormat])
def test_stacks_of_two_kinds_are_refused(tmp_path: Path, kind: type[Format]) -> None:
    class Two(Stacked):
        def stacks(self) -> Iterator[Stack]:
            yield from Stacked(noise((3, 8, 9, 1)), [2, 1]).stacks()
            wide = noise((2, 8, 10, 1))
            yield Stack([Item(f"wide/{i}.png", image) for i, image in enumerate(wide)], wide)

    with pytest.raises(InputError, match=r"wide/0\.png"):
        kind().write(tmp_path / f"a{kind.suffixes[0]}", Two(noise((3, 8, 9, 1)), []))
    assert not list(tmp_path.iterdir())


def test_npz_of_fewer_stacks_than_promised(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="6 images came where 8 were promised"):
        NpzFormat().write(tmp_path / "a.npz", PromisedStacks(noise((8, 8, 9, 1)), [4, 2]))
    assert not list(tmp_path.iterdir())


# ---- idx

NAMES = ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz", "train-images.idx3-ubyte", "a.idx", "a.idx.gz", "A.IDX"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labels", [True, False])
def test_idx_round_trip(tmp_path: Path, name: str, labels: bool) -> None:
    items = items_of(9, labels=labels)
    path = tmp_path / name
    IdxFormat().write(path, iter(items))
    assert IdxFormat.matches(path)
    assert_same(IdxFormat().read(path), items)
    assert len(list(tmp_path.iterdir())) == 1 + labels
    assert not any(IdxFormat.matches(other) for other in tmp_path.iterdir() if "idx1" in other.name)


def test_idx_label_file_names(tmp_path: Path) -> None:
    IdxFormat().write(tmp_path / "t-images-idx3-ubyte.gz", items_of(3))
    IdxFormat().write(tmp_path / "b.idx", items_of(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "b-labels.idx",
        "b.idx",
        "t-images-idx3-ubyte.gz",
        "t-labels-idx1-ubyte.gz",
    ]
    # the labels may be compressed where the images are not, and the other way round
    unpacked = gzip.decompress((tmp_path / "t-labels-idx1-ubyte.gz").read_bytes())
    (tmp_path / "t-labels-idx1-ubyte.gz").unlink()
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(unpacked)
    assert IdxFormat().read(tmp_path / "t-images-idx3-ubyte.gz")[2].label == "2"


def test_idx_matches_by_content_without_a_suffix(tmp_path: Path) -> None:
    (tmp_path / "my idx images").write_bytes(b"\0\0\x08\x03" + b"\0\0\0\1" * 3 + b"x")
    (tmp_path / "my idx labels").write_bytes(b"\0\0\x08\x01" + b"\0\0\0\1x")
    assert IdxFormat.matches(tmp_path / "my idx images")
    assert IdxFormat().read(tmp_path / "my idx images")[0].pixels.tolist() == [[[ord("x")]]]
    assert not IdxFormat.matches(tmp_path / "my idx labels")


def test_idx_of_colour_images(tmp_path: Path) -> None:
    array = noise((2, 3, 5, 3))
    (tmp_path / "a.idx").write_bytes(b"\0\0\x08\x04" + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes())
    items = IdxFormat().read(tmp_path / "a.idx")
    np.testing.assert_array_equal(np.stack([item.pixels for item in items]), array)


@pytest.mark.parametrize("name", ["a.idx", "a.idx.gz"])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-1], "truncated: 331 bytes expected for .* 330 found"),
        (lambda data: data + b"!", "longer than its header says: 331 bytes expected for .* 332 found"),
        (lambda data: data[:10], "truncated"),
        (lambda data: b"", "not an IDX file|cannot be read"),
        (lambda data: b"PK" + data[2:], "not an IDX file: it begins with 50 4b"),
        (lambda data: data[:2] + b"\x0d" + data[3:], "element type 0x0d"),
        (lambda data: b"\0\0\x08\x01\0\0\0\1x", "holds labels"),
        (lambda data: b"\0\0\x08\x00", "truncated"),
        (lambda data: b"\0\0\x08\x03" + b"\xff" * 12, "truncated"),
        (lambda data: b"\0\0\x08\x04" + b"\0\0\0\1" * 3 + b"\0\0\0\5abcde", "channels"),
    ],
)
def test_idx_damaged(tmp_path: Path, name: str, change: object, reason: str) -> None:
    IdxFormat().write(tmp_path / "whole.idx", items_of(9, labels=False))
    data = change((tmp_path / "whole.idx").read_bytes())
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    with pytest.raises(InputError, match=reason):
        IdxFormat().read(tmp_path / name)


def test_idx_cut_gzip_and_wrong_labels(tmp_path: Path) -> None:
    path = tmp_path / "images.idx.gz"
    IdxFormat().write(path, items_of(9))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(InputError, match=r"truncated|cannot be read"):
        IdxFormat().read(path)
    path.write_bytes(whole)
    (tmp_path / "labels.idx.gz").write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x02ab"))
    with pytest.raises(InputError, match="9 images"):
        IdxFormat().read(path)


@pytest.mark.parametrize(
    ("items", "reason"),
    [
        (items_of(2, (4, 4, 3)), "8-bit mono"),
        (items_of(2, dtype="uint16"), "8-bit mono"),
        ([Item("a.png", noise((2, 2, 1)), "cat")], "'a.png' has 'cat'"),
        ([Item("a.png", noise((2, 2, 1)), "256")], "'256'"),
        ([Item("a.png", noise((2, 2, 1)), "1"), Item("b.png", noise((2, 2, 1)))], "1 of 2 items have a label"),
    ],
)
def test_idx_write_refuses(tmp_path: Path, items: list[Item], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        IdxFormat().write(tmp_path / "a.idx", items)
    assert list(tmp_path.iterdir()) == []


# ---- all three


@pytest.mark.parametrize(("kind", "name"), [(NpyFormat, "a.npy"), (NpzFormat, "a.npz"), (IdxFormat, "a.idx")])
def test_writing_failures(tmp_path: Path, kind: type, name: str) -> None:
    mixed = [*items_of(2), Item("odd.png", noise((3, 3, 1)))]
    with pytest.raises(InputError, match=r"'odd.png' is 3x3 L, the first item '000000.png' is 7x5 L"):
        kind().write(tmp_path / name, mixed)
    with pytest.raises(EmptyDatasetError):
        kind().write(tmp_path / name, [])
    with pytest.raises(OutputError, match="No such file"):
        kind().write(tmp_path / "none" / name, items_of(1))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        kind().write(tmp_path / name, items_of(1))
    assert (tmp_path / name).read_bytes() == b"mine"


def test_zip_member_with_extra_field(tmp_path: Path) -> None:
    """The local header of a member may have an extra field that the directory has not."""
    out = io.BytesIO()
    np.save(out, noise((3, 8, 9)))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        info = zipfile.ZipInfo("images.npy")
        info.extra = b"\x99\x99\x04\x00abcd"
        archive.writestr(info, out.getvalue())
    np.testing.assert_array_equal(NpzFormat().read(tmp_path / "a.npz")[2].pixels[..., 0], noise((3, 8, 9))[2])
