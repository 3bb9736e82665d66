"""`split` and `extract`: whole groups are copied, others are cut only when it is said how, and nothing loses quality."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive.samples import XorCodec, assembled, blocks_of, image, items, packed, same
from helpers import picture
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec import disk
from batchcodec import open as open_archive
from batchcodec.archive.reader import Archive
from batchcodec.archive.wire import BlockType, CodecRecord
from batchcodec.checking.verify import verify
from batchcodec.codec import Codec
from batchcodec.copying.combine import merge
from batchcodec.copying.divide import extract, split
from batchcodec.copying.parts import label_stem
from batchcodec.errors import (
    CodecError,
    CorruptGroupError,
    DriftError,
    ItemNotFoundError,
    OptionError,
    OutputError,
    TargetExistsError,
    UnknownCodecError,
    UnsupportedImageError,
)
from batchcodec.registry import Registry
from batchcodec.selection import Selection, parse_range
from batchcodec.types import GroupSpec, Item, Pixels


class Store(XorCodec):
    """Writes what the codec `store` reads."""

    codec_id = "store"

    def get_config(self) -> dict[str, Any]:
        return {}


def stored(path: Path, dataset: Sequence[Item], group_items: int = 4, **more: Any) -> Path:
    path.write_bytes(packed(dataset, group_items=group_items, codec=Store(), **more))
    return path


def labelled(n: int, labels: Sequence[str | None], size: int = 1) -> list[Item]:
    """Items whose labels take turns, `size` items each."""
    return [Item(f"{i:03}.png", image(i), labels[i // size % len(labels)], {"n": i}) for i in range(n)]


def all_of(path: Path) -> list[Item]:
    assert verify(path, deep=True).verdict == "whole"
    with open_archive(path) as archive:
        return list(archive)


def groups_of(path: Path) -> list[bytes]:
    return [block[1] for block in blocks_of(path.read_bytes()) if block[0] == BlockType.GROUP]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- selections


def places(archive: Archive, **conditions: Any) -> list[int]:
    found = Selection(**{key: tuple(value) for key, value in conditions.items()}).of(archive)
    assert found.n_items == found.mask.sum()
    return np.flatnonzero(found.mask).tolist()


def test_selections(tmp_path: Path) -> None:
    dataset = [
        Item(name, image(i), label)
        for i, (name, label) in enumerate(
            [("cat/1.png", "cat"), ("cat/sub/2.png", "cat"), ("dog/3.jpg", "dog"), ("Dog/4.png", None), ("[5].png", "*")]
        )
    ]
    with open_archive(stored(tmp_path / "a.cpack", dataset)) as archive:
        assert places(archive) == [0, 1, 2, 3, 4]
        assert places(archive, names=["*.png"]) == [0, 1, 3, 4]
        assert places(archive, names=["cat/*"]) == [0, 1]
        assert places(archive, names=["dog/*"]) == [2]
        assert places(archive, names=["cat/?.png"]) == [0]
        assert places(archive, names=["[dD]og/*", "cat/1.png"]) == [0, 2, 3]
        assert places(archive, names=["[[]5].png"]) == [4]
        assert places(archive, labels=["cat", "dog"]) == [0, 1, 2]
        assert places(archive, labels=["*"]) == [4]
        assert places(archive, names=["*.png"], labels=["cat"], ranges=["1:"]) == [1]
        assert places(archive, ranges=["0", "-1", "1:2"]) == [0, 1, 4]
        assert Selection(labels=("cat", "cta"), ranges=("0:9", "8:9")).of(archive).without == ["label 'cta'", "range 8:9"]
        for empty, message in (
            ({"names": ("*.PNG",)}, r"nothing has name '\*.PNG'"),
            ({"labels": ("cat",), "ranges": ("3:",)}, "no item meets all"),
        ):
            with pytest.raises(ItemNotFoundError, match=message):
                Selection(**empty).of(archive)


@given(st.integers(-12, 12) | st.none(), st.integers(-12, 12) | st.none())
def test_ranges_are_slices(start: int | None, stop: int | None) -> None:
    text = f"{'' if start is None else start}:{'' if stop is None else stop}"
    assert range(10)[parse_range(text)] == range(10)[start:stop]
    if start is not None:
        assert list(range(10)[parse_range(str(start))]) == ([range(10)[start]] if -10 <= start < 10 else [])


@pytest.mark.parametrize("text", ["", "a", "1:2:3", "1-2", "1:b", "--1:", "1" * 19, " 1", "1\n"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(OptionError, match="range"):
        Selection(ranges=(text,))


# ---- extract


@st.composite
def selections(draw: st.DrawFn) -> tuple[list[Item], Selection, int]:
    shapes = draw(st.lists(st.sampled_from([(1, 2, 1), (2, 1, 3)]), min_size=1, max_size=12))
    dataset = [
        Item(f"{draw(st.sampled_from('abc'))}/{i}", image(i, *shape), draw(st.sampled_from([None, "x", "y"])), {"i": i})
        for i, shape in enumerate(shapes)
    ]
    names = draw(st.lists(st.sampled_from(["a/*", "*1*", "?/2", "z"]), max_size=2))
    labels = draw(st.lists(st.sampled_from("xyz"), max_size=2))
    ranges = draw(st.lists(st.sampled_from(["2:5", "-3:", "0", ":4"]), max_size=2))
    return dataset, Selection(tuple(names), tuple(labels), tuple(ranges)), draw(st.integers(1, 5))


def expected(dataset: Sequence[Item], selection: Selection) -> list[Item]:
    """What a selection means, in other words."""
    spans = [set(range(len(dataset))[parse_range(text)]) for text in selection.ranges]
    return [
        item
        for i, item in enumerate(dataset)
        if (not selection.names or any(fnmatch.fnmatchcase(item.name, pattern) for pattern in selection.names))
        and (not selection.labels or item.label in selection.labels)
        and (not spans or any(i in span for span in spans))
    ]


@settings(max_examples=30)
@given(selections())
def test_what_is_extracted(tmp_path_factory: pytest.TempPathFactory, drawn: tuple[list[Item], Selection, int]) -> None:
    dataset, selection, group_items = drawn
    folder = tmp_path_factory.mktemp("extract")
    source, target = stored(folder / "a.cpack", dataset, group_items), folder / "b.cpack"
    want = expected(dataset, selection)
    if not want:
        with pytest.raises(ItemNotFoundError):
            extract(source, target, selection, recode="zstd")
        return
    report = extract(source, target, selection, recode="zstd")
    assert same(all_of(target), want)
    assert (report.n_selected, report.n_total, report.part.n_items) == (len(want), len(dataset), len(want))
    copied = [group for group in groups_of(target) if group in groups_of(source)]
    assert len(copied) == report.part.n_copied
    report = extract(source, target, selection, whole_groups=True, force=True)
    assert all(group in groups_of(source) for group in groups_of(target))
    taken = {item.name for item in all_of(target)}
    assert {item.name for item in want} <= taken
    assert len(taken) == report.part.n_items
    assert same(all_of(target), [item for item in dataset if item.name in taken])


def test_whole_groups_are_copied_without_being_asked(tmp_path: Path) -> None:
    dataset = labelled(12, ["cat", "dog", "eel"], size=4)
    source = stored(tmp_path / "a.cpack", dataset)
    report = extract(source, tmp_path / "b.cpack", Selection(labels=("dog",)))
    assert same(all_of(tmp_path / "b.cpack"), dataset[4:8])
    assert groups_of(tmp_path / "b.cpack") == groups_of(source)[1:2]
    assert (report.part.n_copied, report.part.n_recoded) == (1, 0)
    assert str(tmp_path / "b.cpack") == report.part.path


def test_a_group_is_not_cut_without_being_asked(tmp_path: Path) -> None:
    source = stored(tmp_path / "a.cpack", items(12))
    with pytest.raises(OptionError, match="2 of 3 groups hold 4 of the wanted items") as caught:
        extract(source, tmp_path / "b.cpack", Selection(ranges=("2:10",)))
    assert "--whole-groups" in str(caught.value)
    assert names_in(tmp_path) == ["a.cpack"]


@pytest.mark.parametrize(
    ("recode", "error"),
    [
        ("jpeg:quality=100", OptionError),
        ("zstd:level=99", OptionError),
        ("nothing", UnknownCodecError),
        ("bmp", UnsupportedImageError),
    ],
)
def test_only_what_loses_nothing_codes_anew(tmp_path: Path, recode: str, error: type[Exception]) -> None:
    source = stored(tmp_path / "a.cpack", items(4, channels=3, dtype="uint16"))
    with pytest.raises(error):
        extract(source, tmp_path / "b.cpack", Selection(ranges=("1",)), recode=recode)
    assert names_in(tmp_path) == ["a.cpack"]


class Lying(Store):
    """Says that it is lossless, and is not."""

    codec_id = "lying"

    @property
    def lossless(self) -> bool:
        return True

    def decode(self, payload: bytes, spec: GroupSpec, items: Sequence[int] | None = None) -> Pixels:
        return super().decode(payload, spec, items) ^ 1


class Failing(Lying):
    codec_id = "failing"

    def encode(self, images: Pixels) -> bytes:
        raise ZeroDivisionError


class Drifting(Store):
    """Decodes to pixels that are one step off."""

    offset = 1


class Plugins(Registry):
    """Also with the codecs above, and with `Drifting` for the archive's own."""

    def make_codec(self, text: str, **more: Any) -> Codec:
        return (
            {"lying": Lying, "failing": Failing}[text]() if text in ("lying", "failing") else super().make_codec(text, **more)
        )

    def restore(self, record: CodecRecord) -> Codec:
        return Drifting() if record.codec_id == "store" else super().restore(record)


def test_a_codec_that_fails_to_code_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Drifting, "offset", 0)
    source, plugins = stored(tmp_path / "a.cpack", items(4)), Plugins()
    for recode, message in (("lying", "gave other pixels"), ("failing", "ZeroDivisionError")):
        with pytest.raises(CodecError, match=message):
            extract(source, tmp_path / "b.cpack", Selection(ranges=("1",)), recode=recode, plugins=plugins)


def test_rounding_is_told(tmp_path: Path) -> None:
    """What decodes to other pixels than were packed is refused, and within rounding of them it is counted."""
    dataset = [Item(f"{i}", picture((16, 16, 1), i)) for i in range(8)]
    source = stored(tmp_path / "a.cpack", dataset, exact=False)
    report = extract(source, tmp_path / "b.cpack", Selection(ranges=("2:",)), recode="zstd", plugins=Plugins())
    assert (report.part.n_copied, report.part.n_recoded, report.part.n_rounded) == (1, 1, 1)
    source = stored(tmp_path / "a.cpack", dataset)
    with pytest.raises(DriftError):
        extract(source, tmp_path / "c.cpack", Selection(ranges=("2:",)), recode="zstd", plugins=Plugins())
    assert names_in(tmp_path) == ["a.cpack", "b.cpack"]


def test_options_and_targets_of_extract(tmp_path: Path) -> None:
    source = stored(tmp_path / "a.cpack", items(4))
    everything = Selection()
    (tmp_path / "old.cpack").write_bytes(b"old")
    with pytest.raises(TargetExistsError):
        extract(source, tmp_path / "old.cpack", everything)
    with pytest.raises(OptionError, match="sources"):
        extract(source, source, everything, force=True)
    with pytest.raises(OptionError, match="whole-groups"):
        extract(source, tmp_path / "b.cpack", everything, recode="zstd", whole_groups=True)
    with pytest.raises(OutputError):
        extract(source, tmp_path / "none" / "b.cpack", everything)
    extract(source, tmp_path / "old.cpack", everything, force=True)
    assert same(all_of(tmp_path / "old.cpack"), items(4))


def test_damage_of_the_source(tmp_path: Path) -> None:
    source = stored(tmp_path / "a.cpack", items(12))
    data = bytearray(source.read_bytes())
    data[data.index(groups_of(source)[1]) + 40] ^= 1
    source.write_bytes(data)
    for options in ({"ranges": ("4:8",)}, {"ranges": ("5:8",)}):
        with pytest.raises(CorruptGroupError, match="group 1"):
            extract(source, tmp_path / "b.cpack", Selection(**options), recode="zstd")
    with pytest.raises(CorruptGroupError, match="group 1"):
        split(source, tmp_path / "parts", parts=3)
    assert names_in(tmp_path) == ["a.cpack"]
    extract(source, tmp_path / "b.cpack", Selection(ranges=("8:",)))  # it has nothing of the damaged group
    assert same(all_of(tmp_path / "b.cpack"), items(12)[8:])


def test_meta_of_a_part(tmp_path: Path) -> None:
    meta: dict[str, Any] = {
        "codecs": {"store": 8},
        "source_bytes": 99,
        "mean_psnr": 100.0,
        "lossless": True,
        "preprocess": {"size": "native"},
        "n_skipped": 3,
        "repaired": {"n": 1},
        "merged_from": [{"archive": "x", "items": 8}],
    }
    extract(stored(tmp_path / "a.cpack", items(8), meta=meta), tmp_path / "b.cpack", Selection(ranges=("2:",)), recode="zstd")
    with open_archive(tmp_path / "b.cpack") as archive:
        found = archive.meta
    assert found.pop("created_by")
    assert found == {
        "codecs": {"store": 4, "zstd": 2},
        "lossless": True,
        "mean_psnr": 100.0,
        "pooled_psnr": 100.0,
        "notes": {},
        "preprocess": {"size": "native"},
        "selected_from": {"archive": "a.cpack", "items": 8, "meta": {"repaired": {"n": 1}}},
    }
    del meta["codecs"]
    meta["lossless"] = False
    extract(stored(tmp_path / "a.cpack", items(8), meta=meta), tmp_path / "c.cpack", Selection(ranges=("4:",)))
    with open_archive(tmp_path / "c.cpack") as archive:
        assert not archive.meta.keys() & {
            "codecs",
            "lossless",
            "mean_psnr",
            "pooled_psnr",
            "source_bytes",
            "n_skipped",
            "skipped",
        }


def test_unknown_blocks_are_left_behind(tmp_path: Path) -> None:
    source = stored(tmp_path / "a.cpack", items(4))
    source.write_bytes(assembled([*blocks_of(source.read_bytes()), (200, b"later", 0, False)]))
    assert extract(source, tmp_path / "b.cpack", Selection()).left_behind == {"block type 200": 1}
    assert split(source, tmp_path / "parts", parts=1).left_behind == {"block type 200": 1}


# ---- split


@settings(max_examples=20)
@given(
    st.lists(st.sampled_from([(1, 2, 1), (2, 1, 3)]), min_size=1, max_size=12),
    st.integers(1, 4),
    st.sampled_from(["parts", "items", "max_bytes"]),
    st.integers(1, 5),
)
def test_parts_are_the_whole(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, int, int]], group_items: int, way: str, n: int
) -> None:
    folder = tmp_path_factory.mktemp("split")
    dataset = [Item(f"{i}", image(i, *shape), str(i % 2)) for i, shape in enumerate(shapes)]
    source = stored(folder / "a.cpack", dataset, group_items)
    n_groups = len(groups_of(source))
    if way == "parts" and n > n_groups:
        with pytest.raises(OptionError, match=f"at most {n_groups}"):
            split(source, folder / "parts", parts=n)
        return
    amount = 2000 + 500 * n if way == "max_bytes" else n
    report = split(source, folder / "parts", **{way: amount})  # type: ignore[arg-type]
    paths = [Path(part.path) for part in report.parts]
    assert [path.name for path in paths] == names_in(folder / "parts")
    assert [group for path in paths for group in groups_of(path)] == groups_of(source)
    assert [part.n_bytes for part in report.parts] == [path.stat().st_size for path in paths]
    if way == "parts":
        assert len(paths) == n
    if way == "items":
        assert all(part.n_items <= n or part.n_copied == 1 for part in report.parts)
        assert report.n_over == sum(part.n_items > n for part in report.parts)
    if way == "max_bytes":
        assert all(part.n_bytes <= amount for part in report.parts)
    merge(paths, folder / "again.cpack")
    again = all_of(folder / "again.cpack")
    assert same(sorted(again, key=lambda item: int(item.name)), dataset)
    if report.in_order:
        assert same(again, dataset)


def test_a_part_is_what_packing_its_items_gives(tmp_path: Path) -> None:
    """Byte for byte but META, places in the dataset included."""
    source = stored(tmp_path / "a.cpack", items(12))
    split(source, tmp_path / "parts", parts=3)
    for i, path in enumerate(sorted((tmp_path / "parts").iterdir())):
        alone = packed(items(12)[4 * i : 4 * i + 4], group_items=4, codec=Store())
        without = [[block for block in blocks_of(data) if block[0] != BlockType.META] for data in (path.read_bytes(), alone)]
        assert without[0] == without[1]


def test_parts_are_about_equal(tmp_path: Path) -> None:
    source = stored(tmp_path / "a.cpack", items(40), group_items=3)  # 13 groups of three and one of one
    report = split(source, tmp_path / "parts", parts=4)
    assert [part.n_items for part in report.parts] == [9, 12, 9, 10]
    assert names_in(tmp_path / "parts") == [f"a-{i:05}-of-00004.cpack" for i in range(4)]
    report = split(source, tmp_path / "parts14", parts=14)
    assert [part.n_copied for part in report.parts] == [1] * 14


def test_a_part_counts_its_model(tmp_path: Path) -> None:
    """Each part has the model that its groups need, and `--max-bytes` reckons with it."""
    model = np.random.default_rng(0).bytes(3000)
    (tmp_path / "a.cpack").write_bytes(packed(items(20), codec=XorCodec(model=model)))
    report = split(tmp_path / "a.cpack", tmp_path / "parts", max_bytes=6000)
    assert len(report.parts) > 1
    assert all(3000 < part.n_bytes <= 6000 for part in report.parts)
    with pytest.raises(OptionError, match="group 0 and its codec"):
        split(tmp_path / "a.cpack", tmp_path / "parts2", max_bytes=4000)


def test_the_bound_holds_for_long_names_and_attributes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dataset = [
        Item(rng.bytes(50).hex(), image(i, 1, 1), rng.bytes(9).hex(), {rng.bytes(4).hex(): rng.bytes(20).hex()})
        for i in range(200)
    ]
    source = stored(tmp_path / "a.cpack", dataset, group_items=5)
    report = split(source, tmp_path / "parts", max_bytes=8000)
    assert 5 < len(report.parts) < 40
    assert max(part.n_bytes for part in report.parts) <= 8000


def test_by_label(tmp_path: Path) -> None:
    dataset = labelled(14, ["cat", None, "a/b"], size=3)
    source = stored(tmp_path / "a.cpack", dataset)
    with pytest.raises(OptionError, match=r"groups hold .* items of several labels"):
        split(source, tmp_path / "parts", by_label=True)
    report = split(source, tmp_path / "parts", by_label=True, recode="png")
    assert names_in(tmp_path / "parts") == ["%unlabelled.cpack", "a%2Fb.cpack", "cat.cpack"]
    for label, name in ((None, "%unlabelled"), ("a/b", "a%2Fb"), ("cat", "cat")):
        assert same(all_of(tmp_path / "parts" / f"{name}.cpack"), [item for item in dataset if item.label == label])
    assert sum(part.n_items for part in report.parts) == 14
    report = split(stored(tmp_path / "b.cpack", labelled(8, ["x", "y"], 4)), tmp_path / "whole", by_label=True)
    assert [(part.n_copied, part.n_recoded) for part in report.parts] == [(1, 0), (1, 0)]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.none(), max_size=6, unique=True))
def test_labels_become_file_names(labels: list[str | None]) -> None:
    stems = [label_stem(label) for label in labels]
    assert len(set(stems)) == len(stems)
    assert all(stem and not stem.startswith(".") and "/" not in stem and stem.isprintable() for stem in stems)


def test_labels_that_make_no_file_name(tmp_path: Path) -> None:
    source = stored(tmp_path / "a.cpack", labelled(8, ["x" * 250, "y"], 4))
    with pytest.raises(OutputError, match="too long"):
        split(source, tmp_path / "parts", by_label=True)


def test_folders_of_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = stored(tmp_path / "a.cpack", items(8))
    with pytest.raises(OptionError, match="not a file"):
        split(source, source, parts=2)
    with pytest.raises(OutputError):
        split(source, tmp_path / "none" / "parts", parts=2)
    (tmp_path / "parts").mkdir()
    split(source, tmp_path / "parts", parts=1)
    with pytest.raises(TargetExistsError):
        split(source, tmp_path / "parts", parts=2)
    split(source, tmp_path / "parts", parts=2, force=True)
    assert names_in(tmp_path / "parts") == ["a-00000-of-00001.cpack", "a-00000-of-00002.cpack", "a-00001-of-00002.cpack"]
    monkeypatch.chdir(tmp_path / "parts")
    split(source, Path(), parts=2, force=True)
    assert names_in(tmp_path) == ["a.cpack", "parts"]
    alone = stored(tmp_path / "cat.cpack", labelled(4, ["cat"]))
    with pytest.raises(OptionError, match="place of the archive"):
        split(alone, tmp_path, by_label=True, force=True)


def test_a_disk_that_fails_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = stored(tmp_path / "a.cpack", items(8))
    sync, calls = disk.sync, []

    def third(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(disk, "sync", third)
    with pytest.raises(OutputError, match="No space left"):
        split(source, tmp_path / "parts", parts=2)
    assert names_in(tmp_path) == ["a.cpack"]


@pytest.mark.parametrize(
    "way",
    [{}, {"parts": 1, "items": 2}, {"parts": 0}, {"items": -1}, {"max_bytes": 0}, {"parts": 1, "recode": "zstd"}],
    ids=str,
)
def test_ways_that_do_not_work(tmp_path: Path, way: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        split(stored(tmp_path / "a.cpack", items(4)), tmp_path / "parts", **way)
    assert names_in(tmp_path) == ["a.cpack"]


def test_progress_counts_all_parts(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    source = stored(tmp_path / "a.cpack", labelled(8, ["x", "y"]))
    split(source, tmp_path / "parts", by_label=True, recode="zstd", progress=lambda *status: seen.append(status))
    assert len(seen) == 4
    assert seen[-1][0] == seen[-1][1]
