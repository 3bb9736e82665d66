"""Parquet tables of images: the conformance kit, what Hugging Face `datasets` writes, row groups, and what is refused."""

from __future__ import annotations

import json
import sys
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batchcodec_plugins.formats import ParquetFormat, parquet
from hypothesis import given, settings
from hypothesis import strategies as st

import batchcodec
from batchcodec.dataset import FormatOptions
from batchcodec.errors import InputError, ItemError, MissingDependencyError, OptionError
from batchcodec.testing import check_format
from batchcodec.types import Item

from .samples import assert_same, dtypes, items_of, labels_text, noise, png_bytes, shapes

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def table(path: Path, columns: dict[str, list[Any]], features: dict[str, Any] | None = None, rows: int = 1 << 20) -> Path:
    """A file as `datasets` writes it: the features are JSON beside the schema."""
    made = pa.table(columns)
    if features:
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(made, path, row_group_size=rows)
    return path


def images(n: int, **more: Any) -> list[dict[str, Any]]:
    return [{"bytes": png_bytes(noise((5, 7, 3), seed=i)), "path": f"{i}.png", **more} for i in range(n)]


@pytest.mark.parametrize("image_format", ["png", "webp", "keep"])
def test_the_conformance_kit(tmp_path: Path, image_format: str) -> None:
    items = items_of(9, (5, 7, 3))
    check_format(ParquetFormat, tmp_path, items, FormatOptions(image_format=image_format))


def test_the_conformance_kit_with_mixed_items(tmp_path: Path) -> None:
    items = [
        Item("a/ä.jpg", noise((3, 4, 1)), None),
        Item("b.png", noise((9, 2, 4)), "x y"),
        Item("c", noise((2, 2, 1), "uint16")),
    ]
    check_format(ParquetFormat, tmp_path, items)


@given(st.lists(st.tuples(shapes, dtypes, st.none() | labels_text), min_size=1, max_size=5), st.integers(1, 3))
@settings(max_examples=20)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, kinds: list[Any], workers: int) -> None:
    path = tmp_path_factory.mktemp("parquet") / "a.parquet"
    items = [Item(f"{i}.png", noise(shape, dtype, i), label, {"i": i}) for i, (shape, dtype, label) in enumerate(kinds)]
    writer = ParquetFormat()
    writer.workers = workers
    writer.write(path, iter(items))
    found = list(ParquetFormat().read(path))
    assert_same(found, items)
    assert [item.attributes["i"] for item in found] == list(range(len(items)))


def test_what_datasets_reads(tmp_path: Path) -> None:
    """Types, features and metadata are those by which `datasets` knows an Image and a ClassLabel."""
    items = [Item("a.png", noise((2, 3, 3)), "dog"), Item("b.png", noise((2, 3, 3)), "cat"), Item("c.png", noise((2, 3, 3)))]
    ParquetFormat().write(tmp_path / "a.parquet", iter(items))
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.field("image").type == pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    assert schema.field("label").type == pa.int64()
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["image"] == {"_type": "Image"}
    assert features["label"] == {"names": ["dog", "cat"], "_type": "ClassLabel"}
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [row["label"] for row in rows] == [0, 1, None]
    assert [row["image"]["path"] for row in rows] == ["a.png", "b.png", "c.png"]


def test_class_names_columns_and_numbers(tmp_path: Path) -> None:
    columns = {
        "image": images(3),
        "label": [1, 0, -1],
        "caption": ["one", None, "three"],
        "score": [0.5, float("nan"), 2.0],
        "boxes": [[1, 2], [], [3]],
    }
    found = ParquetFormat().read(table(tmp_path / "a.parquet", columns, FEATURES))
    assert [item.label for item in found] == ["dog", "cat", None]
    assert [item.name for item in found] == ["0.png", "1.png", "2.png"]
    assert [dict(item.attributes) for item in found] == [
        {"caption": "one", "score": 0.5},
        {},
        {"caption": "three", "score": 2.0},
    ]
    assert found.ignored == 1


@pytest.mark.parametrize("path", [None, "", "same.png"])
def test_paths_that_are_no_names_become_numbers(tmp_path: Path, path: str | None) -> None:
    rows = [{**image, "path": path} for image in images(2)]
    found = ParquetFormat().read(table(tmp_path / "a.parquet", {"image": rows, "label": ["x", "y"]}))
    assert [item.name for item in found] == ["000000.png", "000001.png"]
    assert [item.label for item in found] == ["x", "y"]


def test_a_column_of_bytes_and_integers_without_names(tmp_path: Path) -> None:
    data = [image["bytes"] for image in images(2)]
    found = ParquetFormat().read(table(tmp_path / "a.parquet", {"jpg": data, "class": [7, None]}))
    assert [item.label for item in found] == ["7", None]
    np.testing.assert_array_equal(found[1].pixels, noise((5, 7, 3), seed=1))


def test_several_columns_of_images(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", {"left": images(1), "right": images(2)[1:], "kind": ["x"]})
    with pytest.raises(InputError, match="--key"):
        ParquetFormat().read(path)
    found = ParquetFormat(FormatOptions(key="right", label_key="kind")).read(path)
    assert (found[0].name, found[0].label) == ("1.png", "x")
    for options in (FormatOptions(key="kind"), FormatOptions(key="right", label_key="left")):
        with pytest.raises(InputError, match="there is no column"):
            ParquetFormat(options).read(path)
    with pytest.raises(InputError, match="no column of image files"):
        ParquetFormat().read(table(tmp_path / "b.parquet", {"a": [1]}))


def test_rows_that_are_no_images(tmp_path: Path) -> None:
    good = images(4)
    rows = [good[0], {"bytes": None, "path": "/etc/passwd"}, None, {"bytes": b"no image", "path": "x.png"}]
    found = ParquetFormat().read(table(tmp_path / "a.parquet", {"image": rows, "label": [0, 1, 1, 9]}, FEATURES))
    assert found[0].label == "cat"
    for index, match in ((1, "another file"), (2, "no image in its row"), (3, "not an image")):
        with pytest.raises(ItemError, match=match):
            found[index]
    rows[3] = good[3]
    with pytest.raises(ItemError, match="class 9 of 2"):
        ParquetFormat().read(table(tmp_path / "a.parquet", {"image": rows, "label": [0, 1, 1, 9]}, FEATURES))[3]
    for text in ("{", '{"a": 1e999}', '"\\ud800"'):
        columns = {"image": good[:1], "attributes": [text]}
        with pytest.raises(ItemError, match="attributes are damaged"):
            ParquetFormat().read(table(tmp_path / "b.parquet", columns))[0]


def test_row_groups_are_read_a_few_rows_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n = 150
    found = ParquetFormat().read(table(tmp_path / "a.parquet", {"image": images(n)}, rows=40))
    assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 4
    starts: list[int] = []
    read = found._rows._read
    monkeypatch.setattr(found._rows, "_read", lambda group: starts.append(group) or read(group))
    for index, item in enumerate(found):
        np.testing.assert_array_equal(item.pixels, noise((5, 7, 3), seed=index))
        assert len(found._rows._window) <= parquet._WINDOW_ROWS
    assert starts == [0, 1, 2, 3]
    for index in np.random.default_rng(0).integers(0, n, 30).tolist():
        assert found[index].name == f"{index}.png"


def test_threads_may_read_one_table(tmp_path: Path) -> None:
    found = ParquetFormat().read(table(tmp_path / "a.parquet", {"image": images(60)}, rows=20))
    barrier = threading.Barrier(4)

    def work(seed: int) -> bool:
        barrier.wait(10)
        order = np.random.default_rng(seed).integers(0, 60, 25).tolist()
        return all(np.array_equal(found[i].pixels, noise((5, 7, 3), seed=i)) for i in order)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_writing_in_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 4)
    items = items_of(10)
    ParquetFormat().write(tmp_path / "a.parquet", iter(items))
    sizes = pq.ParquetFile(tmp_path / "a.parquet").metadata
    assert [sizes.row_group(i).num_rows for i in range(sizes.num_row_groups)] == [4, 4, 2]
    assert_same(list(ParquetFormat().read(tmp_path / "a.parquet")), items)
    ParquetFormat().write(tmp_path / "b.parquet", iter(items))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_damaged_file_raises_errors_of_ours(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", {"image": images(6), "label": [0, 1] * 3}, FEATURES, rows=3)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 150).tolist():
        damaged = bytearray(data)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(damaged))
        try:
            found = ParquetFormat().read(path)
        except InputError:
            continue
        for index in range(len(found)):
            try:
                assert found[index].pixels.ndim == 3
            except ItemError:
                continue


def test_an_unknown_image_format_and_a_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError):
        ParquetFormat(FormatOptions(image_format="bpg")).write(tmp_path / "a.parquet", iter(items_of(1)))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingDependencyError, match=r"batchcodec\[parquet\]"):
        ParquetFormat().read(tmp_path / "a.parquet")


def test_there_and_back_through_an_archive(tmp_path: Path) -> None:
    source = table(tmp_path / "a.parquet", {"image": images(5), "label": [0, 1, 0, 1, 1]}, FEATURES)
    batchcodec.pack(source, tmp_path / "a.cpack", batchcodec.PackOptions(codec="zstd"))
    with batchcodec.open(tmp_path / "a.cpack") as archive:
        assert archive.classes == ["cat", "dog"]
        report = archive.to_parquet(tmp_path / "b.parquet")
        assert (report.format, report.n_items) == ("parquet", 5)
        assert_same(list(ParquetFormat().read(tmp_path / "b.parquet")), list(ParquetFormat().read(source)))
        assert archive.to_webdataset(tmp_path / "b.tar").format == "tar"
        assert archive.to_npz(tmp_path / "b.npz").format == "npz"
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert tar.getnames()[:2] == ["0.png", "0.cls"]
    np.testing.assert_array_equal(np.load(tmp_path / "b.npz")["labels"], ["cat", "dog", "cat", "dog", "dog"])
