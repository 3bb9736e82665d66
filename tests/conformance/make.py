"""Makes the conformance set of the format: small archives, good and bad, and what a reader must make of each.

    python tests/conformance/make.py      # writes good/, bad/ and expected.json beside this file

The files are committed, so that readers in other languages can be tested with them; `README.md` beside this file says how.
Running it again gives the same bytes; `test_conformance.py` checks that.
"""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zstandard

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from archive.samples import Block, assembled, blocks_of, file_header  # noqa: E402

from batchcodec.archive import digest, wire  # noqa: E402
from batchcodec.archive.directory import Row, pack_table, varint  # noqa: E402
from batchcodec.archive.index import parse_index  # noqa: E402
from batchcodec.archive.wire import BlockType, CodecRecord, GroupHead  # noqa: E402
from batchcodec.types import JSON, GroupSpec, Pixels  # noqa: E402

GOLDEN = HERE.parent / "golden" / "v1"


@dataclass
class Parts:
    """An archive in pieces, to be bent: codec records and groups of (codec, images, rows)."""

    codecs: list[CodecRecord] = field(default_factory=lambda: [CodecRecord("store", {}, b"", True, "batchcodec")])
    groups: list[tuple[int, Pixels, list[Row]]] = field(default_factory=list)
    meta: dict[str, JSON] = field(default_factory=lambda: {"created_by": "tests/conformance/make.py"})

    def blocks(self) -> list[Block]:
        """META, CODEC, GROUP, ..., DIRECTORY."""
        bodies = [wire.pack_codec(record) for record in self.codecs]
        found: list[Block] = [(BlockType.META, wire.pack_json(self.meta), 0, False)]
        found += [(BlockType.CODEC, body, 0, True) for body in bodies]
        rows: list[Row] = []
        for codec, images, group_rows in self.groups:
            found.append((BlockType.GROUP, group_body(images, wire.checksum(bodies[codec])), len(images), True))
            rows += group_rows
        if rows:
            found.append(directory_block(pack_table(rows), len(self.groups), len(rows)))
        return found


def group_body(images: Pixels, reference: int, payload: bytes | None = None, **fields: int) -> bytes:
    """A GROUP body of codec `store`."""
    head = GroupHead(reference, GroupSpec.of(images), fields.get("digest", digest.digest(images)))
    return wire.pack_group(head, images.tobytes() if payload is None else payload)


def directory_block(table: bytes, n_groups: int, n_rows: int) -> Block:
    return (BlockType.DIRECTORY, wire.pack_directory(table, n_groups), n_rows, True)


def picture(seed: int, *shape: int, dtype: str = "uint8") -> Pixels:
    """Random samples [N, H, W, C]."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def plain(n_groups: int = 3) -> Parts:
    """Groups of two 4x3 RGB images."""
    parts = Parts()
    for g in range(n_groups):
        rows = [Row(2 * g + i, f"{'ab'[i]}/{g:03}.png", "ab"[i]) for i in range(2)]
        parts.groups.append((0, picture(g, 2, 3, 4, 3), rows))
    return parts


PLAIN = plain().blocks()
REFERENCE = wire.checksum(PLAIN[1][1])
TABLE = pack_table([row for _, _, rows in plain().groups for row in rows])


def with_block(place: int, block: Block) -> bytes:
    """The plain archive with one of its blocks replaced."""
    return assembled([*PLAIN[:place], block, *PLAIN[place + 1 :]])


def with_table(table: bytes, n_rows: int = 6, n_groups: int = 3) -> bytes:
    return with_block(5, directory_block(table, n_groups, n_rows))


def column(ident: int, data: bytes) -> bytes:
    return bytes([ident]) + varint(len(data)) + data


# ---- good


def _segments() -> bytes:
    blocks = plain(4).blocks()
    rows = [row for _, _, rows in plain(4).groups for row in rows]
    groups = [block for block in blocks if block[0] == BlockType.GROUP]
    first = directory_block(pack_table(rows[:2]), 1, 2)
    second = directory_block(pack_table(rows[2:]), 3, 6)
    return assembled([*blocks[:2], groups[0], first, *groups[1:], second])


def _orders() -> bytes:
    parts = plain()
    orders = iter([5, 4, 1 << 40, 0, 3, 9])
    parts.groups = [(c, x, [Row(next(orders), row.name, row.label) for row in rows]) for c, x, rows in parts.groups]
    return assembled(parts.blocks())


def _attributes() -> bytes:
    parts = Parts()
    attributes: list[dict[str, JSON]] = [{"a": 1}, {"a": [None, 2.5], "b": {"c": "ü"}}, {}]
    rows = [Row(i, f"{i}", None, values) for i, values in enumerate(attributes)]
    parts.groups = [(0, picture(0, 3, 1, 1, 1), rows)]
    return assembled(parts.blocks())


def _shapes() -> bytes:
    parts = Parts()
    shapes = [(1, 1, 1, 1), (2, 3, 5, 2), (1, 7, 2, 3), (2, 2, 2, 4)]
    start = 0
    for k, shape in enumerate(shapes):
        dtype = "uint16" if k % 2 else "uint8"
        parts.groups.append((0, picture(k, *shape, dtype=dtype), [Row(start + i, f"s{k}/{i}") for i in range(shape[0])]))
        start += shape[0]
    return assembled(parts.blocks())


def _later_column() -> bytes:
    return with_table(TABLE + column(200, b"of a later version"))


GOOD: dict[str, Callable[[], bytes]] = {
    "plain": lambda: assembled(PLAIN),
    "no-images": lambda: assembled(PLAIN[:2]),
    "no-meta-no-labels": lambda: with_table(pack_table([Row(i, f"n{i}") for i in range(6)])),
    "two-meta": lambda: assembled([*PLAIN, (BlockType.META, b'{"created_by":"later","more":[1]}', 0, False)]),
    "segments": _segments,
    "orders-with-gaps": _orders,
    "attributes": _attributes,
    "shapes-and-types": _shapes,
    "later-minor-version": lambda: assembled(PLAIN, header=file_header(minor=7)),
    "unknown-ignorable-block": lambda: assembled([(99, b"?", 5, False), *PLAIN, (250, b"", 0, False)]),
    "unknown-ignorable-column": _later_column,
    "columns-in-another-order": lambda: with_table(_reordered()),
    "long-varints": lambda: with_table(b"\x86\x80\x00" + TABLE[1:]),
    "zstd-codec": lambda: (GOLDEN / "zstd_mixed.cpack").read_bytes(),
    "png-codec": lambda: (GOLDEN / "png_files.cpack").read_bytes(),
}


def _reordered() -> bytes:
    columns, rest = [], TABLE[1:]
    while rest:
        length, start = rest[1], 2
        if length >= 0x80:
            length, start = length & 0x7F | rest[2] << 7, 3
        columns.append(rest[: start + length])
        rest = rest[start + length :]
    return TABLE[:1] + b"".join(reversed(columns))


# ---- bad: name, section of the format text, bytes, class, what the message says, command


def _bad() -> Iterator[tuple[str, str, bytes, str, str, str]]:
    good = assembled(PLAIN)
    index_at, _ = wire.parse_trailer(good[-32:])

    def flipped(place: int, bit: int = 1) -> bytes:
        return good[:place] + bytes([good[place] ^ bit]) + good[place + 1 :]

    def trailer(index: int, length: int) -> bytes:
        return good[:-32] + wire.pack_trailer(index, length)

    def index(*rows: tuple[int, int, int, int]) -> bytes:
        body = wire.pack_index([wire.BlockEntry(*row) for row in rows])
        start = good[:index_at] + wire.pack_block_header(BlockType.INDEX, body) + body
        return start + wire.pack_trailer(index_at, len(start) + 32)

    entries = [(e.type, e.offset, e.n_bytes, e.n_items) for e in parse_index(good[index_at + 32 : -32], index_at)]
    at = {i: entry[1] for i, entry in enumerate(entries)}
    group = 2  # the first GROUP is the third block

    yield "empty", "Header", b"", "NotAnArchiveError", "it starts with nothing", "ls"
    yield "png", "Header", b"\x89PNG\r\n\x1a\n" + bytes(100), "NotAnArchiveError", "89504e47", "ls"
    yield "text-mode", "Header", good.replace(b"\r\n", b"\n"), "NotAnArchiveError", "not a .cpack archive", "ls"
    yield "header-flipped", "Header", flipped(20), "CorruptArchiveError", "header at byte 0", "ls"
    yield "major-2", "Header", assembled(PLAIN, file_header(2)), "UnsupportedVersionError", "format version 2.0", "ls"
    yield "header-flags", "Header", assembled(PLAIN, file_header(flags=1)), "UnsupportedVersionError", "flags 0x1", "ls"
    yield "only-a-header", "Trailer", good[:32], "TruncatedArchiveError", "only 32 bytes", "ls"
    yield "cut-in-a-group", "Trailer", good[: at[group] + 50], "TruncatedArchiveError", "the end is missing", "ls"
    yield "last-byte-missing", "Trailer", good[:-1], "TruncatedArchiveError", "the end is missing", "ls"
    yield (
        "trailer-flipped",
        "Trailer",
        flipped(len(good) - 20),
        "CorruptArchiveError",
        f"trailer at byte {len(good) - 32}",
        "ls",
    )
    yield (
        "trailer-of-another-file",
        "Trailer",
        trailer(index_at, len(good) + 1),
        "CorruptArchiveError",
        "the trailer says",
        "ls",
    )
    yield "index-beyond-the-end", "Trailer", trailer(1 << 62, len(good)), "CorruptArchiveError", "outside of the file", "ls"
    yield "no-index-there", "INDEX", trailer(at[group], len(good)), "CorruptArchiveError", f"byte {at[group]}", "ls"
    yield "index-flipped", "INDEX", flipped(index_at + 40), "CorruptArchiveError", f"byte {index_at}", "ls"
    gap = [*entries[:3], (entries[3][0], entries[3][1] + 1, entries[3][2] - 1, entries[3][3]), *entries[4:]]
    yield "index-with-a-gap", "Exact cover", index(*gap), "CorruptArchiveError", "a gap or an overlap at byte", "ls"
    overlap = [*entries[:3], entries[2], *entries[3:]]
    yield "index-with-a-block-twice", "Exact cover", index(*overlap), "CorruptArchiveError", "gap or an overlap", "ls"
    yield "index-too-short", "Exact cover", index(*entries[:-1]), "CorruptArchiveError", "does not end where", "ls"
    yield "bytes-before-the-index", "Exact cover", _between(good, index_at), "CorruptArchiveError", "at byte", "ls"
    unknown = [*PLAIN, (77, b"", 0, True)]
    yield "unknown-required-block", "Blocks", assembled(unknown), "UnsupportedVersionError", "block type 77", "ls"
    yield "block-length-lies", "INDEX", _lying_header(good, at[group]), "CorruptGroupError", "group 0", "unpack"
    yield "block-header-flipped", "Blocks", flipped(at[group] + 9), "CorruptGroupError", "group 0", "unpack"
    yield "payload-flipped", "Blocks", flipped(at[group] + 70), "CorruptGroupError", f"byte {at[group]}", "unpack"
    body = PLAIN[group][1]
    yield "group-too-short", "GROUP", with_block(group, (4, body[:20], 2, True)), "CorruptGroupError", "group 0", "unpack"
    wrong = body[:25] + b"\x09" + body[26:]
    yield "unknown-dtype", "GROUP", with_block(group, (4, wrong, 2, True)), "CorruptGroupError", "dtype code 9", "unpack"
    huge = body[:16] + struct.pack("<II", 1 << 23, 1 << 23) + body[24:]
    yield "group-of-terabytes", "Limits", with_block(group, (4, huge, 2, True)), "CorruptGroupError", "group 0", "unpack"
    short = group_body(picture(0, 2, 3, 4, 3), REFERENCE, picture(0, 2, 3, 4, 3).tobytes()[:-1])
    yield "payload-too-short", "GROUP", with_block(group, (4, short, 2, True)), "CorruptGroupError", "group 0", "unpack"
    lost = group_body(picture(0, 2, 3, 4, 3), 12345)
    yield (
        "group-without-codec",
        "CODEC",
        with_block(group, (4, lost, 2, True)),
        "CorruptGroupError",
        "0000000000003039",
        "unpack",
    )
    other = group_body(picture(0, 2, 3, 4, 3), REFERENCE, digest=1)
    yield "other-pixels", "Exact and inexact codecs", with_block(group, (4, other, 2, True)), "DriftError", "group 0", "unpack"
    yield "unknown-codec", "CODEC", _of_codec("vvc-9", {}), "UnknownCodecError", "group 0: unknown codec 'vvc-9'", "unpack"
    yield "bad-config", "CODEC", _of_codec("zstd", {"filter": "sideways"}), "CorruptGroupError", "sideways", "unpack"
    yield (
        "codec-without-id",
        "CODEC",
        with_block(1, (3, b'{"config":{},"exact":true}', 0, True)),
        "CorruptGroupError",
        "id",
        "unpack",
    )
    yield "codec-not-json", "CODEC", with_block(1, (3, b"{", 0, True)), "CorruptGroupError", "not JSON", "unpack"
    missing = wire.pack_codec(CodecRecord("autoencoder-1", {}, b"m", False))
    yield (
        "codec-without-its-model",
        "CODEC",
        with_block(1, (3, missing, 0, True)),
        "CorruptGroupError",
        "is not in the archive",
        "unpack",
    )
    yield "model-of-another-hash", "MODEL", _wrong_model(), "CorruptGroupError", "SHA-256 is wrong", "unpack"
    yield (
        "model-that-is-none",
        "MODEL",
        _of_codec("autoencoder-1", {"entropy": "rans"}, b"not safetensors"),
        "ModelError",
        "group 0: ",
        "unpack",
    )
    yield "meta-not-json", "META", with_block(0, (1, b"[]", 0, False)), "CorruptArchiveError", "META at byte 32", "info"
    yield "self-check-fails", "MODEL", _other_probe(), "InexactMachineError", "group 0: the model's self-check", "unpack"

    yield (
        "directory-not-zstd",
        "DIRECTORY",
        with_block(5, (5, b"\1\0\0\0" + bytes(20), 6, True)),
        "CorruptArchiveError",
        f"byte {at[5]}",
        "ls",
    )
    yield (
        "directory-of-other-rows",
        "DIRECTORY",
        with_table(pack_table([Row(0, "a")]), 6),
        "CorruptArchiveError",
        "1 rows where 6",
        "ls",
    )
    yield "directory-of-other-groups", "DIRECTORY", with_table(TABLE, 6, 2), "CorruptArchiveError", "groups before it", "ls"
    yield "no-directory", "DIRECTORY", assembled(PLAIN[:5]), "CorruptArchiveError", "directory", "ls"
    yield "directory-too-long", "Conventions", with_block(5, _bomb(1 << 20, 1 << 10)), "CorruptArchiveError", "zstd", "ls"
    yield (
        "directory-of-a-terabyte",
        "Limits",
        with_block(5, _bomb(1 << 10, 1 << 40)),
        "CorruptArchiveError",
        "over the limit",
        "ls",
    )
    names = [Row(i, "same" if i in (1, 4) else f"n{i}") for i in range(6)]
    yield "a-name-twice", "Reading", with_table(pack_table(names)), "CorruptArchiveError", "two items have one name", "show"
    orders = [Row(3 if i == 4 else i, f"n{i}") for i in range(6)]
    yield "an-order-twice", "Reading", with_table(pack_table(orders)), "CorruptArchiveError", "one place", "ls"
    yield "name-not-utf-8", "DIRECTORY", with_table(TABLE.replace(b"a/000", b"\xff/000")), "CorruptArchiveError", "UTF-8", "ls"
    yield "column-twice", "DIRECTORY", with_table(TABLE + column(3, b"\0" * 7)), "CorruptArchiveError", "column 3 twice", "ls"
    yield "unknown-required-column", "DIRECTORY", with_table(TABLE + column(9, b"")), "CorruptArchiveError", "column 9", "ls"
    yield "column-reaches-over-the-end", "DIRECTORY", with_table(TABLE[:-1]), "CorruptArchiveError", f"byte {at[5]}", "ls"
    yield "label-that-is-not-there", "DIRECTORY", with_table(TABLE[:-1] + b"\x07"), "CorruptArchiveError", "label", "ls"
    for name, text in (("up", "../evil.png"), ("absolute", "/tmp/evil.png"), ("control", "a\x1b[31m.png")):
        rows = [Row(i, text if i == 3 else f"n{i}.png") for i in range(6)]
        says = repr(text) if name != "control" else "a"
        yield f"name-{name}", "Reading", with_table(pack_table(rows)), "UnsafeNameError", says, "unpack"


def _between(good: bytes, index_at: int) -> bytes:
    data = good[:index_at] + b"hidden" + good[index_at:-32]
    return data + wire.pack_trailer(index_at + 6, len(data) + 32)


def _lying_header(good: bytes, at: int) -> bytes:
    header = wire.parse_block_header(good[at : at + 32])
    body = good[at + 32 : at + 32 + header.n_bytes]
    lying = bytearray(wire.pack_block_header(BlockType.GROUP, body, header.n_items))
    struct.pack_into("<Q", lying, 16, header.n_bytes - 1)
    lying[12:16] = bytes(4)
    struct.pack_into("<I", lying, 12, wire.checksum(bytes(lying)) & 0xFFFFFFFF)
    return good[:at] + bytes(lying) + good[at + 32 :]


def _of_codec(codec_id: str, config: dict[str, JSON], model: bytes = b"") -> bytes:
    parts = plain()
    parts.codecs = [CodecRecord(codec_id, config, model, True, "a-package")]
    blocks = parts.blocks()
    if model:
        blocks.insert(1, (BlockType.MODEL, wire.pack_model(model), 0, True))
    return assembled(blocks)


def _wrong_model() -> bytes:
    blocks = blocks_of(_of_codec("autoencoder-1", {}, b"a model"))
    body = wire.pack_model(b"a model")[:32] + wire.pack_model(b"another")[32:]
    return assembled([blocks[0], (BlockType.MODEL, body, 0, True), *blocks[2:]])


def _other_probe() -> bytes:
    """The golden archive of `hyperprior-1` whose model expects other numbers from its self-check."""
    blocks = blocks_of((GOLDEN / "hyperprior.cpack").read_bytes())
    changed: dict[str, str] = {}
    out: list[Block] = []
    references: dict[int, int] = {}
    for kind, body, n_items, required in blocks:
        if kind == BlockType.MODEL:
            sha256, model = wire.parse_model(body)
            length = int.from_bytes(model[:8], "little")
            start, end = json.loads(model[8 : 8 + length])["probe"]["data_offsets"]
            place = 8 + length + start
            assert end == start + 8
            model = model[:place] + bytes([model[place] ^ 1]) + model[place + 1 :]
            changed[sha256.hex()] = hashlib.sha256(model).hexdigest()
            body = wire.pack_model(model)
        elif kind == BlockType.CODEC:
            before = wire.checksum(body)
            value = json.loads(body)
            value["model"] = changed[value["model"]]
            body = wire.pack_json(value)
            references[before] = wire.checksum(body)
        elif kind == BlockType.GROUP:
            (reference,) = struct.unpack_from("<Q", body)
            body = struct.pack("<Q", references[reference]) + body[8:]
        out.append((kind, body, n_items, required))
    return assembled(out)


def _bomb(n_bytes: int, stated: int) -> Block:
    data = zstandard.ZstdCompressor(level=19, write_content_size=False).compress(bytes(n_bytes))
    return (BlockType.DIRECTORY, struct.pack("<IQ", 3, stated) + data, 6, True)


# ---- what is expected


def contents(data: bytes, path: Path) -> dict[str, Any]:
    """Names, labels, attributes, shapes and SHA-256 of the samples (little-endian, C order), in dataset order."""
    from batchcodec import open as open_archive

    path.write_bytes(data)
    with open_archive(path) as archive:
        items = [
            {
                "name": item.name,
                "label": item.label,
                "attributes": dict(item.attributes),
                "shape": list(item.pixels.shape),
                "dtype": str(item.pixels.dtype),
                "sha256": hashlib.sha256(item.pixels.astype(item.pixels.dtype.newbyteorder("<")).tobytes()).hexdigest(),
            }
            for item in archive
        ]
        return {"meta": archive.meta, "groups": archive.n_groups, "items": items}


def make(folder: Path) -> dict[str, Any]:
    """Write all files; what is expected of them."""
    from batchcodec import errors

    expected: dict[str, Any] = {"good": {}, "bad": {}}
    for kind in ("good", "bad"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name, build in GOOD.items():
        path = folder / "good" / f"{name}.cpack"
        expected["good"][name] = contents(build(), path)
    for name, section, data, error, says, command in _bad():
        (folder / "bad" / f"{name}.cpack").write_bytes(data)
        code = getattr(errors, error).exit_code
        expected["bad"][name] = {"section": section, "error": error, "exit_code": code, "says": says, "command": command}
    return expected


if __name__ == "__main__":
    (HERE / "expected.json").write_text(json.dumps(make(HERE), indent=1, ensure_ascii=False, sort_keys=True) + "\n")
