"""The conformance set: good files are read and bad ones refused as `expected.json` says, and `make.py` makes these files."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers import RunCli

import batchcodec
from batchcodec import errors

HERE = Path(__file__).parent
EXPECTED: dict[str, Any] = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))


def _make() -> Any:
    spec = importlib.util.spec_from_file_location("conformance_make", HERE / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_files_are_those_that_are_expected(tmp_path: Path) -> None:
    assert _make().make(tmp_path) == EXPECTED
    for kind in ("good", "bad"):
        names = sorted(f"{name}.cpack" for name in EXPECTED[kind])
        assert sorted(path.name for path in (HERE / kind).iterdir()) == names
        for name in names:
            assert (HERE / kind / name).read_bytes() == (tmp_path / kind / name).read_bytes(), name


@pytest.mark.parametrize("name", sorted(EXPECTED["good"]))
def test_good_files_are_read(name: str, tmp_path: Path) -> None:
    data = (HERE / "good" / f"{name}.cpack").read_bytes()
    assert _make().contents(data, tmp_path / "a.cpack") == EXPECTED["good"][name]


@pytest.mark.parametrize("name", sorted(EXPECTED["bad"]))
def test_bad_files_are_refused(name: str, invoke: RunCli, tmp_path: Path) -> None:
    want = EXPECTED["bad"][name]
    path = HERE / "bad" / f"{name}.cpack"
    if want["command"] == "show":  # looks up an item by name
        with pytest.raises(getattr(errors, want["error"])) as raised, batchcodec.open(path) as archive:
            _ = archive["same"]
        assert want["says"] in str(raised.value)
        return
    arguments = [path, tmp_path / "out"] if want["command"] == "unpack" else [path]
    done = invoke(want["command"], *arguments, "--json")
    assert (done.rc, done.json["error"]["type"]) == (want["exit_code"], want["error"])
    assert want["says"] in done.json["error"]["message"]
    assert str(path) in done.stderr or want["error"] == "UnsafeNameError"  # which names the target and the item
    assert not (tmp_path / "out").exists()


def test_every_class_that_a_file_can_raise_has_one() -> None:
    seen = {want["error"] for want in EXPECTED["bad"].values()}
    archive = {cls.__name__ for cls in _subclasses(errors.ArchiveError)} - {
        "ItemNotFoundError",
        "_IndexNotFoundError",
        "MixedShapesError",
    }
    assert archive <= seen | {"ArchiveError"}
    assert {"DriftError", "UnknownCodecError", "ModelError", "InexactMachineError", "UnsafeNameError"} <= seen


def _subclasses(cls: type) -> set[type]:
    return {cls}.union(*(_subclasses(child) for child in cls.__subclasses__()))
