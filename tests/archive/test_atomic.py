"""`atomic_file`: the target appears whole or not at all, whatever happens inside of the block."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from batchcodec.atomic import atomic_file, write_atomically
from batchcodec.errors import OutputError


def test_a_file_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a.cpack"
    with atomic_file(target) as file:
        file.write(b"abc")
        file.seek(0)
        assert file.read() == b"abc"
        assert not target.exists()
        assert len(list(tmp_path.iterdir())) == 1
    assert target.read_bytes() == b"abc"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError, MemoryError])
@pytest.mark.parametrize("existing", [True, False])
def test_an_exception_leaves_nothing_behind(tmp_path: Path, error: type[BaseException], existing: bool) -> None:
    target = tmp_path / "a.cpack"
    if existing:
        target.write_bytes(b"old")
    with pytest.raises(error), atomic_file(target) as file:  # noqa: PT012
        file.write(b"x" * 100_000)
        raise error
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"] * existing


def no_space(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["fsync", "replace", "write"])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    target = tmp_path / "a.cpack"
    target.write_bytes(b"old")
    if call == "fsync":
        monkeypatch.setattr(os, "fsync", no_space)
    elif call == "replace":
        monkeypatch.setattr(Path, "replace", no_space)
    with pytest.raises(OutputError, match="No space left") as raised, atomic_file(target) as file:  # noqa: PT012
        file.write(b"x")
        if call == "write":
            no_space()
    assert str(target) in str(raised.value)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_a_write_that_fails_when_the_buffer_is_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fdopen

    def full(handle: int, mode: str) -> Any:
        os.close(handle)
        return real(os.open("/dev/full", os.O_RDWR), mode)

    monkeypatch.setattr(os, "fdopen", full)
    target = tmp_path / "a.cpack"
    with pytest.raises(OutputError, match="No space left"), atomic_file(target) as file:
        file.write(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_or_is_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        write_atomically(tmp_path / "missing" / "a", b"")
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError):
        write_atomically(tmp_path / "a", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / "a", b"x")
        assert os.umask(umask) == umask
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode


def test_long_names(tmp_path: Path) -> None:
    target = tmp_path / ("ä" * 120)
    write_atomically(target, b"x")
    assert target.read_bytes() == b"x"
