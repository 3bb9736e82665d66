"""Makes the golden archives of one format version. Run once for each version; it refuses to replace a file.

    python tests/golden/make.py             # all of a new version
    python tests/golden/make.py hyperprior  # one more in a version that has others

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


def write(path: Path, groups: Sequence[tuple[str, Sequence[tuple[int, Item]]]], **models: bytes) -> None:
    """Groups of (codec, items with their places); a codec `x@MODEL` takes that of `models`."""
    plugins = registry()
    with path.open("xb") as file:
        made = ArchiveWriter(file)
        made.add_meta(META)
        for text, placed in groups:
            text, _, name = text.partition("@")
            codec = plugins.make_codec(text, **({"model": models[name]} if name else {}))
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


def small_autoencoder() -> bytes:
    """A model of `autoencoder-1` with random weights."""
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
    return model_file.dump(tensors, {"codec": "autoencoder-1", "config": config})


def learned(path: Path) -> None:
    """A MODEL block: `autoencoder-1` with random weights and each of its entropy coders."""
    source = path.with_suffix(".npy")
    np.save(source, np.stack([picture(i, 20, 12)[:, :, 0] for i in range(3)]))
    made = path.with_suffix(".safetensors")
    made.write_bytes(small_autoencoder())
    pack(source, path, PackOptions(codec="autoencoder-1:entropy=huffman", model=made, group_items=2, workers=1))
    source.unlink()
    made.unlink()


def bits(path: Path) -> None:
    """`autoencoder-1` with fewer bits: each entropy coder, channels alike, differing, and without any."""
    with tempfile.TemporaryDirectory() as folder:
        maps = {name: Path(folder, name) for name in ("3-6", "8-0", "0-0")}
        for name, file in maps.items():
            file.write_text(json.dumps([int(n) for n in name.split("-")]))
        options = [
            *(f"entropy={entropy},bits-map={maps['3-6']}" for entropy in ("none", "zstd", "huffman", "rans")),
            "entropy=none,bits=5",
            "entropy=rans,bits=2",
            f"entropy=huffman,bits-map={maps['8-0']}",
            f"entropy=zstd,bits-map={maps['0-0']}",
        ]
        groups = [
            (f"autoencoder-1:{text}@small", [(2 * n + i, Item(f"{n}/{i}.png", picture(2 * n + i, 20, 12))) for i in range(2)])
            for n, text in enumerate(options)
        ]
        write(path, groups, small=small_autoencoder())


def small_hyperprior(channels: int, **sizes: Any) -> bytes:
    """The linear start, and noise on all weights, so that each layer decides pixels."""
    import torch

    from batchcodec.learned.hyperprior.architecture import Architecture
    from batchcodec.learned.hyperprior.model import exact_layers
    from batchcodec.learned.hyperprior.trainer import Settings, Trainer

    arch = Architecture(
        channels=channels, blocks=1, fine_width=4, fine_blocks=1, hyper=2, hyper_width=4, context_width=4, **sizes
    )
    images = [picture(i, 24, 24, channels) for i in range(12)]
    trainer = Trainer(images, Settings(crop=24), arch=arch, encoder={"width": 4, "blocks": 0, "fine_width": 4})
    with torch.no_grad():
        for name, layer in exact_layers(trainer.average.decoder):
            layer.weight.add_(torch.randn_like(layer.weight) * (0.01 if name == "linear" else layer.weight[0].numel() ** -0.5))
            layer.bias.add_(torch.randn_like(layer.bias) * 0.2)
    return trainer.release()


def numbered(first: int, *images: np.ndarray) -> list[tuple[int, Item]]:
    return [(first + i, Item(f"{first + i:02}.png", image)) for i, image in enumerate(images)]


def hyperprior(path: Path) -> None:
    """`hyperprior-1`: a model for gray and one for RGB, planes, qualities that differ, integers beyond their tables."""
    noise = np.random.default_rng(9).integers(0, 256, (17, 30, 3), dtype=np.uint8)
    groups = [
        ("hyperprior-1:quality=90,effort=1@rgb", numbered(0, picture(0, 17, 30, 3), noise, picture(1, 17, 30, 3))),
        ("hyperprior-1:quality=50,effort=3@rgb", numbered(3, picture(2, 16, 24, 3), picture(3, 16, 24, 3), noise[:16, :24])),
        ("hyperprior-1:quality=20,effort=5,tune=mse@gray", numbered(6, picture(4, 33, 9), picture(5, 33, 9))),
        ("hyperprior-1:quality=100,effort=2@gray", numbered(8, picture(6, 8, 11, 4), picture(7, 8, 11, 4))),
        ("hyperprior-1:quality=1,effort=1@gray", numbered(10, picture(8, 1, 1))),
    ]
    rgb, gray = (
        small_hyperprior(3, slices=(2, 4, 6), width=5, anchors=4),
        small_hyperprior(1, slices=(3, 5), width=0, stride=16, anchors=2),
    )
    write(path, groups, rgb=rgb, gray=gray)


def streams(path: Path) -> None:
    """`hyperprior-1` in streams: of one plane, of as many as divide a group and as do not, with planes of an image apart."""
    from batchcodec.learned.hyperprior import payloads

    groups: list[tuple[str, Sequence[tuple[int, Item]]]] = [
        ("hyperprior-1:quality=90,effort=1@rgb", numbered(0, *(picture(i, 17, 30, 3) for i in range(4)))),
        ("hyperprior-1:quality=50,effort=3@rgb", numbered(4, *(picture(i, 16, 24, 3) for i in range(5)))),
        ("hyperprior-1:quality=20,effort=1,tune=mse@gray", numbered(9, *(picture(i, 9, 33, 3) for i in range(3)))),
    ]
    sizes = iter((2, 3, 2))
    plain = payloads.write
    rgb, gray = small_hyperprior(3, slices=(2, 4), width=5, anchors=4), small_hyperprior(1, slices=(3, 5), width=0, anchors=2)
    with mock.patch.object(payloads, "write", lambda *parts: plain(*parts, each=next(sizes))):
        write(path, groups, rgb=rgb, gray=gray)


def balle2017(path: Path) -> None:
    """`balle2017-1`: random networks for gray and for RGBA of other depth, qualities, integers beyond their tables."""
    import torch

    from batchcodec.learned.balle import density
    from batchcodec.learned.balle import model as models
    from batchcodec.learned.balle.architecture import Architecture
    from batchcodec.learned.balle.network import Transforms

    def model(arch: Architecture) -> bytes:
        torch.manual_seed(arch.channels)
        transforms = Transforms(arch)
        transforms.start_linear([picture(i, 24, 24, arch.channels) for i in range(12)], 100, 10)
        with torch.no_grad():
            for parameter in transforms.parameters():
                parameter.mul_(1 + 0.05 * torch.randn_like(parameter))
        rng = np.random.default_rng(arch.channels)
        cells = np.abs(np.arange(density.CELLS) - 127.5)
        masses = density.to_masses(np.exp(-cells / rng.uniform(1, 9, (arch.latent, 1))))
        widths = np.geomspace(9000, 900, 100)[:, None] * rng.uniform(0.8, 1.2, arch.latent)
        return models.dump(models.rounded(transforms), masses, widths.astype(np.uint16))

    gray = model(Architecture(channels=1, latent=12, width=16, depth=2, anchors=3))
    rgba = model(Architecture(4, 20, 6, 1, "leaky-relu", "pixelshuffle", 2))
    noise = np.random.default_rng(9).integers(0, 2, (17, 30, 1), dtype=np.uint8) * 255
    groups = [
        ("balle2017-1:quality=80@gray", [(i, Item(f"{i}.png", picture(i, 33, 9))) for i in range(3)]),
        ("balle2017-1:quality=100@gray", [(3, Item("3.png", picture(3, 17, 30))), (4, Item("4.png", noise))]),
        ("balle2017-1:quality=1@gray", [(5, Item("5.png", picture(5, 1, 1)))]),
        ("balle2017-1@rgba", [(6 + i, Item(f"{6 + i}.png", picture(6 + i, 8, 11, 4))) for i in range(2)]),
    ]
    write(path, groups, gray=gray, rgba=rgba)


def comcnn(path: Path) -> None:
    """`comcnn-1`: random networks with and without a compact image, over bases that decode alike everywhere."""
    import torch

    from batchcodec.learned.comcnn import model as models
    from batchcodec.learned.comcnn.architecture import Architecture
    from batchcodec.learned.comcnn.network import Networks

    def model(arch: Architecture) -> bytes:
        torch.manual_seed(arch.channels)
        networks = Networks(arch)
        with torch.no_grad():
            for parameter in networks.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
        return models.dump(networks)

    groups = [
        ("comcnn-1:base=png@gray", [(i, Item(f"{i}.png", picture(i, 33, 9))) for i in range(3)]),
        (
            "comcnn-1:base=webp,lossless=true,mosaic=true@rgb",
            [(3 + i, Item(f"{3 + i}.png", picture(i, 17, 30, 3))) for i in range(2)],
        ),
        ("comcnn-1:base=store@gray", [(5, Item("5.png", picture(5, 1, 1)))]),
        ("comcnn-1:base=zstd@filter", [(6 + i, Item(f"{6 + i}.png", picture(6 + i, 9, 11, 4))) for i in range(2)]),
    ]
    write(
        path,
        groups,
        gray=model(Architecture(1, 5, 5)),
        rgb=model(Architecture(3, 4, 4, "leaky-relu", "resize")),
        filter=model(Architecture(4, 4, 2, "gdn", "transpose", compact=False)),
    )


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


def parity(path: Path) -> None:
    """Format 1.1: PARITY blocks."""
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "a.npz"), images=np.stack([picture(i, 16, 16, 3) for i in range(6)]))
        pack(Path(folder, "a.npz"), path, PackOptions(codec="store", group_items=2, parity=0.05))


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
    "bits": bits,
    "hyperprior": hyperprior,
    "streams": streams,
    "balle2017": balle2017,
    "comcnn": comcnn,
    "segments": segments,
    "parity": parity,
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


def main(names: Sequence[str]) -> None:
    """Make all archives of the current version, or those that are named, and add what they hold to `expected.json`."""
    FOLDER.mkdir(exist_ok=True)
    if any(FOLDER.iterdir() if not names else [(FOLDER / f"{name}.cpack").exists() for name in names]):
        sys.exit(f"{FOLDER} is not empty or has {' or '.join(names) or 'files'}: golden files are never replaced")
    listed = FOLDER / "expected.json"
    expected = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else {}
    for name in names or ALL:
        ALL[name](FOLDER / f"{name}.cpack")
        expected[f"{name}.cpack"] = describe(FOLDER / f"{name}.cpack")
    listed.write_text(json.dumps(expected, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
