"""Target: what the command line prints of an archive whose every text comes from a stranger."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from functools import cache

import numpy as np
from batchcodec_plugins.codecs import StoreCodec

from batchcodec.archive import digest
from batchcodec.archive.directory import Row
from batchcodec.archive.wire import CodecRecord, GroupHead
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.errors import BatchcodecError
from batchcodec.types import GroupSpec

from .containers import scratch
from .oracle import Target

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("ls",),
    ("ls", "--long"),
    ("info",),
    ("report",),
    ("ls", "--json"),
    ("info", "--json"),
    ("report", "--json"),
    ("unpack", "/missing/folder"),
)


def hostile_archive(name: str, label: str | None, text: str, value: object = None) -> bytes:
    """An archive of two images: names and labels, keys and values of META and configs are what a stranger writes."""
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    meta = {text: text, "created_by": text, "n_skipped": text, "mean_psnr": text, "pooled_psnr": value, "source_bytes": value}
    writer.add_meta(meta)
    images = np.zeros((1, 1, 1, 1), np.uint8)
    codec = StoreCodec()
    for i, record in enumerate(
        (
            CodecRecord("store", {text: text, "model": {"sha256": text, "name": text}}, b"", True, text),
            CodecRecord(text, {text: value}, b"", True, text),
        )
    ):
        head = GroupHead(writer.add_codec(record), GroupSpec.of(images), digest.digest(images))
        writer.add_group(head, codec.encode(images), [Row(i, name + "x" * i, label, {text: value})])
    writer.finish()
    return file.getvalue()


@cache
def _app() -> object:
    from typer.testing import CliRunner

    from batchcodec import cli

    return CliRunner(), cli.app


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and all output of a command, in this process."""
    runner, app = _app()  # type: ignore[misc]
    result = runner.invoke(app, arguments, catch_exceptions=False)
    return result.exit_code, result.output


def read_names(data: bytes) -> None:
    """No control character reaches the terminal.

    Byte 0 chooses the command; then name, label, another text and a JSON value, parted by a byte that UTF-8 never has.
    """
    command = COMMANDS[(data + b"\0")[0] % len(COMMANDS)]
    name, label, text, value = (data[1:].split(b"\xff", 3) + [b""] * 4)[:4]
    texts = [part.decode("utf-8", "replace") for part in (name, label, text)]
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        parsed = None
    path = scratch() / "terminal.cpack"
    try:
        path.write_bytes(hostile_archive(texts[0][:900] or "n", texts[1] or None, texts[2], parsed))
    except (BatchcodecError, ValueError):  # what the writer refuses
        return
    code, output = run(command[0], str(path), *command[1:])
    assert code in (0, 1, 2, 3, 4, 5), code
    bad = {c for c in output if not (c.isprintable() or c == "\n" or (c == "\t" and command == ("ls", "--long")))}
    assert not bad, bad
    if "--json" in command:
        assert output.isascii()
        json.loads(output)


def _names() -> Iterable[bytes]:
    texts = (
        b"a.png\xfflabel\xfftext\xff[1]",
        "\x1b[2J.png\xff".encode("latin-1") + "\x9b31m".encode() + b"\xff\x1b]0;x\x07\xff{}",
        "a\u202egnp.exe".encode() + b"\xff" + "\u2066\u200b\u2028".encode() + b"\xff\r\n\xff" + b'"\\ud800"',
        b"=cmd|'/c calc'!A1\xff+1\xff@x\xff" + b"[" * 60 + b"]" * 60,
    )
    for i in range(len(COMMANDS)):
        yield bytes([i]) + texts[i % len(texts)]
        yield bytes([i]) + texts[(i + 1) % len(texts)]


NAMES = Target("terminal", read_names, _names, (BatchcodecError,), max_length=256)
