"""Target: damaged archives. `verify` says what is wrong with any file, and what `repair` makes of it is a sound archive."""

from __future__ import annotations

from collections.abc import Iterable

from batchcodec.archive.reader import Archive
from batchcodec.checking.repair import repair
from batchcodec.checking.verify import verify
from batchcodec.errors import BatchcodecError
from batchcodec.registry import registry

from . import mutators
from .containers import file_with, sample, scratch
from .oracle import Target


def rescue(data: bytes) -> None:
    """Verify and repair; the repaired archive opens, has as many items as was said, and each group's bytes are whole."""
    source, target = file_with(data, "damaged.cpack"), scratch() / "repaired.cpack"
    verify(source)
    report = repair(source, target, force=True)
    with Archive(target, registry().restore) as archive:
        assert len(archive.names) == len(archive) == report.n_items
        assert archive.n_groups == report.n_groups
    found = verify(target)
    assert found.n_bad_groups == 0, found.findings


def _damaged() -> Iterable[bytes]:
    whole = sample([("store", {}), ("png", {}), ("zstd", {})])
    yield whole
    yield whole[:-40]
    yield whole[: len(whole) * 2 // 3]
    yield whole[:300] + bytes(40) + whole[340:]
    yield whole[:400] + b"inserted" + whole[400:]


def _mutate(data: bytes, change: mutators.Change, seed: int) -> bytes:
    """Sound blocks in any order, then plain damage to one of two."""
    changed = mutators.archive(data, change, seed)
    return change(changed) if seed % 2 else changed


RESCUE = Target("repair", rescue, _damaged, (BatchcodecError,), _mutate)
