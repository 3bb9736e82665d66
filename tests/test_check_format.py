"""`check_format` passes every built-in format, and finds the format that breaks a law."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from batchcodec_plugins.formats import FolderFormat, IdxFormat, NpyFormat, NpzFormat, TarFormat
from helpers import picture

from batchcodec.dataset import Format, FormatOptions
from batchcodec.testing import check_format
from batchcodec.types import Item

BUILT_IN = (FolderFormat, NpyFormat, NpzFormat, IdxFormat, TarFormat)


def _items(shape: tuple[int, int, int], dtype: str = "uint8", n: int = 5) -> list[Item]:
    return [Item(f"{'ab'[i % 2]}/{i:06d}.png", picture(shape, i, dtype), "ab"[i % 2]) for i in range(n)]


@pytest.mark.parametrize("kind", BUILT_IN)
def test_the_sample(kind: type[Format], tmp_path: Path) -> None:
    check_format(kind, tmp_path)


@pytest.mark.parametrize("kind", [FolderFormat, NpyFormat, NpzFormat, TarFormat])
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((6, 4, 3), "uint8"), ((5, 3, 1), "uint16"), ((1, 1, 4), "uint8"), ((4, 5, 2), "uint8"), ((9, 2, 3), "uint16")],
)
def test_colour_alpha_and_16_bits(kind: type[Format], shape: tuple[int, int, int], dtype: str, tmp_path: Path) -> None:
    check_format(kind, tmp_path, _items(shape, dtype))


@pytest.mark.parametrize("kind", [FolderFormat, TarFormat])
def test_mixed_sizes_and_names(kind: type[Format], tmp_path: Path) -> None:
    names = ("a/日本.png", "a/space here.png", "b/line\nbreak.png", "b/" + "x" * 120 + ".png", "b/c.d.e.png")
    items = [Item(name, picture((3 + i, 9 - i, 3), i), name[0]) for i, name in enumerate(names)]
    check_format(kind, tmp_path, items, FormatOptions(image_format="png"))


class _Base(NpzFormat):
    pass


class _RaisingMatch(_Base):
    @classmethod
    def matches(cls, path):
        return path.read_bytes()[:2] == b"PK"


class _MatchesNothing(_Base):
    @classmethod
    def matches(cls, path):
        return False


class _MatchesMissing(_Base):
    @classmethod
    def matches(cls, path):
        return path.suffix == ".npz"


class _UpperSuffix(_Base):
    suffixes = (".NPZ",)


class _TakesJunk(_Base):
    def read(self, path):
        return [] if path.exists() and path.stat().st_size in (0, 300) else super().read(path)


class _RawErrors(_Base):
    def read(self, path):
        return np.load(path)["images"]


class _Changed(_Base):
    """Subclasses say what comes back in place of an item."""

    def read(self, path):
        found = super().read(path)
        return [self.change(i, found[i]) for i in range(len(found))]

    def change(self, index, item):
        return item


class _OtherPixels(_Changed):
    def change(self, index, item):
        return Item(item.name, item.pixels | 1, item.label)


class _OtherShape(_Changed):
    def change(self, index, item):
        return Item(item.name, item.pixels[..., 0], item.label)


class _OtherType(_Changed):
    def change(self, index, item):
        return Item(item.name, item.pixels.astype("uint16"), item.label)


class _OtherLabels(_Changed):
    def change(self, index, item):
        return Item(item.name, item.pixels)


class _OtherNames(_Changed):
    def change(self, index, item):
        return Item(item.name + "x", item.pixels, item.label)


class _OneName(_Changed):
    keeps_names = False

    def change(self, index, item):
        return Item("same", item.pixels, item.label)


class _LosesOne(_Changed):
    def read(self, path):
        return super().read(path)[:-1]


class _SharesItsPlace(_Base):
    """Says that threads may read it, and keeps the place of the item that is read where all of them see it."""

    def read(self, path):
        return _Shared(super().read(path))


class _Shared:
    parallel_reads = True

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.place = index
        time.sleep(1e-5)  # others come in between
        return self.items[self.place]


class _SaysMaybe(_Base):
    def read(self, path):
        found = super().read(path)
        found.parallel_reads = "maybe"
        return found


class _WritesOutside(FolderFormat):
    def write(self, path, items):
        from PIL import Image

        for item in items:
            target = path / item.name
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(item.pixels[..., 0]).save(target)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (_RaisingMatch, r"matches\('missing0.npz'\) raises FileNotFoundError"),
        (_MatchesNothing, "does not recognise"),
        (_MatchesMissing, "true for a path that does not exist"),
        (_UpperSuffix, "not in lower case"),
        (_TakesJunk, "takes what is no dataset"),
        (_RawErrors, "raises FileNotFoundError, not InputError"),
        (_OtherPixels, "got other pixels"),
        (_OtherShape, "got shape"),
        (_OtherType, "got uint16, expected uint8"),
        (_OtherLabels, "has the label None"),
        (_OtherNames, "is named"),
        (_OneName, "two items have one name"),
        (_LosesOne, "5 items come back, expected 6"),
        (_SharesItsPlace, "says parallel_reads, but item . is another when several threads read it"),
        (_SaysMaybe, "parallel_reads is 'maybe', expected False or True"),
        (_WritesOutside, "written outside"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_a_broken_law_is_named(kind: type[Format], message: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=message):
        check_format(kind, tmp_path)
