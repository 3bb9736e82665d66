"""Makes the golden archives of one format version. Run once for each version; it refuses to replace a file.

    python tests/golden/make.py

A golden archive is never written again. If a test fails on one, the reader is wrong, not the file.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from batchcodec.archive import digest, wire, writer
from batchcodec.archive.directory import Row, varint
from batchcodec.archive.reader import NOTES, Archive
from batchcodec.archive.wire import BlockType, GroupHead
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.entropy.tables import quantise_counts
from batchcodec.learned import model_file
from batchcodec.pack import PackOptions, pack
from batchcodec.registry import registry
from batchcodec.types import JSON, GroupSpec, Item

FOLDER = Path(__file__).parent / "v1"
META: dict[str, JSON] = {"created_by": "tests/golden/make.py"}


def picture(seed: int, height: int = 6, width: int = 8, channels: int = 1, dtype: str = "uint8") -> np.ndarray:
    """A smooth picture with some noise, [H, W, C]."""
    rng = np.random.default_rng(seed)
    y, x, c = np.ogrid[:height, :width, :channels]
    scale = 257 if dtype == "uint16" else 1
    smooth = 128 + 80 * np.sin(x / 3 + seed) * np.cos(y / 4 + c)
    return (scale * np.clip(smooth + rng.integers(-4, 5, (height, width, channels)), 0, 255)).astype(dtype)


def write(path: Path, groups: Sequence[tuple[str, Sequence[tuple[int, Item]]]]) -> None:
    """Groups of (codec, items with their places)."""
    plugins = registry()
    with path.open("xb") as file:
        made = ArchiveWriter(file)
        made.add_meta(META)
        for text, placed in groups:
            codec = plugins.make_codec(text)
            images = np.stack([item.pixels for _, item in placed])
            payload = codec.encode(images)
            decoded = codec.decode(payload, GroupSpec.of(images))
            sums = () if codec.exact else digest.sketch(decoded)
            head = GroupHead(made.add_codec(plugins.record(codec)), GroupSpec.of(images), digest.digest(decoded), sums)
            rows = []
            for order, item in placed:
                made.add_name(item.name, path.name)
                notes: dict[str, JSON] = {NOTES: list(item.notes)} if item.notes else {}
                rows.append(Row(order, item.name, item.label, {**item.attributes, **notes}))
            made.add_group(head, payload, rows)
        made.finish()


def store(path: Path) -> None:
    write(path, [("store", [(i, Item(f"{i:03}.png", picture(i, channels=3))) for i in range(3)])])


def mixed(path: Path) -> None:
    """Three shapes in turn, groups of three: the order of the dataset jumps between groups."""
    shapes = [(4, 5, 1), (5, 4, 3), (3, 3, 4)]
    attributes: list[dict[str, Any]] = [
        {},
        {"exif_orientation": 6},
        {"box": [1, 2.5, None], "nested": {"a": {"b": [True, "ü"]}}},
    ]
    items = [
        Item(
            f"{['cat', 'dog'][i % 2]}/{i}.png",
            picture(i, *shapes[i % 3]),
            [None, "dog", "cat"][i % 3],
            attributes[i % 3],
            ("P to RGB", "frame 1 of 3") if i == 4 else (),
        )
        for i in range(12)
    ]
    groups = [[(i, items[i]) for i in range(start, 12, 3)] for start in (2, 0, 1)]
    write(path, [("zstd", group[part]) for group in groups for part in (slice(0, 3), slice(3, 4))])


def png(path: Path) -> None:
    write(path, [("png", [(2 * c + i, Item(f"{c}/{i}", picture(i, channels=c))) for i in range(2)]) for c in (1, 2, 3, 4)])


def mosaic(path: Path) -> None:
    write(path, [("png:mosaic=true", [(i, Item(str(i), picture(i, 5, 7, 3))) for i in range(7)])])


def uint16(path: Path) -> None:
    groups = []
    for n, text in enumerate(["store", "zstd", "zstd:filter=none", "png"]):
        items = [Item(f"{n}/{i}.tif", picture(9 * n + i, channels=1 if text == "png" else 3, dtype="uint16")) for i in range(2)]
        groups.append((text, [(2 * n + i, item) for i, item in enumerate(items)]))
    write(path, groups)


def names(path: Path) -> None:
    odd = [
        "new\nline",
        "tab\t",
        "a",
        "é",
        "è",
        "e\u0301",
        "\U0001f408/\U0001f415",
        "日本語.png",
        " ",
        "quote\"'",
        "../up",
        "x" * 300,
        "\x00",
    ]
    write(path, [("store", [(i, Item(name, picture(i, 2, 2), name[:4])) for i, name in enumerate(odd)])])


def skipped(path: Path) -> None:
    """By `pack`, from a folder with a file that is no image."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "images"
        for i in range(3):
            (source / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(i, channels=3)).save(source / "ab"[i % 2] / f"{i}.png")
        (source / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
        pack(source, path, PackOptions(codec="zstd", on_error="skip", workers=1))


def jpeg(path: Path) -> None:
    """Inexact: with a sketch."""
    gray = [(i, Item(f"{i}.jpg", picture(i, 16, 16))) for i in range(3)]
    write(path, [("jpeg:quality=80", gray), ("jpeg:quality=80,mosaic=true", [(3, Item("3.jpg", picture(3, 16, 24)))])])


def learned(path: Path) -> None:
    """A MODEL block: `autoencoder-1` with random weights and each of its entropy coders."""
    rng = np.random.default_rng(7)
    config = {"channels": 1, "latent": 2, "widths": [4, 3, 2]}
    shapes = {
        "encoder.0.0": (4, 1, 4, 4), "encoder.1.0": (3, 4, 4, 4), "encoder.2.0": (2, 3, 4, 4), "encoder.3": (2, 2, 3, 3),
        "decoder.0.0": (2, 2, 3, 3), "decoder.1.0": (2, 3, 4, 4), "decoder.2.0": (3, 4, 4, 4), "decoder.3": (4, 1, 4, 4),
    }  # fmt: skip
    tensors: dict[str, np.ndarray] = {}
    for name, shape in shapes.items():
        transposed = name in ("decoder.1.0", "decoder.2.0", "decoder.3")
        tensors[f"{name}.weight"] = rng.normal(0, 0.5, shape).astype(np.float16)
        tensors[f"{name}.bias"] = rng.normal(0, 0.5, shape[1 if transposed else 0]).astype(np.float16)
    tensors["quantiser.low"], tensors["quantiser.step"] = np.full(2, -4, np.float32), np.full(2, 1 / 32, np.float32)
    tensors["tables"] = quantise_counts(rng.integers(0, 100, (2, 256))).astype(np.uint16)
    model = model_file.dump(tensors, {"codec": "autoencoder-1", "config": config})
    source = path.with_suffix(".npy")
    np.save(source, np.stack([picture(i, 20, 12)[:, :, 0] for i in range(3)]))
    made = path.with_suffix(".safetensors")
    made.write_bytes(model)
    pack(source, path, PackOptions(codec="autoencoder-1:entropy=huffman", model=made, group_items=2, workers=1))
    source.unlink()
    made.unlink()


def segments(path: Path) -> None:
    """Three DIRECTORY blocks."""
    with mock.patch.object(writer, "SEGMENT_ITEMS", 4):
        write(
            path,
            [
                ("store", [(i, Item(f"{i:02}", picture(i, 2, 2), str(i))), (i + 1, Item(f"{i + 1:02}", picture(i, 2, 2)))])
                for i in range(0, 10, 2)
            ],
        )


def later(path: Path) -> None:
    """As a later minor version may write it: ignorable block and column, and a key in CODEC, that 1.0 does not know."""
    pixels = picture(0, 3, 3)[None]
    codec = wire.pack_json({"id": "store", "config": {"hint": 1}, "model": None, "exact": True, "later": [1]})
    table = b"\x01\x01\x01\x00\x02\x03\x00\x01a" + b"\xc8" + varint(6) + b"future"
    blocks: list[tuple[int, bytes, int, bool]] = [
        (BlockType.CODEC, codec, 0, True),
        (200, b"a block of the future", 12345, False),
        (
            BlockType.GROUP,
            wire.pack_group(GroupHead(wire.checksum(codec), GroupSpec.of(pixels), digest.digest(pixels)), pixels.tobytes()),
            1,
            True,
        ),
        (BlockType.DIRECTORY, wire.pack_directory(table, 1), 1, True),
        (BlockType.META, wire.pack_json(META), 0, False),
    ]
    start = wire.HEADER.pack(wire.MAGIC, 1, 7, 0, 0, 0)[:-8]
    out = bytearray(start + wire.checksum(start).to_bytes(8, "little"))
    entries = []
    for kind, body, n_items, required in blocks:
        entries.append(wire.BlockEntry(kind, len(out), len(body), n_items))
        out += wire.pack_block_header(kind, body, n_items, required=required) + body  # type: ignore[arg-type]
    index_at, index = len(out), wire.pack_index(entries)
    out += wire.pack_block_header(BlockType.INDEX, index) + index
    path.write_bytes(out + wire.pack_trailer(index_at, len(out) + wire.TRAILER.size))


ALL = {
    "store": store,
    "zstd_mixed": mixed,
    "png_files": png,
    "png_mosaic": mosaic,
    "uint16": uint16,
    "names": names,
    "skipped": skipped,
    "jpeg": jpeg,
    "learned": learned,
    "segments": segments,
    "later_minor": later,
}


def describe(path: Path) -> dict[str, Any]:
    """What a reader must find in an archive. Pixels of inexact codecs have no digest: their tolerance is in the archive."""
    with Archive(path, registry().restore) as archive:
        exact = all(record.exact for record in archive.codecs.values())
        return {
            "version": list(archive.version),
            "meta": archive.meta,
            "codecs": sorted({record.codec_id for record in archive.codecs.values()}),
            "exact": exact,
            "groups": archive.n_groups,
            "items": list(_items(archive, exact)),
        }


def _items(archive: Archive, exact: bool) -> Iterator[dict[str, Any]]:
    for item in archive:
        little = item.pixels.astype(item.pixels.dtype.newbyteorder("<")).tobytes()
        yield {
            "name": item.name,
            "label": item.label,
            "attributes": dict(item.attributes),
            "notes": list(item.notes),
            "shape": list(item.pixels.shape),
            "dtype": str(item.pixels.dtype),
            "sha256": hashlib.sha256(little).hexdigest() if exact else None,
        }


def main() -> None:
    """Make all archives of the current version, and what they hold."""
    FOLDER.mkdir(exist_ok=True)
    if any(FOLDER.iterdir()):
        sys.exit(f"{FOLDER} is not empty: golden files are never replaced")
    for name, make in ALL.items():
        make(FOLDER / f"{name}.cpack")
    expected = {f"{name}.cpack": describe(FOLDER / f"{name}.cpack") for name in ALL}
    (FOLDER / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
