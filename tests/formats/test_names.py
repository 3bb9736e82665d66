from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from batchcodec_plugins.formats.names import (
    candidates,
    common_depth,
    folder_label,
    has_image_suffix,
    label_folder,
    split_suffix,
)

from batchcodec.errors import UnsafeNameError
from batchcodec.names import check_name, unsafe_reason


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("/etc/passwd", "absolute"),
        ("C:/x.png", "absolute"),
        ("c:x.png", "absolute"),
        ("../x.png", r"'\.\.'"),
        ("a/../x.png", r"'\.\.'"),
        ("a/./x.png", r"'\.'"),
        ("a//x.png", "empty component"),
        ("a/", "empty component"),
        ("a\\b.png", "backslash"),
        ("a\0.png", "control"),
        ("a\x1b[31m.png", "control"),
        ("x" * 256, "255 bytes"),
        ("長" * 86, "255 bytes"),
        ("a/\udcff.png", "Unicode"),
    ],
)
def test_unsafe_names(name: str, reason: str) -> None:
    with pytest.raises(UnsafeNameError, match=reason):
        check_name(Path("out"), name)


@pytest.mark.parametrize("name", ["a.png", "a/b c/ü.png", "line\nbreak.png", "x" * 255, "a..b.png", "..a", "長" * 85, "ab:c"])
def test_safe_names(name: str) -> None:
    assert unsafe_reason(name) is None


def test_suffixes() -> None:
    assert split_suffix("d.x/a.b.PNG") == ("d.x/a.b", ".PNG")
    assert split_suffix("d.x/a") == ("d.x/a", "")
    assert split_suffix("d/.png") == ("d/.png", "")
    assert has_image_suffix("a/B.JPeG")
    assert not has_image_suffix("a.jpg/readme.txt")


def test_candidates() -> None:
    assert list(islice(candidates("d/a", ".jpg", ".png"), 4)) == ["d/a.png", "d/a.jpg.png", "d/a.jpg.2.png", "d/a.jpg.3.png"]
    assert len(set(islice(candidates("a", "", ".png"), 50))) == 50
    assert len(set(islice(candidates("a", ".png", ".png"), 50))) == 50


def test_labels_of_folders() -> None:
    names = ["s/train/cat/1.png", "s/train/dog/x/2.png", "s/train/3.png"]
    depth = common_depth(names)
    assert depth == 2
    assert [folder_label(name, depth) for name in names] == ["cat", "dog", None]
    assert common_depth([]) == 0
    assert folder_label("a.png", common_depth(["a.png", "b.png"])) is None
    assert folder_label("x/a.png", common_depth(["x/a.png", "x/b.png"])) is None


@pytest.mark.parametrize("label", ["cat", "a/b", "..", ".", "", "C:\\x", "\0", "é" * 300, "\ud800"])
def test_label_folders_are_safe(label: str) -> None:
    assert unsafe_reason(label_folder(label)) is None
    assert "/" not in label_folder(label)
