"""`verify` and `repair` on the command line, in real processes: exit codes, text, JSON, and what is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import CONSOLE_SCRIPT, RunCli
from PIL import Image

from batchcodec import open as open_archive
from batchcodec.archive.blocks import RawFile
from batchcodec.archive.found import FoundBlock
from batchcodec.archive.scan import scan
from batchcodec.archive.wire import BlockType


def groups_of(path: Path) -> list[FoundBlock]:
    with RawFile(path) as file:
        return [block for block in scan(file).blocks if block.type == BlockType.GROUP]


def damaged(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(data)


@pytest.fixture
def archive(rgb_archive: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copy(rgb_archive[1], tmp_path / "a.cpack"))


def test_a_whole_archive_is_0(run_cli: RunCli, archive: Path) -> None:
    done = run_cli("verify", archive)
    assert (done.rc, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{archive}: whole\n6 images in 3 groups")
    assert "nothing decoded" in done.stdout
    done = run_cli("verify", archive, "--deep", "--json", "--progress")
    assert (done.rc, done.json["verdict"], done.json["n_decoded"], done.json["findings"]) == (0, "whole", 3, [])


def test_damage_is_4_after_the_report(run_cli: RunCli, archive: Path) -> None:
    damaged(archive, groups_of(archive)[1].end - 1)
    done = run_cli("verify", archive)
    assert done.rc == 4
    assert "DAMAGED" in done.stdout
    assert "group 1: its body is damaged" in done.stdout
    assert "[2 images: " in done.stdout
    assert "batchcodec repair" in done.stdout
    report = run_cli("verify", archive, "--json")
    assert (report.rc, report.json["verdict"], report.json["counts"]) == (4, "damage", {"damage": 1})
    (finding,) = report.json["findings"]
    assert (finding["kind"], finding["severity"], finding["group"], len(finding["items"])) == ("group", "damage", 1, 2)
    assert run_cli("verify", archive, "--quiet").stdout == ""


def test_repair_then_verify(run_cli: RunCli, archive: Path, tmp_path: Path) -> None:
    damaged(archive, groups_of(archive)[1].end - 1)
    before, target = archive.read_bytes(), tmp_path / "b.cpack"
    done = run_cli("repair", archive, target, "--json")
    assert (done.rc, done.json["n_groups"], done.json["n_lost_groups"], done.json["n_lost_items"]) == (0, 2, 1, 2)
    assert len(done.json["lost"][0]["items"]) == 2
    assert archive.read_bytes() == before
    assert run_cli("verify", target, "--deep").rc == 0
    with open_archive(target) as opened:
        assert len(list(opened)) == 4
        assert opened.meta["repaired"]["n_lost_items"] == 2
    again = run_cli("repair", archive, target)
    assert again.rc == 2
    assert "--force" in again.stderr
    text = run_cli("repair", archive, target, "--force").stdout
    assert "LOST 2 images in 1 groups" in text
    assert "GROUP 1: its body is damaged" in text


def test_a_cut_archive(invoke: RunCli, archive: Path, tmp_path: Path) -> None:
    archive.write_bytes(archive.read_bytes()[: groups_of(archive)[2].end - 3])
    done = invoke("verify", archive)
    assert done.rc == 4
    assert "ends inside of a GROUP block" in done.stdout
    assert "packing was interrupted" in done.stdout
    text = invoke("repair", archive, tmp_path / "b.cpack").stdout
    assert "4 images in 2 groups" in text
    assert "lost/000000/000000" in text


def test_nothing_to_repair_and_no_archive(invoke: RunCli, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("this is a text of more than a few bytes, and nothing else at all")
    for command in (("verify", tmp_path / "text"), ("repair", tmp_path / "text", tmp_path / "b.cpack")):
        done = invoke(*command, "--json")
        assert (done.rc, done.json["error"]["type"]) == (4, "NotAnArchiveError")
    archive.write_bytes(archive.read_bytes()[:100])
    done = invoke("repair", archive, tmp_path / "b.cpack", "--json")
    assert (done.rc, done.json["error"]["type"]) == (4, "TruncatedArchiveError")
    assert not (tmp_path / "b.cpack").exists()
    assert invoke("repair", archive, archive).rc == 2


def test_the_last_byte_is_repaired(invoke: RunCli, archive: Path, tmp_path: Path) -> None:
    whole = archive.read_bytes()
    damaged(archive, len(whole) - 1)
    done = invoke("repair", archive, tmp_path / "b.cpack")
    assert "byte for byte" in done.stdout
    assert (tmp_path / "b.cpack").read_bytes() == whole


def test_against(invoke: RunCli, rgb_archive: tuple[Path, Path], archive: Path, tmp_path: Path) -> None:
    source = Path(shutil.copytree(rgb_archive[0], tmp_path / "source"))
    done = invoke("verify", archive, "--against", source)
    assert done.rc == 0
    assert "6 images compared" in done.stdout
    Image.fromarray(np.zeros((24, 32, 3), np.uint8)).save(source / "cat" / "1.png")
    report = invoke("verify", archive, "--against", source, "--json").json
    assert report["comparison"]["worst"][0]["name"] == "cat/1.png"
    (source / "cat" / "0.png").unlink()
    done = invoke("verify", archive, "--against", source)
    assert done.rc == 3
    assert "SOURCE DIFFERS" in done.stdout
    assert "cat/0.png" in done.stdout
    assert invoke("verify", archive, "--against", tmp_path / "missing", "--json").json["error"]["type"] == "InputError"


def test_a_codec_that_is_not_there_is_5(run_cli: RunCli, archive: Path) -> None:
    env = {"PYTHONPATH": str(_without_plugins(archive.parent / "site"))}
    assert run_cli("verify", archive, env=env).rc == 0
    done = run_cli("verify", archive, "--deep", env=env)
    assert done.rc == 5
    assert "unknown codec 'jpeg'" in done.stdout


def _without_plugins(folder: Path) -> Path:
    """A folder with a `batchcodec_plugins` before the real one that registers nothing."""
    package = folder / "batchcodec_plugins"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    for name in ("codecs", "formats"):
        (package / f"{name}.py").write_text("")
    return folder


def test_control_characters_in_names_are_shown_and_not_sent(invoke: RunCli, tmp_path: Path) -> None:
    from archive.samples import image, packed

    from batchcodec.types import Item

    path = tmp_path / "a.cpack"
    path.write_bytes(packed([Item(f"a\x1b[31m{i}", image(i)) for i in range(2)]))
    damaged(path, groups_of(path)[0].end - 1)
    for done in (invoke("verify", path), invoke("repair", path, tmp_path / "b.cpack")):
        assert done.rc == 4
        assert "\x1b" not in done.stdout + done.stderr
    assert "\\x1b[31m0" in invoke("verify", path).stdout


def test_a_killed_pack_is_repaired(run_cli: RunCli, tmp_path: Path) -> None:
    """What a pack had written when it was killed, wherever it keeps that meanwhile."""
    source, target = tmp_path / "images.npy", tmp_path / "out" / "a.cpack"
    target.parent.mkdir()
    np.save(source, np.random.default_rng(0).integers(0, 256, (4000, 64, 64), np.uint8))
    command = [str(CONSOLE_SCRIPT), "pack", str(source), str(target), "-c", "png", "--group", "16", "--workers", "1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            files = [path for path in target.parent.iterdir() if path.is_file() and path.stat().st_size > 300_000]
            if files or process.poll() is not None:
                break
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.wait()
    if target.exists():
        pytest.skip("pack was done before it could be killed")
    (left,) = files
    done = run_cli("verify", left, "--json")
    assert (done.rc, done.json["verdict"]) == (4, "damage")
    assert any("packing was interrupted" in finding["message"] for finding in done.json["findings"])
    report = run_cli("repair", left, tmp_path / "b.cpack", "--json").json
    assert report["n_items"] >= 16
    assert run_cli("verify", tmp_path / "b.cpack", "--deep").rc == 0
