"""Changes that keep the structure of an input, so that a fuzzer gets past checksums and compression.

Each takes the input, a way to change bytes (the fuzzer's own, or `random_bytes`) and a seed, and gives a new input.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable

from archive.samples import Block, assembled, blocks_of

from batchcodec.archive import wire
from batchcodec.archive.wire import BlockType

Change = Callable[[bytes], bytes]


def random_bytes(seed: int) -> Change:
    """A way to change bytes without a fuzzer: flip, insert, remove, repeat."""
    rng = random.Random(seed)

    def change(data: bytes) -> bytes:
        out = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            at = rng.randint(0, len(out))
            match rng.randrange(4):
                case 0 if at < len(out):
                    out[at] ^= rng.randint(1, 255)
                case 1:
                    out[at:at] = rng.choice((b"\0", b"\xff" * 4, b"\x80" * 9, bytes(8), b"[{", out[:at][-8:]))
                case 2:
                    del out[at : at + rng.randint(1, 8)]
                case _:
                    value = rng.choice((0, 1, 127, 255, 1 << 16, (1 << 32) - 1, (1 << 63) - 1))
                    out[at : at + 8] = value.to_bytes(8, rng.choice(("little", "big")))[: len(out) - at]
        return bytes(out)

    return change


# ---- archives


def archive(data: bytes, change: Change, seed: int) -> bytes:
    """One block changed, moved, doubled or dropped under right checksums; or plain damage with the checksums repaired."""
    rng = random.Random(seed)
    try:
        blocks = blocks_of(data)
    except (wire.Malformed, struct.error):
        blocks = []
    if not blocks or rng.random() < 0.25:
        return repaired(change(data))
    place = rng.randrange(len(blocks))
    match rng.randrange(8):
        case 0:
            blocks.insert(rng.randrange(len(blocks) + 1), blocks[place])
        case 1:
            del blocks[place]
        case 2:
            other = rng.randrange(len(blocks))
            blocks[place], blocks[other] = blocks[other], blocks[place]
        case 3:
            kind, body, n_items, required = blocks[place]
            blocks[place] = (rng.choice((*BlockType, 7, 200)), body, n_items, rng.random() < 0.7 or required)
        case 4:
            kind, body, n_items, required = blocks[place]
            blocks[place] = (kind, body, rng.choice((0, 1, min(n_items + 1, (1 << 32) - 1), 1 << 20, (1 << 32) - 1)), required)
        case _:
            _change_body(blocks, place, change)
    blocks = [block for block in blocks if block[0] != BlockType.INDEX]
    return assembled(blocks)


def _change_body(blocks: list[Block], place: int, change: Change) -> None:
    """Change one body, inside of its compression; groups go on to name a codec whose body was changed."""
    kind, body, n_items, required = blocks[place]
    new = body_change(kind, body, change)
    if kind == BlockType.CODEC:
        old_name, new_name = (struct.pack("<Q", wire.checksum(b)) for b in (body, new))
        for i, (other_kind, other, n, flag) in enumerate(blocks):
            if other_kind == BlockType.GROUP and other.startswith(old_name):
                blocks[i] = (other_kind, new_name + other[8:], n, flag)
    blocks[place] = (kind, new, n_items, required)


def body_change(kind: int, body: bytes, change: Change) -> bytes:
    """The body of a block changed: of a DIRECTORY its table, of a MODEL the model, with the hash that fits."""
    with contextlib.suppress(wire.Malformed):
        if kind == BlockType.DIRECTORY:
            n_groups, table = wire.parse_directory(body)
            return wire.pack_directory(change(table), n_groups)
        if kind == BlockType.MODEL:
            return wire.pack_model(change(wire.parse_model(body)[1]))
    return change(body)


def repaired(data: bytes) -> bytes:
    """The bytes with all checks of header, blocks and trailer made to fit, and lengths that reach too far cut."""
    out = bytearray(data)
    if len(out) < wire.HEADER.size + wire.TRAILER.size:
        return data
    out[:8], out[-8:] = wire.MAGIC, wire.END_MAGIC
    struct.pack_into("<Q", out, 24, wire.checksum(bytes(out[:24])))
    end, position = len(out) - wire.TRAILER.size, wire.HEADER.size
    while position + wire.BLOCK.size <= end:
        out[position : position + 4] = wire.SYNC
        (length,) = struct.unpack_from("<Q", out, position + 16)
        if length > end - position - wire.BLOCK.size:
            length = end - position - wire.BLOCK.size
            struct.pack_into("<Q", out, position + 16, length)
        body = bytes(out[position + wire.BLOCK.size : position + wire.BLOCK.size + length])
        struct.pack_into("<Q", out, position + 24, wire.checksum(body))
        struct.pack_into("<I", out, position + 12, 0)
        check = wire.checksum(bytes(out[position : position + wire.BLOCK.size])) & 0xFFFFFFFF
        struct.pack_into("<I", out, position + 12, check)
        position += wire.BLOCK.size + length
    struct.pack_into("<Q", out, end + 8, len(out))
    struct.pack_into("<Q", out, end + 16, wire.checksum(bytes(out[end : end + 16])))
    return bytes(out)


# ---- model files


def safetensors(data: bytes, change: Change, seed: int) -> bytes:
    """The header or the data changed, with the length of the header made to fit; or numbers in the document exchanged."""
    rng = random.Random(seed)
    n_header = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + n_header], data[8 + n_header :]
    try:
        parsed = json.loads(header)
        document = json.loads(parsed["__metadata__"]["batchcodec"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return change(data)
    match rng.randrange(4):
        case 0:
            header = change(header)
        case 1:
            body = change(body)
        case 2:
            parsed["__metadata__"]["batchcodec"] = change(json.dumps(document).encode()).decode("utf-8", "replace")
            header = json.dumps(parsed).encode()
        case _:
            parsed["__metadata__"]["batchcodec"] = json.dumps(_absurd(document, rng))
            header = json.dumps(parsed).encode()
    return len(header).to_bytes(8, "little") + header + body


def _absurd(value: object, rng: random.Random) -> object:
    """JSON with some of its leaves replaced by what nobody expects."""
    if isinstance(value, dict):
        return {key: _absurd(item, rng) for key, item in value.items()}
    if isinstance(value, list) and rng.random() < 0.9:
        return [_absurd(item, rng) for item in value]
    if rng.random() < 0.85:
        return value
    numbers = (0, 1, -1, 2, 3, 4, 16, 255, 1024, 10**6, 1 << 40, 1 << 63, 10**30, 1.5, 1e308)
    return rng.choice((*numbers, True, None, "", "8", [], {}))


# ---- tar and zip


def tar(data: bytes, change: Change, seed: int) -> bytes:
    """Bytes changed, with the checksums of all headers made to fit."""
    out = bytearray(change(data))
    position = 0
    while position + tarfile.BLOCKSIZE <= len(out):
        header = out[position : position + tarfile.BLOCKSIZE]
        if not any(header):
            break
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        out[position : position + tarfile.BLOCKSIZE] = header
        try:
            size = tarfile.TarInfo.frombuf(bytes(header), "utf-8", "surrogateescape").size
        except (tarfile.TarError, ValueError):
            break
        position += tarfile.BLOCKSIZE * (1 + max(0, -(-size // tarfile.BLOCKSIZE)))
    return bytes(out)


def zipped(data: bytes, change: Change, seed: int) -> bytes:
    """One member changed, with its check and lengths made to fit; or plain damage."""
    rng = random.Random(seed)
    if rng.random() < 0.25:
        return change(data)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(info.filename, archive.read(info)) for info in archive.infolist()[:8]]
    except Exception:  # whatever a damaged zip raises
        return change(data)
    if not members:
        return change(data)
    place = rng.randrange(len(members))
    name, body = members[place]
    members[place] = (name, change(body)) if rng.random() < 0.9 else (change(name.encode()).decode("latin-1"), body)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, body in members:
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), body)
    return buffer.getvalue()
