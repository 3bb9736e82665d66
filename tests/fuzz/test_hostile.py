"""Hostile inputs by hand, those that no other test has. Files from strangers claim, nest, link and overlap."""

from __future__ import annotations

import csv
import io
import json
import os
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard
from archive.samples import assembled, blocks_of, items, packed, replaced
from batchcodec_plugins.formats import NpyFormat, NpzFormat, TarFormat
from batchcodec_plugins.formats.pixels import count_frames, read_image
from helpers import RunCli, picture
from PIL import Image

import batchcodec
from batchcodec.archive import columns, directory, wire
from batchcodec.archive.wire import BlockType
from batchcodec.errors import BatchcodecError, CorruptArchiveError, InputError, ItemError, ModelError, PayloadError
from batchcodec.learned import model_file
from batchcodec.learned.autoencoder import AutoencoderCodec
from batchcodec.types import GroupSpec, ImageSpec

from .containers import sample
from .datasets import npy_bytes, npz_bytes, saved, tar_bytes
from .models import autoencoder_model
from .terminal import hostile_archive


def deep(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


# ---- JSON in archives


@pytest.mark.parametrize("levels", [100, 400, 900, 100_000])
def test_nested_json_is_refused_and_breaks_no_command(levels: int, invoke: RunCli, tmp_path: Path) -> None:
    path = tmp_path / "a.cpack"
    path.write_bytes(replaced(packed(items(2)), BlockType.META, b'{"a":' + deep(levels) + b"}"))
    for command in ("info", "report"):
        done = invoke(command, path, "--json")
        assert (done.rc, done.json["error"]["type"]) == (4, "CorruptArchiveError")


def test_json_of_100_levels_is_taken_and_no_more_is_written() -> None:
    assert wire.pack_json(wire.parse_json(b'{"a":' + deep(99) + b"}")) == b'{"a":' + deep(99) + b"}"
    with pytest.raises(wire.Malformed, match="100 levels"):
        wire.parse_json(b'{"a":' + deep(100) + b"}")
    with pytest.raises(wire.Malformed, match="100 levels"):
        wire.pack_json({"a": json.loads(deep(100))})


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":1,"a":1}',
        b'{"\\ud800":1}',
        '{"a":1}'.encode("utf-16"),
        b"\xef\xbb\xbf{}",
    ],
)
def test_json_that_the_format_text_forbids(body: bytes) -> None:
    with pytest.raises(wire.Malformed, match="not JSON"):
        wire.parse_json(body)


def test_json_with_escapes_is_taken() -> None:
    assert wire.parse_json(b'{"\\u00e9":"\\ud83d\\ude00\\u0001"}') == {"é": "\U0001f600\x01"}


# ---- pieces of archives


def test_spliced_archives_are_refused(tmp_path: Path) -> None:
    """The start of one and the end of another, cut between any two blocks."""
    first, second = packed(items(5)), packed(items(4, height=5), group_items=3)
    path = tmp_path / "a.cpack"

    def cuts(data: bytes) -> list[int]:
        places, at = [wire.HEADER.size], wire.HEADER.size
        for _, body, _, _ in blocks_of(data):
            at += wire.BLOCK.size + len(body)
            places.append(at)
        return [*places, len(data) - wire.TRAILER.size]

    for one, other in ((first, second), (second, first)):
        for start in cuts(one)[1:]:
            for end in cuts(other)[1:]:
                spliced = one[:start] + other[end:]
                if spliced in (first, second):  # they begin with the same META
                    continue
                path.write_bytes(spliced)
                with pytest.raises(BatchcodecError):
                    batchcodec.open(path).close()


@pytest.mark.parametrize("kind", [BlockType.GROUP, BlockType.DIRECTORY])
def test_blocks_twice_are_refused(kind: BlockType, tmp_path: Path) -> None:
    path, blocks = tmp_path / "a.cpack", blocks_of(packed(items(4)))
    place = next(i for i, block in enumerate(blocks) if block[0] == kind)
    path.write_bytes(assembled([*blocks[: place + 1], *blocks[place:]]))
    with batchcodec.open(path) as archive, pytest.raises(CorruptArchiveError):
        list(archive)


def test_two_entries_of_one_block_are_refused(tmp_path: Path) -> None:
    data = packed(items(4))
    at = wire.parse_trailer(data[-32:])[0]
    index = data[at + 32 : -32]
    for entries in (index[:21] + index, index + index[-21:], index[:21] * 2 + index[42:]):
        path = tmp_path / "a.cpack"
        framed = data[:at] + wire.pack_block_header(BlockType.INDEX, entries) + entries
        path.write_bytes(framed + wire.pack_trailer(at, len(framed) + 32))
        with pytest.raises(CorruptArchiveError, match=r"gap or an overlap|does not end"):
            batchcodec.open(path)


def test_unknown_columns_that_claim_too_much(tmp_path: Path) -> None:
    table = directory.pack_table([directory.Row(0, "a")])
    for claim in (1 << 20, 1 << 63, (1 << 64) - 1):
        with pytest.raises(wire.Malformed):
            columns.parse_table(table + b"\xc8" + directory.varint(claim), 1)


# ---- names that leave the target


def _into_a_link(tmp_path: Path) -> tuple[Path, Path]:
    """An archive with `in/x.png`, and a target folder whose `in` leads elsewhere."""
    outside, target = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    target.mkdir()
    (target / "in").symlink_to(outside)
    (tmp_path / "a.cpack").write_bytes(sample([("store", {})]))
    (target / "store").symlink_to(outside)
    return outside, target


def test_unpack_does_not_follow_links_in_the_target(invoke: RunCli, tmp_path: Path) -> None:
    outside, target = _into_a_link(tmp_path)
    done = invoke("unpack", tmp_path / "a.cpack", target, "--force")
    assert done.rc != 0
    assert list(outside.iterdir()) == []


def test_links_in_the_place_of_files_are_replaced_and_not_written_through(invoke: RunCli, tmp_path: Path) -> None:
    (tmp_path / "a.cpack").write_bytes(sample([("store", {})]))
    target, outside = tmp_path / "out", tmp_path / "precious"
    outside.write_text("precious")
    (target / "store").mkdir(parents=True)
    (target / "store/0.png").symlink_to(outside)
    assert invoke("unpack", tmp_path / "a.cpack", target, "--force").rc == 0
    assert outside.read_text() == "precious"
    assert not (target / "store/0.png").is_symlink()


def test_csv_keeps_names_as_they_are(invoke: RunCli, tmp_path: Path) -> None:
    """Quoted where they must be, so that a row is one image; what a spreadsheet makes of them is said in docs/security.md."""
    source, names = tmp_path / "source", ["=1+1.png", "a,b.png", 'q"q.png', "line\nbreak.png", "@x.png"]
    source.mkdir()
    for i, name in enumerate(names):
        Image.fromarray(picture((4, 5), i)).save(source / name)
    assert invoke("pack", source, tmp_path / "a.cpack", "-c", "store").rc == 0
    assert invoke("report", tmp_path / "a.cpack", "--against", source, "--csv", tmp_path / "a.csv").rc == 0
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["name"] for row in rows) == sorted(names)


@pytest.mark.parametrize("command", [("ls",), ("ls", "--long"), ("info",), ("report",), ("unpack",)])
def test_no_text_of_a_stranger_reaches_the_terminal_raw(command: tuple[str, ...], run_cli: RunCli, tmp_path: Path) -> None:
    """By the real console script, with all that can be in a text: escapes, C1 controls, directions, lines, zero widths."""
    nasty = "\x1b[2J\x1b]0;t\x07\x9b31m\u202e\u2066\u200b\u2028\r\n\x7f\ufeff"
    path = tmp_path / "a.cpack"
    path.write_bytes(hostile_archive("a" + nasty, nasty, nasty, nasty))
    done = run_cli(command[0], path, *command[1:])
    assert not {c for c in done.stdout + done.stderr if not (c.isprintable() or c in "\n\t")}
    assert "Traceback" not in done.stderr


# ---- arrays: no code, no lies


class _Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, int]]:
        return os.open, (self._path, os.O_CREAT)


def test_pickles_and_code_never_run(tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    evil = np.array([_Touch(proof), None, None], object)
    code = f"{{'descr': open({str(proof)!r}, 'w'), 'fortran_order': False, 'shape': (1, 2, 3), }}\n".encode()
    header = b"\x93NUMPY\x01\x00" + len(code).to_bytes(2, "little") + code
    (tmp_path / "a.npy").write_bytes(npy_bytes(evil, allow_pickle=True))
    (tmp_path / "b.npy").write_bytes(header + bytes(6))
    (tmp_path / "a.npz").write_bytes(npz_bytes(images=evil))
    (tmp_path / "b.npz").write_bytes(npz_bytes(images=np.zeros((3, 5, 6), np.uint8), labels=evil))
    (tmp_path / "c.npz").write_bytes(npz_bytes(images=np.zeros((3, 5, 6), np.uint8), names=evil))
    for path in sorted(tmp_path.glob("*.np?")):
        kind = NpyFormat if path.suffix == ".npy" else NpzFormat
        try:
            list(kind().read(path))
        except InputError:
            assert path.name != "c.npz"  # names that cannot be read are no reason to refuse the images
    assert not proof.exists()


@pytest.mark.parametrize("compress", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_npz_that_claims_a_terabyte(compress: int, tmp_path: Path) -> None:
    """The header, and the zip's own lengths, say more than there is."""
    path = tmp_path / "a.npz"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as archive:
        header = npy_bytes(np.zeros((1, 5, 6), np.uint8))[:128].replace(b"(1, 5, 6), }", b"(1, 1048576, 1048576), }")[:128]
        archive.writestr("images.npy", header[:127] + b"\n" + bytes(100))
    data = buffer.getvalue()
    for sizes in ((), (1 << 31,)):
        for size in sizes:
            at = data.find(b"PK\x01\x02")
            data = data[: at + 24] + struct.pack("<I", size) + data[at + 28 :]
        path.write_bytes(data)
        tracemalloc.start()
        try:
            with pytest.raises(InputError):
                list(NpzFormat().read(path))
            assert tracemalloc.get_traced_memory()[1] < 16 << 20
        finally:
            tracemalloc.stop()


# ---- tars


def _extended(size: int, body: bytes = b"", kind: bytes = tarfile.XHDTYPE) -> bytes:
    member = tarfile.TarInfo("x")
    member.type, member.size = kind, size
    return member.tobuf(tarfile.GNU_FORMAT) + body + bytes(-len(body) % 512)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_an_extended_header_of_gigabytes(kind: bytes, tmp_path: Path) -> None:
    """Compressed, 256 MiB of zeros are some kilobytes; they are not read into memory."""
    size, path = 1 << 28, tmp_path / "a.tar.zst"
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    parts = [packer.compress(_extended(size, kind=kind)), *(packer.compress(bytes(1 << 22)) for _ in range(size >> 22))]
    path.write_bytes(b"".join([*parts, packer.compress(tar_bytes([("a.png", saved("L", "PNG"))])), packer.flush()]))
    assert path.stat().st_size < 1 << 16
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="extended header"):
            TarFormat().read(path)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_an_extended_header_of_digits(tmp_path: Path) -> None:
    """Python's search in it takes quadratic time: an hour for this one."""
    path = tmp_path / "a.tar"
    path.write_bytes(_extended(1 << 20, b"1" * (1 << 20)) + tar_bytes([("a.png", saved("L", "PNG"))]))
    with pytest.raises(InputError, match="digits"):
        TarFormat().read(path)


def test_extended_headers_of_honest_size_are_read(tmp_path: Path) -> None:
    name = "/".join(["d" * 200] * 18) + "/a.png"
    for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        (tmp_path / "a.tar").write_bytes(tar_bytes([(name, saved("L", "PNG"))], kind=kind))
        assert [item.name for item in TarFormat().read(tmp_path / "a.tar")] == [name]


def test_sparse_members_and_hard_links_are_not_read(tmp_path: Path) -> None:
    sparse = tarfile.TarInfo("s.png")
    sparse.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = 2 * b"00000000000\0"
    header[483:495] = b"77777777777\0"  # 8 GiB when it is laid out
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    pax = b"".join(
        b"%d %s\n" % (len(text) + 4, text)
        for text in (
            b"GNU.sparse.major=1",
            b"GNU.sparse.minor=0",
            b"GNU.sparse.realsize=999999999999",
            b"GNU.sparse.name=p.png",
        )
    )
    link = tarfile.TarInfo("h.png")
    link.type, link.linkname = tarfile.LNKTYPE, "good.png"
    good = ("good.png", saved("L", "PNG"))
    (tmp_path / "a.tar").write_bytes(bytes(header) + link.tobuf(tarfile.GNU_FORMAT) + tar_bytes([good]))
    items_ = TarFormat().read(tmp_path / "a.tar")
    for index, match in ((0, "sparse"), (1, "link")):
        with pytest.raises(ItemError, match=match):
            items_[index]
    assert items_[2].name == "good.png"
    (tmp_path / "b.tar").write_bytes(_extended(len(pax), pax) + tar_bytes([("x", b"1\n0\n999999999999\n" + bytes(600)), good]))
    try:
        found = TarFormat().read(tmp_path / "b.tar")
    except InputError:
        return
    with pytest.raises(ItemError):
        found[0]


@pytest.mark.parametrize("size", [1 << 20, 1 << 32, 1 << 60])
def test_a_member_that_is_not_as_long_as_it_says(size: int, tmp_path: Path) -> None:
    member = tarfile.TarInfo("a.png")
    member.size = size
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(InputError, match=r"end of data|damaged"):
        TarFormat().read(tmp_path / "a.tar")


@pytest.mark.parametrize("text", [deep(95), deep(900), deep(50_000), b'{"a":1e999}', b'{"a":"\\ud800"}'])
def test_a_json_that_an_archive_cannot_hold_is_the_fault_of_its_item(text: bytes, invoke: RunCli, tmp_path: Path) -> None:
    png = saved("L", "PNG")
    (tmp_path / "a.tar").write_bytes(tar_bytes([("a.png", png), ("a.json", text), ("b.png", png), ("b.json", deep(80))]))
    done = invoke("pack", tmp_path / "a.tar", tmp_path / "a.cpack", "-c", "store", "--on-error", "skip", "--json")
    assert (done.rc, done.json["n_items"], len(done.json["skipped"])) == (0, 1, 1)
    with batchcodec.open(tmp_path / "a.cpack") as archive:
        assert archive[0].name == "b.png"


# ---- pictures


def test_a_jp2_file_with_two_sizes(tmp_path: Path) -> None:
    """Pillow holds the size in the box against its limit; the codestream states another one."""
    imagecodecs = pytest.importorskip("imagecodecs")
    large = np.zeros((1500, 1500), np.uint16)
    data = bytearray(imagecodecs.jpeg2k_encode(large, level=0, codecformat="jp2", reversible=True, numthreads=1))
    at = data.find(b"ihdr") + 4
    struct.pack_into(">II", data, at, 5, 6)
    with pytest.raises(ItemError):
        read_image(Path("x"), "y", io.BytesIO(data))


def test_a_tiff_page_of_many_samples_is_refused_before_it_is_decoded() -> None:
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, np.zeros((900, 900, 60), np.uint16), compression="zlib", photometric="minisblack", planarconfig="contig"
    )
    tracemalloc.start()
    try:
        with pytest.raises(ItemError, match="60 channels"):
            read_image(Path("x"), "y", io.BytesIO(buffer.getvalue()))
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


def _tiff(n_frames: int, *, circular: bool = False) -> bytes:
    """Frames of one gray pixel that share their pixel."""
    out = bytearray(b"II*\0" + struct.pack("<I", 10) + b"\x2a\0")
    for i in range(n_frames):
        tags = [
            (256, 4, 1),
            (257, 4, 1),
            (258, 3, 8),
            (259, 3, 1),
            (262, 3, 1),
            (273, 4, 8),
            (277, 3, 1),
            (278, 4, 1),
            (279, 4, 1),
        ]
        out += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", code, kind, 1, value) for code, kind, value in tags)
        following = len(out) + 4 if i + 1 < n_frames else 10 if circular else 0
        out += struct.pack("<I", following)
    return bytes(out)


def test_many_frames_and_frames_without_end() -> None:
    assert count_frames(io.BytesIO(_tiff(2000))) == 2000
    assert read_image(Path("x"), "y", io.BytesIO(_tiff(2000)), frame=1999).pixels.tolist() == [[[42]]]
    circle = io.BytesIO(_tiff(3, circular=True))
    assert 1 <= count_frames(circle) <= 4
    assert read_image(Path("x"), "y", circle).pixels.tolist() == [[[42]]]


# ---- models


def _raw_model(header: dict[str, object], body: bytes) -> bytes:
    text = json.dumps({"__metadata__": {"batchcodec": "{}"}, **header}).encode()
    return len(text).to_bytes(8, "little") + text + body


def _tensor(dtype: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    "blob",
    [
        _raw_model({"a": _tensor("U8", [4], 0, 4), "b": _tensor("U8", [4], 2, 6)}, bytes(6)),
        _raw_model({"a": _tensor("U8", [4], 0, 4), "b": _tensor("U8", [4], 0, 4)}, bytes(4)),
        _raw_model({"a": _tensor("U8", [4], 4, 8)}, bytes(8)),
        _raw_model({"a": _tensor("U8", [4], 4, 0)}, bytes(4)),
        _raw_model({"a": _tensor("F32", [1 << 33, 1 << 33], 0, 4)}, bytes(4)),
        _raw_model({"a": _tensor("U8", [1] * 100, 0, 1)}, bytes(1)),
        _raw_model({"a": _tensor("F64", [0, 1 << 62], 0, 0), "b": _tensor("X9", [1], 0, 1)}, bytes(1)),
        (1 << 63).to_bytes(8, "little") + b"{}",
        (100_000_001).to_bytes(8, "little") + b"{}",
        (8).to_bytes(8, "little") + b"[[[[[[[[",
    ],
)
def test_safetensors_that_lie(blob: bytes) -> None:
    with pytest.raises(ModelError):
        model_file.parse(blob)


@pytest.mark.parametrize("dtype", ["BOOL", "I8", "U16", "I64", "F16", "F64", "BF16", "F8_E4M3", "F8_E5M2", "F4", "C64"])
def test_every_type_that_safetensors_has(dtype: str) -> None:
    """It is taken, or refused as a model."""
    size = {"BOOL": 1, "I8": 1, "U16": 2, "I64": 8, "F16": 2, "F64": 8, "BF16": 2, "C64": 8}.get(dtype, 1)
    try:
        tensors, _ = model_file.parse(_raw_model({"a": _tensor(dtype, [2], 0, 2 * size)}, bytes(2 * size)))
    except ModelError:
        return
    assert tensors["a"].shape == (2,)


@pytest.mark.parametrize("entropy", ["none", "zstd", "huffman", "rans"])
def test_a_few_bytes_for_the_latents_of_a_huge_group(entropy: str) -> None:
    """512 latents for each 8 x 8 pixels of 4 GiB would be 64 GiB of table numbers."""
    tensors, document = model_file.parse(autoencoder_model())
    document["config"]["latent"] = 512
    tensors |= {"tables": np.full((512, 256), 256, np.uint16)}
    tensors |= {f"quantiser.{name}": np.ones(512, np.float32) for name in ("low", "step")}
    codec = AutoencoderCodec(model=model_file.dump(tensors, document), entropy=entropy)
    tracemalloc.start()
    try:
        with pytest.raises(PayloadError, match=r"cannot hold|got 1000 bytes, expected"):
            codec.decode(bytes(1000), GroupSpec(256, ImageSpec(4096, 4096, 1)))
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("freq", [256, 65281])
def test_the_most_symbols_that_bytes_hold_is_a_bound(freq: int) -> None:
    from batchcodec.entropy.codes import ENTROPY_CODERS, most_symbols, pack_symbols

    freqs = np.full((1, 256), 1 if freq > 256 else 256, np.uint32)
    freqs[0, 7] = freq
    for kind in ENTROPY_CODERS:
        for n in (0, 1, 2, 100, 30_000):
            symbols, index = np.full(n, 7, np.uint8), np.zeros(n, np.uint16)
            assert most_symbols(kind, len(pack_symbols(kind, symbols, index, freqs)), freqs) >= n
