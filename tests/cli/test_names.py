"""Names from strangers: they go through an archive unchanged, and reach a terminal only with control characters escaped."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from helpers import RunCli, picture
from PIL import Image

import batchcodec

NAMES = (
    "a b.png",
    "line\nbreak.png",
    "tab\there.png",
    "日本語 ünï.png",
    "عربي.png",
    "-rf.png",
    "x" * 200 + "/" + "y" * 96 + ".png",
    "🙂" * 62 + ".png",
)


@pytest.fixture
def odd_names(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    for i, name in enumerate(NAMES):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture((8, 8), i)).save(path)
    return source


def _files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): Image.open(p).tobytes() for p in root.rglob("*.png")}


def test_round_trip(invoke: RunCli, odd_names: Path, tmp_path: Path) -> None:
    assert invoke("pack", odd_names, tmp_path / "a.cpack", "-c", "store").rc == 0
    assert invoke("unpack", tmp_path / "a.cpack", tmp_path / "out").rc == 0
    assert _files(tmp_path / "out") == _files(odd_names)
    assert set(_files(tmp_path / "out")) == set(NAMES)
    with batchcodec.open(tmp_path / "a.cpack") as archive:
        assert set(archive.names) == set(NAMES)
        assert archive["line\nbreak.png"].pixels.shape == (8, 8, 1)


def test_the_terminal_sees_escapes(invoke: RunCli, odd_names: Path, tmp_path: Path) -> None:
    (odd_names / "line\nbreak.png").write_bytes(b"damaged")
    failed = invoke("pack", odd_names, tmp_path / "a.cpack")
    assert failed.rc == 3
    assert len(failed.stderr.splitlines()) == 1
    assert "line\\nbreak.png" in failed.stderr
    packed = invoke("pack", odd_names, tmp_path / "a.cpack", "-c", "store", "--on-error", "skip")
    assert "  line\\nbreak.png: " in packed.stdout
    listed = invoke("ls", tmp_path / "a.cpack").stdout
    assert len(listed.splitlines()) == len(NAMES) - 1
    assert "tab\\there.png" in listed
    assert "日本語" in listed
    assert {row["name"] for row in invoke("ls", tmp_path / "a.cpack", "--json").json} == set(NAMES) - {"line\nbreak.png"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_a_terminal_of_another_encoding(encoding: str, run_cli: RunCli, odd_names: Path, tmp_path: Path) -> None:
    env = {"PYTHONIOENCODING": encoding}
    target = tmp_path / "日本.cpack"
    packed = run_cli("pack", odd_names, target, "-c", "store", env=env)
    assert (packed.rc, packed.stderr) == (0, "")
    listed = run_cli("ls", target, env=env)
    assert listed.rc == 0
    assert ("日本語" if encoding == "utf-8" else r"\u65e5\u672c\u8a9e") in listed.stdout


def _tar(path: Path, *names: str) -> Path:
    out = io.BytesIO()
    Image.fromarray(picture((8, 8))).save(out, "PNG")
    with tarfile.open(path, "w") as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(out.getvalue())
            tar.addfile(member, io.BytesIO(out.getvalue()))
    return path


@pytest.mark.parametrize(
    "name", ["../up.png", "/etc/abs.png", "a/../../b.png", "red\x1b[31m.png", "c:\\x.png", "z" * 300 + ".png"]
)
def test_unsafe_names_in_a_tar(name: str, invoke: RunCli, tmp_path: Path) -> None:
    _tar(tmp_path / "x.tar", "good.png", name)
    failed = invoke("pack", tmp_path / "x.tar", tmp_path / "a.cpack", "--json")
    assert (failed.rc, failed.json["error"]["type"]) == (3, "UnsafeNameError")
    assert "\x1b" not in failed.stderr
    skipped = invoke("pack", tmp_path / "x.tar", tmp_path / "a.cpack", "--on-error", "skip", "--json")
    assert (skipped.rc, skipped.json["n_items"], len(skipped.json["skipped"])) == (0, 1, 1)


def test_unsafe_names_in_an_archive_stay_inside(invoke: RunCli, tmp_path: Path) -> None:
    """An archive that another program wrote may name anything; unpacking must not leave the target."""
    _hostile(tmp_path / "a.cpack", "../outside.png")
    done = invoke("unpack", tmp_path / "a.cpack", tmp_path / "sub" / "out", "--json")
    assert done.rc == 1  # sub is missing
    (tmp_path / "sub").mkdir()
    done = invoke("unpack", tmp_path / "a.cpack", tmp_path / "sub" / "out", "--json")
    assert (done.rc, done.json["error"]["type"]) == (3, "UnsafeNameError")
    assert list((tmp_path / "sub").iterdir()) == []


def test_control_characters_of_an_archive_are_escaped(invoke: RunCli, tmp_path: Path) -> None:
    _hostile(tmp_path / "a.cpack", "red\x1b[31m.png", label="\x9b2J")
    for command in (["ls"], ["ls", "--long"], ["info"], ["report"]):
        done = invoke(*command, tmp_path / "a.cpack")
        assert done.rc == 0
        assert not {"\x1b", "\x9b"} & set(done.stdout + done.stderr)


def _hostile(path: Path, name: str, label: str | None = None) -> None:
    from batchcodec_plugins.codecs import StoreCodec

    from batchcodec.archive import digest
    from batchcodec.archive.directory import Row
    from batchcodec.archive.wire import CodecRecord, GroupHead
    from batchcodec.archive.writer import ArchiveWriter
    from batchcodec.types import GroupSpec

    codec, images = StoreCodec(), picture((8, 8, 1))[None]
    with path.open("wb") as file:
        writer = ArchiveWriter(file)
        writer.add_meta({"mean_psnr": "\x1b[2J", "n_skipped": "\x1b[2J"})
        reference = writer.add_codec(CodecRecord(codec.codec_id, codec.get_config(), b"", True, None))
        head = GroupHead(reference, GroupSpec.of(images), digest.digest(images), ())
        writer.add_group(head, codec.encode(images), [Row(0, name, label, {})])
        writer.finish()
