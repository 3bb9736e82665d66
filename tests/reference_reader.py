"""A second reader of `.cpack` files, written from `docs/cpack-format.md` and not from the library: it imports nothing of it.

It reads the whole file into memory, checks every checksum, and decodes the payloads of `store`, `zstd` and `png` (one picture
per image). It is short rather than fast; where the text says "reject" it raises AssertionError, or whatever Python raises.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
import zstandard
from PIL import Image

META, MODEL, CODEC, GROUP, DIRECTORY, INDEX = range(1, 7)
xxh3 = xxhash.xxh3_64_intdigest


def read(path: Path) -> Iterator[tuple[str, str | None, dict[str, Any], np.ndarray]]:
    """(name, label, attributes, samples [H, W, C]) of the items, in the order of the dataset."""
    rows: list[tuple[int, str, str | None, dict[str, Any]]] = []
    images, models, codecs, n_covered, n_groups = [], {}, {}, 0, 0
    for kind, n_items, body in blocks(path.read_bytes()):
        if kind == MODEL:
            sha256, length = struct.unpack_from("<32sQ", body)
            models[sha256.hex()] = unzstd(body[40:], length)
            assert hashlib.sha256(models[sha256.hex()]).digest() == sha256
        elif kind == CODEC:
            codecs[xxh3(body)] = json.loads(body)
        elif kind == GROUP:
            n_groups += 1
            images += group(body, n_items, codecs)
        elif kind == DIRECTORY:
            covers, length = struct.unpack_from("<IQ", body)
            n_covered += covers
            rows += table(unzstd(body[12:], length), n_items)
            assert n_covered == n_groups
            assert len(rows) == len(images)
    assert len({row[0] for row in rows}) == len({row[1] for row in rows}) == len(rows) == len(images)
    for (_, name, label, attributes), samples in sorted(zip(rows, images, strict=True), key=lambda pair: pair[0][0]):
        yield name, label, attributes, samples


def blocks(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, items, body) of all blocks before the INDEX: header, trailer, exact cover and all checksums are right."""
    magic, major, _minor, flags, reserved, check = struct.unpack_from("<8sHHIQQ", data)
    assert (magic, check) == (b"\x89CPK\r\n\x1a\n", xxh3(data[:24]))
    assert (major, flags, reserved) == (1, 0, 0)
    index_offset, length, check, end = struct.unpack("<QQQ8s", data[-32:])
    assert (end, check, length) == (b"\x89CPKEND\n", xxh3(data[-32:-16]), len(data))
    (kind, _, index), position = block(data, index_offset), 32
    assert (kind, index_offset + 32 + len(index)) == (INDEX, len(data) - 32)
    for entry in struct.iter_unpack("<BQQI", index):
        kind, n_items, body = block(data, position)
        assert entry == (kind, position, len(body), n_items)
        position += 32 + len(body)
        yield kind, n_items, body
    assert position == index_offset


def block(data: bytes, at: int) -> tuple[int, int, bytes]:
    sync, kind, flags, reserved, n_items, check, length, body_check = struct.unpack_from("<4sBBHIIQQ", data, at)
    assert (sync, check) == (b"\xb1BLK", xxh3(data[at : at + 12] + bytes(4) + data[at + 16 : at + 32]) % 2**32)
    assert flags in (0, 1) and reserved == 0 and (META <= kind <= INDEX or flags == 0), "a later version"  # noqa: PT018
    body = data[at + 32 : at + 32 + length]
    assert (len(body), xxh3(body)) == (length, body_check)
    return kind, n_items, body


def unzstd(frame: bytes, length: int) -> bytes:
    content = zstandard.ZstdDecompressor().stream_reader(frame).read(min(length, 2**30) + 1)
    assert len(content) == length
    return content


def group(body: bytes, n_items: int, codecs: dict[int, dict[str, Any]]) -> list[np.ndarray]:
    """The samples of the images of a GROUP."""
    reference, digest, height, width, channels, dtype, k = struct.unpack_from("<QQIIBBH", body)
    codec, payload, shape = codecs[reference], body[28 + 8 * k :], (n_items, height, width, channels)
    sample_type = {1: "<u1", 2: "<u2"}[dtype]
    if codec["id"] == "store":
        samples = np.frombuffer(payload, sample_type).reshape(shape)
    elif codec["id"] == "zstd":
        samples = np.frombuffer(zstandard.decompress(payload), sample_type).reshape(shape)
        if codec["config"]["filter"] == "left":
            samples = np.cumsum(samples, axis=2, dtype=sample_type)
    elif codec["id"] == "png" and not codec["config"]["mosaic"]:
        file = io.BytesIO(payload)
        pictures = [Image.open(io.BytesIO(file.read(length))) for length in [varint(file) for _ in range(n_items)]]
        samples = np.stack([np.asarray(picture) for picture in pictures]).astype(sample_type).reshape(shape)
    else:
        raise NotImplementedError(f"codec {codec['id']}")
    assert codec["exact"] and xxh3(samples.tobytes()) == digest, "drift"  # noqa: PT018
    return list(samples)


def varint(file: io.BytesIO) -> int:
    byte = file.read(1)[0]
    return byte if byte < 128 else byte - 128 + (varint(file) << 7)


def table(data: bytes, n_rows: int) -> Iterator[tuple[int, str, str | None, dict[str, Any]]]:
    """(order, name, label, attributes) of the rows of a DIRECTORY."""
    file, columns = io.BytesIO(data), {}
    assert varint(file) == n_rows
    while ident := file.read(1):
        assert ident[0] not in columns
        columns[ident[0]] = io.BytesIO(file.read(varint(file)))
    assert all(1 <= ident <= 4 or ident >= 128 for ident in columns), "a later version"
    zigzags, shared, follow = ([varint(columns[i]) for _ in range(n_rows)] for i in (1, 2, 2))
    label_file = columns.get(3, io.BytesIO(bytes(1 + n_rows)))
    labels = [None, *(label_file.read(varint(label_file)).decode() for _ in range(varint(label_file)))]
    attributes: list[dict[str, Any]] = [{} for _ in range(n_rows)]
    for key, (rows, values) in json.load(columns.get(4, io.BytesIO(b"{}"))).items():
        for row, value in zip(range(n_rows) if rows is None else rows, values, strict=True):
            attributes[row][key] = value
    order, name = -1, b""
    for i, z in enumerate(zigzags):
        order += 1 + (-(z + 1) // 2 if z % 2 else z // 2)
        name = name[: shared[i]] + columns[2].read(follow[i])
        yield order, name.decode(), labels[varint(label_file)], attributes[i]
    assert not any(columns[i].read() for i in (1, 2, 3) if i in columns), "a column that is too long"
