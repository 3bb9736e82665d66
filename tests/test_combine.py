"""`merge` and `append`: groups are copied as they are stored, names stay unique, and META says what stays true."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from archive.samples import (
    XorCodec,
    add_group,
    assembled,
    blocks_of,
    image,
    items,
    packed,
    read_all,
    replaced,
    restore,
    same,
)
from helpers import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from batchcodec import PackOptions, Preprocess, disk, pack
from batchcodec import open as open_archive
from batchcodec.archive import wire
from batchcodec.archive.reader import Archive
from batchcodec.archive.wire import BlockType
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.checking.verify import verify
from batchcodec.copying import combine, stored
from batchcodec.copying.combine import append, merge, prefixes, recorded_pack_options
from batchcodec.errors import (
    BatchcodecError,
    CorruptArchiveError,
    CorruptGroupError,
    DuplicateNameError,
    InputError,
    ItemError,
    NotAnArchiveError,
    OptionError,
    OutputError,
    TargetExistsError,
    TruncatedArchiveError,
    UnsafeNameError,
)
from batchcodec.types import Item

GOLDEN = Path(__file__).parent / "golden" / "v1"


def written(folder: Path, **archives: bytes) -> list[Path]:
    """Archives as files: `written(folder, a=...)` is `[folder / "a.cpack"]`."""
    paths = [folder / f"{name}.cpack" for name in archives]
    for path, data in zip(paths, archives.values(), strict=True):
        path.write_bytes(data)
    return paths


def named(dataset: list[Item], prefix: str) -> list[Item]:
    return [Item(prefix + i.name, i.pixels, i.label, i.attributes, i.notes) for i in dataset]


def groups_of(data: bytes) -> list[tuple[Any, ...]]:
    return [block for block in blocks_of(data) if block[0] == BlockType.GROUP]


def count(data: bytes, kind: BlockType) -> int:
    return sum(block[0] == kind for block in blocks_of(data))


def folder_of(root: Path, n: int, seed: int = 0, first: int = 0) -> Path:
    """A folder of RGB pictures of 16 x 12."""
    root.mkdir(parents=True)
    for i in range(first, first + n):
        Image.fromarray(picture((12, 16, 3), seed + i)).save(root / f"{i:03}.png")
    return root


# ---- items come back as they were


@st.composite
def datasets(draw: st.DrawFn, prefix: str) -> tuple[list[Item], bytes]:
    """A few items of mixed shapes, and the archive of them."""
    shapes = draw(st.lists(st.sampled_from([(1, 1, 1), (2, 3, 3), (3, 2, 4)]), min_size=1, max_size=7))
    dtype = draw(st.sampled_from(["uint8", "uint16"]))
    texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
    dataset = [
        Item(
            f"{prefix}{draw(st.text(st.characters(exclude_categories=['Cs']), max_size=3))}{i}",
            image(draw(st.integers(0, 99)), *shape, dtype),
            draw(texts),
            draw(st.dictionaries(st.sampled_from("ab"), st.integers() | texts, max_size=2)),
        )
        for i, shape in enumerate(shapes)
    ]
    codec = XorCodec(key=draw(st.integers(0, 2)), model=draw(st.sampled_from([b"", b"one", b"two"])))
    return dataset, packed(dataset, group_items=draw(st.integers(1, 4)), codec=codec, exact=draw(st.booleans()))


@settings(max_examples=25)
@given(st.integers(1, 4).flatmap(lambda n: st.tuples(*(datasets(f"{i}/") for i in range(n)))))
def test_a_merged_archive_has_the_items_of_all(tmp_path_factory: pytest.TempPathFactory, parts: Any) -> None:
    folder = tmp_path_factory.mktemp("merge")
    paths = written(folder, **{f"p{i}": data for i, (_, data) in enumerate(parts)})
    report = merge(paths, folder / "all.cpack")
    data = (folder / "all.cpack").read_bytes()
    assert same(read_all(folder / "all.cpack"), [item for dataset, _ in parts for item in dataset])
    assert groups_of(data) == [group for _, part in parts for group in groups_of(part)]
    assert count(data, BlockType.MODEL) == len(
        {b[1][:32] for _, part in parts for b in blocks_of(part) if b[0] == BlockType.MODEL}
    )
    assert count(data, BlockType.CODEC) == len({b[1] for _, part in parts for b in blocks_of(part) if b[0] == BlockType.CODEC})
    assert (report.n_items, report.n_groups, report.n_bytes) == (
        sum(len(dataset) for dataset, _ in parts),
        len(groups_of(data)),
        len(data),
    )
    assert verify(folder / "all.cpack").verdict == "whole"


def test_ten_parts_are_the_archive_that_was_packed_at_once(tmp_path: Path) -> None:
    """With parts of whole groups all blocks but META are the same, byte for byte; with others the items are."""
    whole = items(40)
    for size in (4, 3):  # items of a group; a part has four
        parts = {f"p{i}": packed(whole[4 * i : 4 * i + 4], group_items=size) for i in range(10)}
        target = tmp_path / f"{size}.cpack"
        merge(written(tmp_path, **parts), target)
        at_once = packed(whole, group_items=size)
        assert same(read_all(target), whole)
        if size == 4:
            without = [[b for b in blocks_of(data) if b[0] != BlockType.META] for data in (target.read_bytes(), at_once)]
            assert without[0] == without[1]
            assert len(without[0]) == 12


def test_parts_packed_from_folders(tmp_path: Path) -> None:
    """By `pack` itself, lossy: the same groups, the same figures in META."""
    options = PackOptions(codec="jpeg:quality=60", group_items=4, workers=1)
    for i in range(3):
        folder_of(tmp_path / "images" / f"{i}", 4, seed=50 * i)
        pack(tmp_path / "images" / f"{i}", tmp_path / f"{i}.cpack", options)
    pack(tmp_path / "images", tmp_path / "at_once.cpack", options)
    merge([tmp_path / f"{i}.cpack" for i in range(3)], tmp_path / "merged.cpack", prefix=True)
    assert groups_of((tmp_path / "merged.cpack").read_bytes()) == groups_of((tmp_path / "at_once.cpack").read_bytes())
    with open_archive(tmp_path / "merged.cpack") as merged, open_archive(tmp_path / "at_once.cpack") as at_once:
        assert merged.names == at_once.names
        for key in ("codecs", "source_bytes", "lossless", "notes", "n_skipped", "skipped", "source_format", "preprocess"):
            assert merged.meta[key] == at_once.meta[key], key
        for key in ("mean_psnr", "pooled_psnr"):
            assert merged.meta[key] == pytest.approx(at_once.meta[key], abs=1e-3)
        assert [part["archive"] for part in merged.meta["merged_from"]] == ["0.cpack", "1.cpack", "2.cpack"]  # type: ignore[index, union-attr]


def test_golden_archives_together(tmp_path: Path) -> None:
    """All codecs, a later minor version, names of all kinds; what is unknown is left behind, and said."""
    sources = sorted(GOLDEN.glob("*.cpack"))
    report = merge(sources, tmp_path / "all.cpack", prefix=True)
    assert report.left_behind == {"block type 200": 1, "directory column 200": 1, "PARITY": 4}
    with open_archive(tmp_path / "all.cpack") as merged:
        assert merged.version == (1, 0)
        start = 0
        for path in sources:
            with open_archive(path) as source:
                span = slice(start, start + len(source))
                start = span.stop
                assert merged.names[span] == [f"{path.stem}/{name}" for name in source.names]
                if path.stem not in ("hyperprior", "learned"):  # to decode these means to start torch
                    assert same(merged[span], named(list(source), f"{path.stem}/"))
        assert len(merged) == start


def test_a_model_is_written_once(tmp_path: Path) -> None:
    golden = (GOLDEN / "hyperprior.cpack").read_bytes()
    merge(written(tmp_path, a=golden, b=golden, c=golden), tmp_path / "all.cpack", prefix=True)
    data = (tmp_path / "all.cpack").read_bytes()
    for kind in (BlockType.MODEL, BlockType.CODEC):
        assert [b for b in blocks_of(data) if b[0] == kind] == [b for b in blocks_of(golden) if b[0] == kind]
    assert len(groups_of(data)) == 3 * len(groups_of(golden))


def test_codecs_keep_what_this_version_does_not_know(tmp_path: Path) -> None:
    data = packed(items(4))
    blocks = blocks_of(data)
    body = next(b[1] for b in blocks if b[0] == BlockType.CODEC)
    later = json.dumps({**json.loads(body), "later": [1, 2]}).encode()  # with spaces: no writer of this version writes them
    reference = wire.checksum(later).to_bytes(8, "little")
    replace = {
        BlockType.CODEC: lambda _: later,
        BlockType.GROUP: lambda body: reference + body[8:],
    }
    changed = assembled([(kind, replace.get(BlockType(kind), bytes)(body), n, required) for kind, body, n, required in blocks])
    merge(written(tmp_path, a=changed, b=packed(named(items(2), "b/"))), tmp_path / "all.cpack")
    merged = blocks_of((tmp_path / "all.cpack").read_bytes())
    assert later in [b[1] for b in merged]
    assert same(read_all(tmp_path / "all.cpack"), items(4) + named(items(2), "b/"))


def test_bodies_are_copied_in_pieces(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1 << 12, 1 << 12, 1), np.uint8)
    [path] = written(tmp_path, large=packed([Item("a", pixels)]))
    tracemalloc.start()
    try:
        merge([path], tmp_path / "all.cpack")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 6 << 20, "a group of 16 MiB was in memory"


# ---- names


def test_a_name_twice_is_an_error_that_names_both(tmp_path: Path) -> None:
    paths = written(tmp_path, a=packed(items(3)), b=packed(named(items(2), "b")), c=packed(items(3)[2:]))
    with pytest.raises(DuplicateNameError) as caught:
        merge(paths, tmp_path / "all.cpack")
    assert str(tmp_path / "a.cpack") in str(caught.value)
    assert str(tmp_path / "c.cpack") in str(caught.value)
    assert caught.value.item == "i/002.bin"
    assert "--prefix" in caught.value.__notes__[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.cpack", "b.cpack", "c.cpack"]


def test_a_name_twice_in_one_archive_is_its_damage(tmp_path: Path) -> None:
    body = wire.pack_directory(b"\x02\x01\x02\x00\x00\x02\x06\x00\x00\x01\x01aa", 1)
    [path] = written(tmp_path, a=replaced(packed(items(2)), BlockType.DIRECTORY, body))
    with pytest.raises(CorruptArchiveError, match="two items have one name"):
        merge([path], tmp_path / "all.cpack")


def test_prefixes_are_as_long_as_they_must_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths = [Path(text) for text in ("x/train.cpack", "y/train.cpack", "test.cpack", "x/y/val.tar.gz", "z/y/val.tar.cpack")]
    assert prefixes(paths) == ["x/train/", "y/train/", "test/", "x/y/val.tar/", "z/y/val.tar/"]
    assert prefixes([Path("a.cpack"), Path("b/a.cpack")]) == [f"{tmp_path.name}/a/", "b/a/"]
    assert prefixes([Path("b/a.cpack"), Path("a")]) == ["b/a/", f"{tmp_path.name}/a/"]
    with pytest.raises(OptionError, match="different"):
        prefixes([Path("a.cpack"), Path("b.cpack"), Path("x/../a.cpack")])
    with pytest.raises(UnsafeNameError):
        prefixes([Path("a\\b.cpack")])


def test_two_archives_of_one_name(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        written(tmp_path / folder, train=packed(items(2)))
    merge([tmp_path / "x" / "train.cpack", tmp_path / "y" / "train.cpack"], tmp_path / "all.cpack", prefix=True)
    assert same(read_all(tmp_path / "all.cpack"), named(items(2), "x/train/") + named(items(2), "y/train/"))


def test_a_name_that_gets_too_long(tmp_path: Path) -> None:
    paths = written(tmp_path, a=packed([Item("n" * 4095, image(1))]), b=packed(items(1)))
    merge(paths, tmp_path / "all.cpack")
    with pytest.raises(ItemError, match="4096"):
        merge(paths, tmp_path / "all2.cpack", prefix=True)


# ---- META


def meta_of(path: Path) -> dict[str, Any]:
    with Archive(path, restore) as archive:
        return archive.meta


def merged_meta(folder: Path, *metas: dict[str, Any]) -> dict[str, Any]:
    parts = {f"p{i}": packed(named(items(2 + i), f"{i}"), meta=meta) for i, meta in enumerate(metas)}
    merge(written(folder, **parts), folder / "all.cpack", force=True)
    return meta_of(folder / "all.cpack")


def test_what_is_not_equal_is_said_of_each_part(tmp_path: Path) -> None:
    meta = merged_meta(
        tmp_path,
        {"created_by": "x", "preprocess": {"size": "64"}, "source_format": "npz", "repaired": {"n": 1}, "source_bytes": 5},
        {"created_by": "x", "preprocess": {"size": "32"}, "source_format": "npz", "source_bytes": 7},
    )
    assert meta["source_format"] == "npz"
    assert meta["source_bytes"] == 12
    assert "preprocess" not in meta
    assert [part.get("meta") for part in meta["merged_from"]] == [
        {"preprocess": {"size": "64"}, "repaired": {"n": 1}},
        {"preprocess": {"size": "32"}},
    ]
    assert [(part["archive"], part["items"]) for part in meta["merged_from"]] == [("p0.cpack", 2), ("p1.cpack", 3)]


def test_figures_that_one_part_lacks_are_left_out(tmp_path: Path) -> None:
    full = {"codecs": {"a": 2}, "source_bytes": 1, "mean_psnr": 40.0, "pooled_psnr": 40.0, "lossless": True}
    meta = merged_meta(tmp_path, full, {})
    assert not full.keys() & meta.keys()
    assert merged_meta(tmp_path, full, {"lossless": False})["lossless"] is False


def test_means_weigh_by_items_and_by_samples(tmp_path: Path) -> None:
    meta = merged_meta(
        tmp_path,
        {"mean_psnr": 30, "pooled_psnr": 30.0, "codecs": {"a": 1, "b": 1}, "lossless": False},
        {"mean_psnr": 40.0, "pooled_psnr": 40.0, "codecs": {"b": 3}, "lossless": True},
    )
    assert meta["mean_psnr"] == 36  # of two and three items
    assert meta["pooled_psnr"] == pytest.approx(-10 * np.log10((2 * 1e-3 + 3 * 1e-4) / 5), abs=1e-4)
    assert meta["codecs"] == {"a": 1, "b": 4}
    assert meta["lossless"] is False


@pytest.mark.parametrize(
    "hostile",
    [
        b'{"mean_psnr": "1", "source_bytes": 1.5, "codecs": [1], "skipped": 3, "merged_from": [1], "lossless": "no"}',
        b'{"x": 1, "preprocess": 7, "codecs": {"a": -1}, "merged_from": [{"archive": 1}], "created_by": {}}',
        b'{"x": ' + b"[" * 98 + b"]" * 98 + b', "mean_psnr": true, "source_bytes": -1}',
        b'{"merged_from": [{"archive": "a", "items": 1, "meta": 3}], "notes": 5, "pooled_psnr": -1}',
    ],
)
def test_meta_of_strangers(tmp_path: Path, hostile: bytes) -> None:
    sources = written(
        tmp_path,
        a=replaced(packed(items(2)), BlockType.META, hostile),
        b=packed(named(items(2), "b"), meta={"mean_psnr": 40.0, "pooled_psnr": 40.0, "source_bytes": 3, "codecs": {"a": 2}}),
    )
    merge(sources, tmp_path / "all.cpack")
    meta = meta_of(tmp_path / "all.cpack")
    assert not meta.keys() & {"mean_psnr", "pooled_psnr", "source_bytes", "codecs", "lossless"}
    assert verify(tmp_path / "all.cpack").verdict == "whole"


def test_meta_that_gets_too_long_loses_lists(tmp_path: Path) -> None:
    long = {"skipped": ["x"] * 9000, "n_skipped": 9000}
    meta = merged_meta(tmp_path, long, {**long, "y": "z" * (5 << 20)})
    assert meta["n_skipped"] == 18000
    assert len(meta["skipped"]) == 10000
    assert [part.keys() for part in meta["merged_from"]] == [{"archive", "items"}] * 2
    longer = {"skipped": ["x" * (3 << 20)] * 3, "n_skipped": 3}
    assert "skipped" not in merged_meta(tmp_path, longer, longer)


def test_notes_are_counted_anew(tmp_path: Path) -> None:
    dataset = [Item(f"{i}", image(i), None, {"batchcodec:notes": ["P to RGB", *["resized"] * i]}) for i in range(2)]
    merge(written(tmp_path, a=packed(dataset), b=packed(items(1))), tmp_path / "all.cpack")
    assert meta_of(tmp_path / "all.cpack")["notes"] == {"P to RGB": 2, "resized": 1}


# ---- sources that are damaged, targets that cannot be


def place_of(data: bytes, kind: BlockType) -> int:
    """The last byte of the body of the first block of a type."""
    position = wire.HEADER.size
    for block in blocks_of(data):
        position += wire.BLOCK.size + len(block[1])
        if block[0] == kind:
            return position - 1
    raise LookupError(kind)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (BlockType.META, CorruptArchiveError),
        (BlockType.MODEL, CorruptArchiveError),
        (BlockType.CODEC, CorruptArchiveError),
        (BlockType.GROUP, CorruptGroupError),
        (BlockType.DIRECTORY, CorruptArchiveError),
    ],
)
def test_a_damaged_source_leaves_no_target(tmp_path: Path, kind: BlockType, error: type[BatchcodecError]) -> None:
    data = bytearray(packed(items(5), codec=XorCodec(model=b"model")))
    data[place_of(bytes(data), kind)] ^= 1
    paths = written(tmp_path, a=packed(named(items(2), "a")), b=bytes(data))
    with pytest.raises(error, match=r"b\.cpack.*checksum") as caught:
        merge(paths, tmp_path / "all.cpack")
    assert type(caught.value) is error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.cpack", "b.cpack"]


def test_a_flipped_byte_of_a_source_is_found(tmp_path: Path) -> None:
    data = packed(items(2), codec=XorCodec(model=b"m"))
    for place in range(0, len(data), 3):
        [path] = written(tmp_path, a=data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        with pytest.raises(BatchcodecError):
            merge([path], tmp_path / "all.cpack")
    assert [path.name for path in tmp_path.iterdir()] == ["a.cpack"]


def test_a_group_that_the_index_lies_about(tmp_path: Path) -> None:
    """Found when the group is copied, as damage of that group."""
    data = packed(items(2))
    start = place_of(data, BlockType.CODEC) + 1
    header = bytearray(data[start : start + wire.BLOCK.size])
    header[8] += 1
    header[12:16] = bytes(4)
    header[12:16] = (wire.checksum(bytes(header)) & 0xFFFFFFFF).to_bytes(4, "little")
    [path] = written(tmp_path, a=data[:start] + bytes(header) + data[start + wire.BLOCK.size :])
    with pytest.raises(CorruptGroupError, match="not what the index says"):
        merge([path], tmp_path / "all.cpack")


def test_sources_that_are_none(tmp_path: Path) -> None:
    data = packed(items(2))
    (tmp_path / "cut.cpack").write_bytes(data[:-1])
    (tmp_path / "text.cpack").write_text("no archive")
    for name, error in (("cut", TruncatedArchiveError), ("text", NotAnArchiveError), ("none", NotAnArchiveError)):
        with pytest.raises(error):
            merge([tmp_path / f"{name}.cpack"], tmp_path / "all.cpack")
    with pytest.raises(OptionError, match="sources"):
        merge([], tmp_path / "all.cpack")


def test_a_codec_or_a_model_that_is_not_there(tmp_path: Path) -> None:
    blocks = blocks_of(packed(items(2), codec=XorCodec(model=b"m")))
    for kind in (BlockType.CODEC, BlockType.MODEL):
        [path] = written(tmp_path, a=assembled(b for b in blocks if b[0] != kind))
        with pytest.raises(CorruptArchiveError, match=kind.name.lower()):
            merge([path], tmp_path / "all.cpack")
    short = [(kind, body[:39] if kind == BlockType.MODEL else body, n, required) for kind, body, n, required in blocks]
    [path] = written(tmp_path, a=assembled(short))
    with pytest.raises(CorruptArchiveError, match="too short"):
        merge([path], tmp_path / "all.cpack")


def test_a_model_that_is_another_is_found_before_the_target_appears(tmp_path: Path) -> None:
    """Its block is sound, so only who unpacks it sees that."""
    data = packed(items(2), codec=XorCodec(model=b"m"))
    body = wire.pack_model(b"m")[: wire.MODEL.size] + wire.pack_model(b"n")[wire.MODEL.size :]
    [path] = written(tmp_path, a=replaced(data, BlockType.MODEL, body))
    with pytest.raises(OutputError, match="SHA-256"):
        merge([path], tmp_path / "all.cpack")
    assert not (tmp_path / "all.cpack").exists()


def test_models_that_are_too_much_for_one_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_MODEL", 10)
    parts = [packed(named(items(1), f"{i}"), codec=XorCodec(model=b"%d2345" % i)) for i in range(3)]
    merge(written(tmp_path, a=parts[0], b=parts[1]), tmp_path / "two.cpack")
    with pytest.raises(BatchcodecError, match="several archives"):
        merge(written(tmp_path, a=parts[0], b=parts[1], c=parts[2]), tmp_path / "three.cpack")


def test_codecs_of_one_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As good as impossible with 64 bits, so here the checksum has one value."""

    class Weak:
        def update(self, data: bytes) -> None: ...
        def intdigest(self) -> int:
            return 7

    monkeypatch.setattr(wire, "checksum", lambda data: 7)
    monkeypatch.setattr(stored.xxhash, "xxh3_64", Weak)
    parts = [packed(named(items(1), f"{i}"), codec=XorCodec(key=i)) for i in range(2)]
    with pytest.raises(BatchcodecError, match="could not tell them apart"):
        merge(written(tmp_path, a=parts[0], b=parts[1]), tmp_path / "all.cpack")


def test_targets(tmp_path: Path) -> None:
    paths = written(tmp_path, a=packed(items(2)), b=packed(named(items(2), "b")), c=b"old")
    with pytest.raises(TargetExistsError):
        merge(paths[:2], tmp_path / "c.cpack")
    assert (tmp_path / "c.cpack").read_bytes() == b"old"
    (tmp_path / "link.cpack").symlink_to(paths[0])
    for target in (paths[1], tmp_path / "link.cpack"):
        with pytest.raises(OptionError, match="sources"):
            merge(paths[:2], target, force=True)
    with pytest.raises(OptionError, match="directory"):
        merge(paths[:2], tmp_path, force=True)
    with pytest.raises(OutputError):
        merge(paths[:2], tmp_path / "none" / "all.cpack")
    merge(paths[:2], tmp_path / "c.cpack", force=True)
    assert len(read_all(tmp_path / "c.cpack")) == 4


def test_what_is_written_wrongly_does_not_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [path] = written(tmp_path, a=packed(items(4)))
    write = ArchiveWriter._write

    def broken(self: ArchiveWriter, data: bytes) -> None:
        write(self, data[:-1] + bytes([data[-1] ^ 1]) if len(data) == 52 else data)  # bodies of groups: 28 + 2 x 12 bytes

    monkeypatch.setattr(ArchiveWriter, "_write", broken)
    with pytest.raises(OutputError, match="does not read back") as caught:
        merge([path], tmp_path / "all.cpack")
    assert ".partial" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["a.cpack"]


@pytest.mark.parametrize("call", ["sync", "replace"])
def test_a_disk_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    paths = written(tmp_path, a=packed(items(4)), b=packed(named(items(2), "b")))
    before = paths[0].read_bytes()
    monkeypatch.setattr(disk, call, fail)
    for run in (lambda: merge(paths, tmp_path / "all.cpack"), lambda: append(paths[0], paths[1:])):
        with pytest.raises(OutputError, match="No space left"):
            run()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.cpack", "b.cpack"]
    assert paths[0].read_bytes() == before


def test_progress_ends_with_all(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    merge(written(tmp_path, a=packed(items(9))), tmp_path / "all.cpack", progress=lambda *status: seen.append(status))
    assert len(seen) == 5
    assert all(a[0] < b[0] <= b[1] for a, b in pairwise(seen))


# ---- append


def test_append_archives(tmp_path: Path) -> None:
    paths = written(tmp_path, a=packed(items(3)), b=packed(named(items(2), "b")), c=packed(named(items(2), "c")))
    paths[0].chmod(0o640)
    report = append(paths[0], paths[1:])
    assert same(read_all(paths[0]), items(3) + named(items(2), "b") + named(items(2), "c"))
    assert [source.n_items for source in report.sources] == [3, 2, 2]
    assert paths[0].stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.cpack", "b.cpack", "c.cpack"]


def test_appending_often_does_not_nest(tmp_path: Path) -> None:
    [path] = written(tmp_path, a=packed(items(1), meta={"source_format": "npz"}))
    for i in range(12):
        append(path, written(tmp_path, b=packed(named(items(1), f"{i}"), meta={"source_format": f"f{i % 2}"})))
    origins = meta_of(path)["merged_from"]
    assert [part["items"] for part in origins] == [1] * 13
    assert [part["meta"]["source_format"] for part in origins] == ["npz", *(f"f{i % 2}" for i in range(12))]


def test_append_with_prefix_leaves_the_names_of_the_archive(tmp_path: Path) -> None:
    paths = written(tmp_path, a=packed(items(2)), b=packed(items(2)))
    with pytest.raises(DuplicateNameError):
        append(paths[0], paths[1:])
    assert same(read_all(paths[0]), items(2))
    append(paths[0], paths[1:], prefix=True)
    assert same(read_all(paths[0]), items(2) + named(items(2), "b/"))


def test_append_follows_a_link_and_keeps_it(tmp_path: Path) -> None:
    paths = written(tmp_path, a=packed(items(2)), b=packed(named(items(2), "b")))
    link = tmp_path / "link.cpack"
    link.symlink_to(paths[0].name)
    append(link, paths[1:])
    assert link.is_symlink()
    assert len(read_all(paths[0])) == 4


def test_append_refuses(tmp_path: Path) -> None:
    paths = written(tmp_path, a=packed(items(2)), b=packed(items(2))[:-9])
    before = paths[0].read_bytes()
    for sources, error in (
        ([], OptionError),
        (paths[:1], OptionError),
        (paths[1:], TruncatedArchiveError),
        ([tmp_path / "none"], InputError),
        ([tmp_path / "none.cpack"], NotAnArchiveError),
    ):
        with pytest.raises(error):
            append(paths[0], sources)
    with pytest.raises(NotAnArchiveError):
        append(tmp_path / "none.cpack", paths[:1])
    assert paths[0].read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.cpack", "b.cpack"]


def test_what_was_changed_meanwhile_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = written(tmp_path, a=packed(items(2)), b=packed(named(items(2), "b")), c=packed(named(items(1), "c")))
    merging: Callable[..., Any] = combine._merge

    def meanwhile(*arguments: Any) -> Any:
        report = merging(*arguments)
        os.utime(paths[2], ns=(0, paths[0].stat().st_mtime_ns))
        paths[2].replace(paths[0])
        return report

    monkeypatch.setattr(combine, "_merge", meanwhile)
    with pytest.raises(OutputError, match="changed"):
        append(paths[0], paths[1:2])
    assert same(read_all(paths[0]), named(items(1), "c"))


def test_append_a_folder_as_the_archive_was_packed(tmp_path: Path) -> None:
    target = tmp_path / "all.cpack"
    options = PackOptions(codec="png:level=1", preprocess=Preprocess((8, 8), "box", "crop", "gray"), workers=1)
    pack(folder_of(tmp_path / "old", 3), target, options)
    found = recorded_pack_options(target)
    assert (found.codec, found.preprocess, found.model, found.model_ref) == ("png:level=1", options.preprocess, None, False)
    append(target, [folder_of(tmp_path / "new", 4, first=3)])
    pack(folder_of(tmp_path / "both", 7), tmp_path / "both.cpack", options)
    with open_archive(target) as archive, open_archive(tmp_path / "both.cpack") as both:
        assert same(archive, both)
        for key in ("codecs", "preprocess", "lossless", "source_bytes", "mean_psnr"):
            assert archive.meta[key] == both.meta[key], key
        assert len(archive.codecs) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.cpack", "both", "both.cpack", "new", "old"]


def test_append_a_folder_to_archives_that_do_not_say_how(tmp_path: Path) -> None:
    [path] = written(tmp_path, a=packed(items(2), meta={"codecs": {"png": 1, "jpeg": 1}}))
    assert recorded_pack_options(path) == PackOptions()
    before = path.read_bytes()
    folder = folder_of(tmp_path / "new", 2)
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ItemError, match="broken") as caught:
        append(path, [folder], options=PackOptions(codec="zstd", group_items=1, workers=1))
    assert not getattr(caught.value, "__notes__", []), "there is nothing to resume"
    assert path.read_bytes() == before
    (folder / "broken.png").unlink()
    append(path, [folder], prefix=True, options=PackOptions(codec="zstd"))
    with Archive(path, restore) as archive:
        assert archive.names[2:] == ["new/000.png", "new/001.png"]


def test_a_second_model_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive's own model has no encoder, so new images may be coded with another."""
    model = b"first"

    def packing(source: Path, target: Path, options: PackOptions, *, progress: object) -> None:
        target.write_bytes(packed(named(items(1), source.name), codec=XorCodec(model=model)))

    monkeypatch.setattr(combine, "pack", packing)
    [path] = written(tmp_path, a=packed(items(2), codec=XorCodec(model=b"first")))
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    assert not append(path, [tmp_path / "x"]).advice
    model = b"other"
    report = append(path, [tmp_path / "y"])
    assert len(report.advice) == 1
    assert "--model" in report.advice[0]
    assert count(path.read_bytes(), BlockType.MODEL) == 2


@pytest.mark.slow
def test_archives_that_name_their_model(tmp_path: Path, tiny_shipped: Path) -> None:
    target, new = tmp_path / "a.cpack", folder_of(tmp_path / "new", 2, first=2)
    pack(folder_of(tmp_path / "old", 2), target, PackOptions(codec="hyperprior-1", model_ref=True, workers=1))
    assert recorded_pack_options(target).model is None  # its name is not that of a file, but it is the default
    append(target, [new])
    data = target.read_bytes()
    assert (count(data, BlockType.MODEL), count(data, BlockType.CODEC)) == (0, 1)
    (tiny_shipped / "photo-rgb.safetensors").rename(tiny_shipped / "tiny-rgb.safetensors")
    assert recorded_pack_options(target).model == tiny_shipped / "tiny-rgb.safetensors"
    assert recorded_pack_options(target).model_ref
    with open_archive(target) as archive:
        assert len(list(archive)) == 4


def test_xxh3_is_what_the_reader_uses() -> None:
    """Copies are checked in pieces, with the hash that checks whole bodies."""
    hasher = xxhash.xxh3_64()
    for piece in (b"ab", b"", b"c"):
        hasher.update(piece)
    assert hasher.intdigest() == wire.checksum(b"abc")


def test_groups_of_two_codecs_in_one_source(tmp_path: Path) -> None:
    import io

    file = io.BytesIO()
    writer = ArchiveWriter(file)
    for i, item in enumerate(items(6)):
        add_group(writer, [(i, item)], XorCodec(key=i % 2, model=b"m"))
    writer.finish()
    merge(written(tmp_path, a=file.getvalue()), tmp_path / "all.cpack")
    data = (tmp_path / "all.cpack").read_bytes()
    assert same(read_all(tmp_path / "all.cpack"), items(6))
    assert (count(data, BlockType.CODEC), count(data, BlockType.MODEL)) == (2, 1)
