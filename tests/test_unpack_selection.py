"""`unpack` of some items: by name, label and place; only their groups are decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli
from PIL import Image

import batchcodec


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shapes, so that groups leave the dataset's order; groups of 2; the first group is damaged."""
    folder = tmp_path_factory.mktemp("selection")
    for i in range(12):
        path = folder / "images" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4 + i // 6, 5), i, np.uint8)).save(path)
    batchcodec.pack(folder / "images", folder / "x.cpack", batchcodec.PackOptions(codec="store", group_items=2))
    data = (folder / "x.cpack").read_bytes()
    place = data.index(bytes([0] * 20 + [2] * 20))  # the pixels of a/00.png and a/02.png
    (folder / "bad.cpack").write_bytes(data[:place] + b"\1" + data[place + 1 :])
    return folder / "x.cpack"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--name", "b/*"], [1, 3, 5, 7, 9, 11]),
        (["--label", "a"], [0, 2, 4, 6, 8, 10]),
        (["--range", "3:5"], [6, 8]),
        (["--range", "-1"], [11]),
        (["--label", "b", "--name", "*1.png"], [1, 11]),
        (["--range", ":2", "--name", "a/04.png", "--name", "a/02.png"], [2]),
    ],
)
@pytest.mark.parametrize("to", ["folder", "npz"])
def test_what_is_selected_is_written(
    arguments: list[str], expected: list[int], to: str, archive: Path, invoke: RunCli, tmp_path: Path
) -> None:
    if to == "npz" and len({i // 6 for i in expected}) > 1:
        pytest.skip("an array holds images of one shape")
    target = tmp_path / ("out" if to == "folder" else "out.npz")
    done = invoke("unpack", archive, target, *arguments, "--json")
    assert (done.rc, done.json["n_items"], done.json["without"]) == (0, len(expected), [])
    if to == "folder":
        assert sorted(int(path.stem) for path in target.rglob("*.png")) == expected
    else:
        assert np.load(target)["images"][:, 0, 0].tolist() == expected


def test_groups_without_wanted_items_are_not_decoded(archive: Path, invoke: RunCli, tmp_path: Path) -> None:
    bad = archive.with_name("bad.cpack")
    assert invoke("unpack", bad, tmp_path / "all").rc == 4
    assert invoke("unpack", bad, tmp_path / "some", "--label", "b").rc == 0
    done = invoke("unpack", bad, tmp_path / "rest", "--name", "a/0[024].png", "--on-error", "skip", "--json")
    assert (done.rc, done.json["n_items"], done.json["n_lost"]) == (0, 1, 2)


def test_conditions_that_nothing_meets(archive: Path, invoke: RunCli, tmp_path: Path) -> None:
    done = invoke("unpack", archive, tmp_path / "out", "--label", "c", "--json")
    assert (done.rc, done.json["error"]["type"]) == (4, "ItemNotFoundError")
    assert not (tmp_path / "out").exists()
    done = invoke("unpack", archive, tmp_path / "out", "--label", "c", "--label", "a")
    assert done.rc == 0
    assert "no item has label 'c'" in done.stdout
    assert invoke("unpack", archive, tmp_path / "x", "--range", "a:b").rc == 2
