"""`docs/cpack-format.md` against the code: the hex dump, the limits, the sizes of the structures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import reference_reader

from batchcodec.archive import digest, directory, wire
from batchcodec.version import __version__

from .samples import smallest

TEXT = (Path(__file__).parents[2] / "docs" / "cpack-format.md").read_text(encoding="utf-8")


def dumped() -> bytes:
    """The bytes of the hex dump, whose offsets must follow each other."""
    out = bytearray()
    block = TEXT.partition("```hexdump\n")[2].partition("```")[0]
    for line in filter(None, block.splitlines()):
        found = re.fullmatch(r"([0-9a-f]{4})  ((?:[0-9a-f]{2} ?){1,16})(?:  +.*)?", line)
        assert found, line
        assert int(found[1], 16) == len(out), line
        out += bytes.fromhex(found[2])
    return bytes(out)


def test_the_hex_dump_is_what_the_library_writes(tmp_path: Path) -> None:
    assert dumped().hex(" ") == smallest().hex(" ")
    path = tmp_path / "smallest.cpack"
    path.write_bytes(dumped())
    ((name, label, attributes, pixels),) = reference_reader.read(path)
    assert (name, label, attributes, pixels.tolist()) == ("a", None, {}, [[[42]]])


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("body of a block", wire.MAX_BODY),
        ("META, CODEC", wire.MAX_JSON),
        ("model; all models of a file together", wire.MAX_MODEL),
        ("table of a DIRECTORY", wire.MAX_DIRECTORY),
        ("rows of a DIRECTORY", wire.MAX_ROWS),
        ("all names of a DIRECTORY, written out", directory.MAX_TEXT),
        ("column ATTRIBUTES", directory.MAX_ATTRIBUTES),
        ("name", directory.MAX_NAME_BYTES),
        ("height, width", wire.MAX_SIDE),
        ("images of a GROUP", wire.MAX_GROUP_ITEMS),
        ("decoded samples of a GROUP", wire.MAX_GROUP_BYTES),
        ("sketch", wire.MAX_SKETCH),
    ],
)
def test_the_limits(what: str, limit: int) -> None:
    (stated,) = re.findall(rf"^\| {re.escape(what)} \| (?:1 to )?([0-9^ -]+?)(?: bytes| runs)? \|$", TEXT, re.MULTILINE)
    assert eval(stated.replace("^", "**")) == limit


def test_sizes_and_versions() -> None:
    assert wire.HEADER.size == wire.BLOCK.size == wire.TRAILER.size == 32
    assert (wire.GROUP.size, wire.MODEL.size, wire.COUNTED.size) == (28, 40, 12)
    assert len(wire.pack_index([wire.BlockEntry(1, 32, 0, 0)])) == 21
    assert f"Version {wire.MAJOR}.{wire.MINOR} of the format" in TEXT
    assert f"k = {digest.SKETCH_LENGTH}" in TEXT
    assert f"| {wire.MAJOR}.{wire.MINOR} | {'.'.join(__version__.split('.')[:2])} and later |" in TEXT
    for magic in (wire.MAGIC, wire.END_MAGIC, wire.SYNC):
        assert f"`{magic.hex(' ')}`" in TEXT
    for kind in wire.BlockType:
        assert re.search(rf"^### {kind.name} \(type {kind}\)$", TEXT, re.MULTILINE)


def test_links_lead_to_headings() -> None:
    headings = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)}
    links = set(re.findall(r"\]\(#([^)]+)\)", TEXT))
    assert links <= headings, links - headings


def test_files_named_in_the_text_exist() -> None:
    root = Path(__file__).parents[2]
    for name in re.findall(r"`((?:plugins|batchcodec|tests)/[\w/.]+)`", TEXT):
        assert (root / name).exists(), name
