"""Which datasets several threads may read, and that they get what one thread gets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from batchcodec_plugins.formats import FolderFormat, IdxFormat, NpyFormat, NpzFormat, TarFormat
from batchcodec_plugins.formats.arrays import ForwardReader
from helpers import picture

from batchcodec.dataset import Format, FormatOptions
from batchcodec.types import Item


@pytest.fixture(autouse=True)
def _busy_threads() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def _written(kind: type[Format], path: Path, n: int = 40) -> Path:
    size = (30, 30, 1)
    items = [Item(f"{i:03}.png", picture(size, i), str(i % 7), {"place": i}) for i in range(n)]
    kind(FormatOptions(image_format="png")).write(path, iter(items))
    return path


@pytest.mark.parametrize(
    ("kind", "name", "parallel"),
    [
        (FolderFormat, "folder", True),
        (NpyFormat, "a.npy", True),
        (NpzFormat, "a.npz", True),
        (IdxFormat, "a.idx", True),
        (IdxFormat, "a.idx.gz", False),
        (TarFormat, "a.tar", True),
        (TarFormat, "a.tar.gz", False),
        (TarFormat, "a.tar.zst", False),
    ],
)
def test_threads_get_what_one_thread_gets(kind: type[Format], name: str, parallel: bool, tmp_path: Path) -> None:
    """All are safe; those that say no would be slow."""
    path = _written(kind, tmp_path / name)
    expected = list(kind().read(path))
    found = kind().read(path)
    assert found.parallel_reads is parallel  # type: ignore[attr-defined]
    assert found[2:9].parallel_reads is parallel  # type: ignore[attr-defined]

    def read(seed: int) -> list[tuple[int, Item]]:
        order = np.random.default_rng(seed).permutation(len(expected)).tolist()
        return [(index, found[index]) for index in order]

    with ThreadPoolExecutor(4) as pool:
        for part in pool.map(read, range(8)):
            for index, item in part:
                assert (item.name, item.label, item.attributes) == (
                    expected[index].name,
                    expected[index].label,
                    expected[index].attributes,
                )
                assert np.array_equal(item.pixels, expected[index].pixels)


def test_compressed_arrays_are_not_parallel(tmp_path: Path) -> None:
    images = np.stack([picture((30, 30, 1), i) for i in range(5)])
    np.savez_compressed(tmp_path / "a.npz", images=images)
    assert NpzFormat().read(tmp_path / "a.npz").parallel_reads is False
    np.savez(tmp_path / "b.npz", images=images, labels=np.arange(5))
    assert NpzFormat().read(tmp_path / "b.npz").parallel_reads is True


@pytest.mark.parametrize(("kind", "name"), [(TarFormat, "a.tar.gz"), (IdxFormat, "a.idx.gz")])
def test_a_stream_is_packed_in_one_pass(kind: type[Format], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going back beyond a window, which is small here, would start it over."""
    import batchcodec

    path = _written(kind, tmp_path / name, 300)
    monkeypatch.setattr("batchcodec_plugins.formats.arrays.WINDOW_BYTES", 10_000)
    monkeypatch.setattr("batchcodec_plugins.formats.arrays._CHUNK_BYTES", 100)
    monkeypatch.setattr("batchcodec.packing.reading.BATCH_BYTES", 5000)
    starts = []
    real = ForwardReader._restart
    monkeypatch.setattr(ForwardReader, "_restart", lambda self: (starts.append(1), real(self))[1])
    kind().read(path)
    opening = len(starts)
    starts.clear()
    options = batchcodec.PackOptions(codec="zstd", workers=3, batch=16, preprocess=batchcodec.Preprocess(size=(9, 9)))
    assert batchcodec.pack(path, tmp_path / "a.cpack", options).n_items == 300
    assert len(starts) <= opening + 2
