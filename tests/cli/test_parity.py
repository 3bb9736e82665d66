"""`pack --parity` and `repair`: an archive comes back bit for bit, whichever 5 % of its blocks are lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import RunCli

from batchcodec.archive import wire
from batchcodec.archive.blocks import BlockFile


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import batchcodec

    folder = tmp_path_factory.mktemp("parity")
    np.save(folder / "x.npy", np.random.default_rng(0).integers(0, 256, (400, 24, 24), np.uint8))
    options = batchcodec.PackOptions(codec="store", group_items=4, parity=0.05)
    report = batchcodec.pack(folder / "x.npy", folder / "a.cpack", options)
    assert 0.1 < report.bytes.parity / report.n_bytes < 0.2
    return folder / "a.cpack"


@pytest.mark.parametrize("seed", range(10))
def test_any_blocks_can_be_lost(seed: int, archive: Path, invoke: RunCli, tmp_path: Path) -> None:
    data, rng = bytearray(archive.read_bytes()), np.random.default_rng(seed)
    with BlockFile(archive) as file:
        entries = [file.entries[i] for i in rng.permutation(len(file.entries))[: len(file.entries) * 5 // 100]]
    for entry in entries:
        n_bytes = wire.BLOCK.size + entry.n_bytes
        data[entry.offset : entry.offset + n_bytes] = rng.bytes(n_bytes)
    (tmp_path / "bad.cpack").write_bytes(data)
    found = invoke("verify", tmp_path / "bad.cpack", "--json")
    assert (found.rc, found.json["verdict"], found.json["healable"]) == (4, "damage", True)
    done = invoke("repair", tmp_path / "bad.cpack", tmp_path / "good.cpack", "--json")
    assert (done.rc, done.json["identical"], done.json["n_lost_items"]) == (0, True, 0)
    assert done.json["restored"]
    assert (tmp_path / "good.cpack").read_bytes() == archive.read_bytes()


def test_what_parity_cannot_restore_is_repaired_without(archive: Path, invoke: RunCli, tmp_path: Path) -> None:
    data = bytearray(archive.read_bytes())
    data[len(data) // 4 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 4)
    (tmp_path / "bad.cpack").write_bytes(data)
    assert not invoke("verify", tmp_path / "bad.cpack", "--json").json["healable"]
    done = invoke("repair", tmp_path / "bad.cpack", tmp_path / "good.cpack", "--json")
    assert (done.rc, done.json["identical"], done.json["has_parity"]) == (0, False, True)
    assert 100 < done.json["n_items"] < 300
    assert invoke("verify", tmp_path / "good.cpack", "--deep").rc == 0


def test_it_is_told(archive: Path, invoke: RunCli) -> None:
    assert "parity" in invoke("info", archive).stdout
    assert invoke("info", archive, "--json").json["bytes"]["parity"] > 0
    assert invoke("verify", archive, "--json").json["healable"] is False


@pytest.mark.parametrize("value", ["26%", "5", "x", "-1%", "1e1%"])
def test_bad_values(value: str, archive: Path, invoke: RunCli, tmp_path: Path) -> None:
    done = invoke("pack", archive.with_name("x.npy"), tmp_path / "a.cpack", f"--parity={value}", "--json")
    assert (done.rc, done.json["error"]["type"], done.json["error"]["name"]) == (2, "OptionError", "parity")
