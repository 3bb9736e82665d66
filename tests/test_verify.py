"""Verify: every kind of damage is found and said, drift and what cannot be decoded are told apart, the source is compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from archive.samples import (
    XorCodec,
    assembled,
    blocks_of,
    body_of,
    file_header,
    image,
    items,
    packed,
    replaced,
    restore,
)
from PIL import Image

from batchcodec import PackOptions, pack
from batchcodec.archive import directory, wire
from batchcodec.archive.directory import Row
from batchcodec.archive.scan import scan
from batchcodec.archive.wire import BlockType, CodecRecord, GroupHead
from batchcodec.checking.findings import MAX_FINDINGS, MAX_NAMES, Finding, Findings, Severity
from batchcodec.checking.verify import VerifyReport, verify, verify_file
from batchcodec.codec import Codec
from batchcodec.errors import InputError, NotAnArchiveError, UnsupportedVersionError
from batchcodec.types import GroupSpec, ImageSpec, Item


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.n_bytes = data, len(data)

    def read(self, offset: int, n_bytes: int) -> bytes:
        return self.data[offset : offset + n_bytes]


class Plugins:
    """A registry that knows the codec of the samples."""

    def restore(self, record: CodecRecord) -> Codec:
        return restore(record)


GOOD = packed(
    [Item(f"é{i}", image(i, height=1 + i % 2, width=2), "ab"[i % 2]) for i in range(6)],
    codec=XorCodec(key=9, model=b"weights"),
    exact=False,
)
BLOCKS = scan(Bytes(GOOD)).blocks
OF = {kind: next(b for b in BLOCKS if b.type == kind) for kind in BlockType if any(b.type == kind for b in BLOCKS)}


def verified(data: bytes) -> VerifyReport:
    return verify_file(Bytes(data), Path("a.cpack"))


def deep(tmp_path: Path, data: bytes) -> VerifyReport:
    path = tmp_path / "a.cpack"
    path.write_bytes(data)
    return verify(path, deep=True, plugins=Plugins())  # type: ignore[arg-type]


def flipped(data: bytes, *places: int) -> bytes:
    out = bytearray(data)
    for place in places:
        out[place] ^= 0x55
    return bytes(out)


def messages(report: VerifyReport, severity: Severity = Severity.DAMAGE) -> list[str]:
    return [finding.message for finding in report.findings if finding.severity == severity]


def test_a_whole_archive() -> None:
    report = verified(GOOD)
    assert (report.verdict, report.findings, report.counts) == ("whole", [], {})
    assert (report.n_groups, report.n_items, report.n_bad_groups, report.n_decoded) == (4, 6, 0, 0)
    assert (report.n_bytes, report.n_blocks, report.version, report.deep) == (len(GOOD), len(BLOCKS), "1.0", False)


def test_any_byte_flipped_is_found() -> None:
    """And the finding is about the block that was hit."""
    for place in range(len(GOOD)):
        report = verified(flipped(GOOD, place))
        assert report.verdict == "damage", place
        assert any((f.start or 0) <= place < (f.end or 0) for f in report.findings), place
        group = next((b for b in BLOCKS if b.type == BlockType.GROUP and b.body <= place < b.end), None)
        if group is not None:
            assert [(f.kind, f.start, f.end) for f in report.findings] == [("group", group.offset, group.end)]
            assert (report.n_bad_groups, report.n_bad_items) == (1, group.n_items)


def test_names_of_damaged_items_are_known() -> None:
    (finding,) = verified(flipped(GOOD, OF[BlockType.GROUP].body)).findings
    assert (finding.block, finding.group, finding.n_items, finding.items) == ("GROUP", 0, 2, ["é0", "é2"])


@pytest.mark.parametrize(
    ("data", "kinds", "match"),
    [
        (GOOD[:-1], ["trailer"], "only 31 of the 32"),
        (GOOD[:-32], ["trailer"], "only 0 of the 32"),
        (GOOD[:-60], ["index", "trailer"], "ends inside of it"),
        (GOOD + b"more", ["trailer"], "36 bytes stand behind"),
        (flipped(GOOD, len(GOOD) - 30), ["trailer"], "trailer is damaged"),
        (GOOD[: OF[BlockType.INDEX].offset], ["end"], "after a whole DIRECTORY block; index and trailer are missing: packing"),
        (GOOD[: OF[BlockType.GROUP].end - 1], ["end"], "inside of a GROUP block, and lacks 1 bytes"),
        (GOOD[: OF[BlockType.GROUP].end + 9], ["directory", "end"], "9 bytes after the start of a block header"),
        (GOOD[:20], ["end", "header"], "packing was interrupted"),
        (flipped(GOOD, OF[BlockType.INDEX].body), ["index"], "cannot be used: its checksum"),
        (GOOD[:40] + b"xx" + GOOD[40:], ["gap", "index", "trailer", "uncertain"], "foreign bytes"),
    ],
)
def test_how_files_end(data: bytes, kinds: list[str], match: str) -> None:
    report = verified(data)
    assert sorted(f.kind for f in report.findings) == kinds
    assert match in " ".join(messages(report))


def group_body(**changes: object) -> bytes:
    body = body_of(GOOD, BlockType.GROUP)
    head = wire.parse_group(body, 2)
    fields = {"codec_ref": head.codec_ref, "spec": head.spec, "digest": head.digest, "sketch": head.sketch} | changes
    return wire.pack_group(GroupHead(**fields), body[head.n_bytes :])


ROWS = [Row(i, f"{i}") for i in range(6)]
BY_HAND = blocks_of(GOOD)


def table(rows: list[Row], n_groups: int = 4) -> bytes:
    return wire.pack_directory(directory.pack_table(rows), n_groups)


@pytest.mark.parametrize(
    ("data", "kind", "match"),
    [
        (replaced(GOOD, BlockType.META, b"{"), "block", "cannot be read: not JSON"),
        (replaced(GOOD, BlockType.CODEC, b"{}"), "block", "without id"),
        (replaced(GOOD, BlockType.MODEL, b"x" * 60), "block", "over the limit of 1073741824"),
        (replaced(GOOD, BlockType.MODEL, bytes(32) + body_of(GOOD, BlockType.MODEL)[32:]), "block", "SHA-256"),
        (assembled([b for b in BY_HAND if b[0] != BlockType.MODEL]), "block", "its model"),
        (assembled([b for b in BY_HAND if b[0] != BlockType.CODEC]), "group", "its codec"),
        (replaced(GOOD, BlockType.GROUP, group_body(codec_ref=5)), "group", "its codec 0000000000000005 is lost"),
        (replaced(GOOD, BlockType.GROUP, b"short"), "group", "too short"),
        (assembled([b for b in BY_HAND if b[0] != BlockType.DIRECTORY]), "directory", "no DIRECTORY block follows"),
        (replaced(GOOD, BlockType.DIRECTORY, table(ROWS, 3)), "directory", "3 other groups"),
        (replaced(GOOD, BlockType.DIRECTORY, table(ROWS[:5]), 5), "directory", "with 5 items"),
        (replaced(GOOD, BlockType.DIRECTORY, b"bad"), "directory", "too short"),
        (replaced(GOOD, BlockType.DIRECTORY, table([*ROWS[:5], Row(5, "0")])), "rows", "names that items before them have"),
        (replaced(GOOD, BlockType.DIRECTORY, table([*ROWS[:5], Row(0, "5")])), "rows", "places in the dataset"),
        (assembled([*BY_HAND, (77, b"?", 0, True)]), "block", "required for reading"),
    ],
)
def test_what_the_format_text_asks_for(data: bytes, kind: str, match: str) -> None:
    report = verified(data)
    assert report.verdict == "damage"
    assert any(f.kind == kind and match in f.message for f in report.findings), messages(report)


def test_an_ignorable_unknown_block_is_told() -> None:
    report = verified(assembled([*BY_HAND, (77, b"who knows", 3, False)]))
    assert report.verdict == "whole"
    assert [(f.severity, f.block) for f in report.findings] == [(Severity.NOTE, "type 77")]


def test_raised_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.cpack"
    for data, error in (
        (b"", NotAnArchiveError),
        (b"a text" * 20, NotAnArchiveError),
        (assembled(BY_HAND, header=file_header(major=2)), UnsupportedVersionError),
        (assembled(BY_HAND, header=file_header(flags=1)), UnsupportedVersionError),
    ):
        path.write_bytes(data)
        with pytest.raises(error):
            verify(path)
    with pytest.raises(NotAnArchiveError):
        verify(tmp_path)
    path.write_bytes(GOOD)
    with pytest.raises(InputError):
        verify(path, against=tmp_path / "missing")


# ---- deep


def test_deep(tmp_path: Path) -> None:
    report = deep(tmp_path, GOOD)
    assert (report.verdict, report.n_decoded, report.n_rounded) == ("whole", 4, 0)
    report = deep(tmp_path, flipped(GOOD, OF[BlockType.GROUP].end - 1))
    assert (report.verdict, report.n_decoded, report.n_bad_groups) == ("damage", 3, 1)
    rebuilt = deep(tmp_path, flipped(GOOD, OF[BlockType.GROUP].offset))
    assert (rebuilt.verdict, rebuilt.n_decoded, rebuilt.n_bad_groups) == ("damage", 4, 0)


def test_drift_and_rounding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = [Item(str(i), np.clip(image(i, 20, 20), 0, 50)) for i in range(2)]
    for offset, exact, verdict, n_rounded in ((1, False, "whole", 1), (200, False, "drift", 0), (1, True, "drift", 0)):
        monkeypatch.setattr(XorCodec, "offset", offset)
        report = deep(tmp_path, packed(dataset, exact=exact))
        assert (report.verdict, report.n_rounded) == (verdict, n_rounded)


def test_payloads_and_codecs_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = group_body(spec=GroupSpec(2, ImageSpec(5, 5, 1)))
    report = deep(tmp_path, replaced(GOOD, BlockType.GROUP, wrong))
    assert report.verdict == "damage"
    assert "payload is not what" in messages(report)[0]

    def fail(*_: object) -> None:
        raise ZeroDivisionError("x")

    for method in ("decode", "restore"):
        with monkeypatch.context() as patch:
            patch.setattr(XorCodec, method, fail)
            report = deep(tmp_path, GOOD)
            assert (report.verdict, report.n_decoded, report.counts) == ("undecodable", 0, {"undecodable": 4})
            assert "ZeroDivisionError" in report.findings[0].message
    with monkeypatch.context() as patch:
        patch.setattr(XorCodec, "decode", lambda *_: np.zeros((1, 1, 1, 1), np.uint8))
        assert deep(tmp_path, GOOD).verdict == "damage"


def test_a_codec_that_is_not_installed_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.cpack"
    path.write_bytes(GOOD)
    report = verify(path, deep=True)
    assert (report.verdict, report.n_bad_groups) == ("undecodable", 4)
    assert "unknown codec 'test-xor'" in report.findings[0].message
    assert verify(path).verdict == "whole"


def test_progress(tmp_path: Path) -> None:
    path = tmp_path / "a.cpack"
    path.write_bytes(GOOD)
    for is_deep in (False, True):
        told: list[tuple[int, int]] = []
        verify(path, deep=is_deep, progress=lambda done, total, told=told: told.append((done, total)))
        assert told == sorted(told)
        assert told[-1] == ((1 + is_deep) * len(GOOD),) * 2


def test_findings_are_bounded() -> None:
    found = Findings()
    for i in range(MAX_FINDINGS + 5):
        found.add(Finding("x", Severity.NOTE, str(i)))
    assert (len(found.kept), found.counts, found.verdict()) == (MAX_FINDINGS, {"note": MAX_FINDINGS + 5}, "whole")
    (finding,) = verified(flipped(many := packed(items(150), group_items=150), many.index(wire.SYNC + b"\4") + 40)).findings
    assert (finding.n_items, len(finding.items)) == (150, MAX_NAMES)


def test_rows_of_groups_that_a_gap_holds() -> None:
    group = OF[BlockType.GROUP]
    report = verified(flipped(GOOD[: OF[BlockType.INDEX].offset], group.offset))
    (names,) = (f for f in report.findings if f.kind == "directory")
    assert (names.n_items, names.items) == (2, ["é0", "é2"])


# ---- the source


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    for i in range(5):
        Image.fromarray(image(i, 9, 8, 3)).save(folder / f"{i}.png")
    return folder


def test_against_the_source(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "a.cpack"
    pack(source, path, PackOptions(codec="zstd", group_items=2, workers=1))
    found = verify(path, against=source)
    assert (found.verdict, found.comparison.n_items, found.comparison.n_equal) == ("whole", 5, 5)
    pixels = image(3, 9, 8, 3)
    pixels[0, 0, 0] ^= 7
    Image.fromarray(pixels).save(source / "3.png")
    found = verify(path, against=source)
    assert found.verdict == "difference"
    assert found.findings[0].items == ["3.png"]
    worst = found.comparison.worst[0]
    step = abs(int(pixels[0, 0, 0]) - int(image(3, 9, 8, 3)[0, 0, 0]))
    assert (worst.name, worst.max_error, worst.mse) == ("3.png", step, pytest.approx(step**2 / pixels.size))
    (source / "0.png").unlink()
    Image.fromarray(image(8, 4, 4, 3)).save(source / "new.png")
    (source / "broken.png").write_bytes((source / "1.png").read_bytes()[:60])
    found = verify(path, against=source).comparison
    assert (found.n_missing, found.missing, found.n_extra, found.extra, found.n_unreadable) == (1, ["0.png"], 1, ["new.png"], 1)


def test_against_the_source_of_a_lossy_archive(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "a.cpack"
    pack(source, path, PackOptions(codec="jpeg:quality=30", workers=1))
    found = verify(path, against=source)
    assert found.verdict == "whole"
    assert found.comparison.n_equal == 0
    assert 10 < found.comparison.mean_psnr < 40


def test_against_the_source_of_a_damaged_archive(tmp_path: Path, source: Path) -> None:
    path = tmp_path / "a.cpack"
    pack(source, path, PackOptions(codec="zstd", group_items=2, workers=1))
    data = path.read_bytes()
    blocks = scan(Bytes(data)).blocks
    group = next(b for b in blocks if b.type == BlockType.GROUP)
    path.write_bytes(flipped(data, group.end - 1))
    found = verify(path, against=source)
    assert (found.verdict, found.comparison.n_items, found.comparison.n_extra) == ("damage", 3, 0)
    path.write_bytes(flipped(data, blocks[0].body))
    found = verify(path, against=source)
    assert (found.verdict, found.comparison, found.n_decoded) == ("damage", None, 3)
    assert "not compared" in messages(found, Severity.UNDECODABLE)[0]


def test_against_real_images(tmp_path: Path, data: Path) -> None:
    """The first of Fashion-MNIST, one of them altered."""
    import gzip

    raw = gzip.decompress((data / "fashion-mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(raw, np.uint8)[16:].reshape(-1, 28, 28)[:300].copy()
    source, path = tmp_path / "images.npy", tmp_path / "a.cpack"
    np.save(source, images)
    pack(source, path, PackOptions(codec="zstd", group_items=64, workers=1))
    assert verify(path, against=source).comparison.n_equal == 300
    images[123, 5, 5] ^= 255
    np.save(source, images)
    found = verify(path, against=source)
    assert (found.verdict, found.comparison.n_equal) == ("difference", 299)
    assert found.comparison.worst[0].max_error == abs(255 - 2 * int(images[123, 5, 5]))
