"""Small files that claim to be huge: refused with an error of ours, in little memory and time."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from batchcodec.archive import wire
from batchcodec.archive.directory import varint
from batchcodec.archive.wire import BlockType, CodecRecord, GroupHead
from batchcodec.types import GroupSpec, ImageSpec

from .samples import assembled, blocks_of, items, packed, replaced

READ = """
import json, resource, sys
from pathlib import Path
import batchcodec_plugins.codecs.raw, PIL.Image, PIL.PngImagePlugin, PIL.JpegImagePlugin, zstandard  # before the limit
from batchcodec.archive.reader import Archive
from batchcodec.errors import BatchcodecError
from batchcodec.registry import registry
sys.path.insert(0, sys.argv[2])
from archive.samples import restore

plugins = registry()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[3]), -1))
outcome = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        with Archive(path, lambda r: restore(r) if r.codec_id == "test-xor" else plugins.restore(r)) as archive:
            for item in archive:
                pass
            _ = archive.codecs
        outcome[path.stem] = "no error"
    except Exception as exc:
        outcome[path.stem] = f"{type(exc).__name__}: {exc}"
print(json.dumps(outcome))
"""
LIMIT = 300 << 20

GOOD = packed(items(4))
EXPECTED = {
    "block_length": "CorruptArchiveError",
    "index_items": "CorruptArchiveError",
    "index_lengths": "CorruptArchiveError",
    "directory_rows": "CorruptArchiveError",
    "directory_length": "CorruptArchiveError",
    "directory_zstd": "CorruptArchiveError",
    "directory_window": "CorruptArchiveError",
    "directory_names": "CorruptArchiveError",
    "directory_column": "CorruptArchiveError",
    "directory_json": "CorruptArchiveError",
    "codec_json": "CorruptGroupError",
    "model_length": "CorruptArchiveError",
    "model_zstd": "CorruptArchiveError",
    "group_store": "CorruptGroupError",
    "group_zstd": "CorruptGroupError",
    "group_zstd_frame": "CorruptGroupError",
    "group_png": "CorruptGroupError",
    "group_png_mosaic": "CorruptGroupError",
    "group_jpeg": "CorruptGroupError",
}


def zeros(n_bytes: int, *, window_log: int = 20) -> bytes:
    """A frame of that many zeros, a few kilobytes for each hundred megabytes."""
    parameters = zstandard.ZstdCompressionParameters(compression_level=1, window_log=window_log)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    chunk = bytes(1 << 22)
    return b"".join([*(stream.compress(chunk) for _ in range(n_bytes >> 22)), stream.flush()])


def huge_group(codec_id: str, config: dict[str, object], payload: bytes) -> bytes:
    """A group that claims 4 GiB of pixels, all checksums right."""
    spec = GroupSpec(256, ImageSpec(4096, 4096, 1))
    record = CodecRecord(codec_id, config, b"", True)  # type: ignore[arg-type]
    codec = wire.pack_codec(record)
    group = wire.pack_group(GroupHead(wire.checksum(codec), spec, 0), payload)
    table = varint(256) + b"\x01" + varint(256) + bytes(256)
    names = bytes(256) + varint(4) * 256 + b"".join(b"%04d" % i for i in range(256))
    table += b"\x02" + varint(len(names)) + names
    return assembled(
        [
            (BlockType.CODEC, codec, 0, True),
            (BlockType.GROUP, group, 256, True),
            (BlockType.DIRECTORY, wire.pack_directory(table, 1), 256, True),
        ]
    )


def bombs() -> Iterator[tuple[str, bytes]]:
    """(name, archive), each far smaller than what it claims."""
    index_at = wire.parse_trailer(GOOD[-32:])[0]
    header = bytearray(GOOD[index_at : index_at + 32])
    struct.pack_into("<IQ", header, 12, 0, 1 << 63)
    struct.pack_into("<I", header, 12, wire.checksum(bytes(header)) & 0xFFFFFFFF)
    yield "block_length", GOOD[:index_at] + bytes(header) + GOOD[index_at + 32 :]
    for name, change in (("index_items", (4, 197, 59, 2**32 - 1)), ("index_lengths", (4, 32, 2**63, 1))):
        index = b"".join(struct.pack("<BQQI", *change) for _ in range(5000))
        framed = GOOD[:index_at] + wire.pack_block_header(BlockType.INDEX, index) + index
        yield name, framed + wire.pack_trailer(index_at, len(framed) + 32)

    blocks = [block for block in blocks_of(GOOD) if block[0] != BlockType.DIRECTORY]
    # Groups of 2**20 images each, so that the directory's claim of 2**30 rows fits them.
    groups = [(BlockType.GROUP, next(b[1] for b in blocks if b[0] == BlockType.GROUP), 1 << 20, True)] * 1024
    rows = varint(1 << 30)
    yield "directory_rows", assembled([*groups, (BlockType.DIRECTORY, wire.pack_directory(rows, 1024), 1 << 30, True)])
    head = struct.pack("<IQ", 2, 1 << 40)
    yield "directory_length", replaced(GOOD, BlockType.DIRECTORY, head + zstandard.compress(b"x"))
    big = zeros(1 << 30)
    yield "directory_zstd", replaced(GOOD, BlockType.DIRECTORY, struct.pack("<IQ", 2, 100) + big)
    wide = zeros(1 << 22, window_log=27)
    yield "directory_window", replaced(GOOD, BlockType.DIRECTORY, struct.pack("<IQ", 2, 1 << 22) + wide)
    n = 1 << 18  # rows that each repeat a name of 4 KiB: 1 GiB of names
    names = varint(0) + varint(4096) * (n - 1) + varint(4096) + bytes(n - 1) + b"x" * 4096
    table = varint(n) + b"\x01" + varint(n) + bytes(n) + b"\x02" + varint(len(names)) + names
    group = next(b for b in blocks if b[0] == BlockType.GROUP)
    named: list[tuple[int, bytes, int, bool]] = [(group[0], group[1], n, True)]
    yield "directory_names", assembled([*named, (BlockType.DIRECTORY, wire.pack_directory(table, 1), n, True)])
    padded = b"\x04\x01\x04" + bytes(4) + b"\x02" + varint(1 << 26) + bytes(1 << 26)  # 64 MiB for the names of four rows
    yield "directory_column", assembled([*blocks, (BlockType.DIRECTORY, wire.pack_directory(padded, 2), 4, True)])
    deep = b'{"k":' + b"[" * 100_000
    table = varint(4) + b"\x01\x04" + bytes(4) + b"\x02\x0c" + bytes(4) + b"\x01" * 4 + b"abcd"
    table += b"\x04" + varint(len(deep)) + deep
    yield "directory_json", assembled([*blocks, (BlockType.DIRECTORY, wire.pack_directory(table, 2), 4, True)])
    yield "codec_json", replaced(GOOD, BlockType.CODEC, deep)

    sha256 = hashlib.sha256(b"").digest()
    for name, claim in (("model_length", 1 << 50), ("model_zstd", 100)):
        yield name, assembled([(BlockType.MODEL, sha256 + struct.pack("<Q", claim) + big, 0, True), *blocks_of(GOOD)])

    plain: dict[str, object] = {"filter": "none"}
    yield "group_store", huge_group("store", {}, b"tiny")
    yield "group_zstd", huge_group("zstd", plain, zstandard.compress(b"tiny"))
    # A frame header that claims 4 GiB, and one block of 1 byte.
    frame = b"\x28\xb5\x2f\xfd\xc0\x50" + struct.pack("<Q", 1 << 32) + b"\x09\x00\x00x"
    yield "group_zstd_frame", huge_group("zstd", plain, frame)
    layout = {"max_side": 1 << 24, "max_pixels": 1 << 40, "colour_multiple": 1}
    picture = b"\x89PNG\r\n\x1a\n" + bytes(100)
    yield "group_png", huge_group("png", {"mosaic": False}, varint(108) + bytes(255) + picture)
    yield "group_png_mosaic", huge_group("png", {"mosaic": True, "layout": layout}, varint(108) + picture)
    yield "group_jpeg", huge_group("jpeg", {"mosaic": False}, varint(20) + bytes(255) + b"\xff\xd8" + bytes(18))


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory by resource.RLIMIT_AS")
def test_bombs(tmp_path: Path) -> None:
    for name, data in bombs():
        assert len(data) < 1 << 18
        (tmp_path / f"{name}.cpack").write_bytes(data)
    here = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path), here, str(LIMIT)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert {name: text.partition(":")[0] for name, text in outcome.items()} == EXPECTED, outcome
