from __future__ import annotations

import gzip
import os
import pickle
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from batchcodec_plugins.formats.arrays import WINDOW_BYTES, ForwardReader, StreamedArray, WindowedArray

from batchcodec.errors import InputError

from .samples import noise


@pytest.fixture
def stored(tmp_path: Path) -> tuple[np.ndarray, Path, Path]:
    """An array of several windows, and files of it, plain and gzip, behind 13 other bytes."""
    array = noise((40, 512, 500), "uint16").astype(">u2")
    array[1:] >>= 8  # compresses quickly
    plain, packed = tmp_path / "a.raw", tmp_path / "a.raw.gz"
    plain.write_bytes(b"x" * 13 + array.tobytes())
    with gzip.open(packed, "wb", compresslevel=1) as file:
        file.write(b"x" * 13 + array.tobytes())
    return array, plain, packed


def test_random_access_equals_sequential(stored: tuple[np.ndarray, Path, Path]) -> None:
    array, plain, packed = stored
    assert array.nbytes > 4 * WINDOW_BYTES
    windowed = WindowedArray(plain, 13, array.shape, array.dtype)
    streamed = StreamedArray(packed, partial(gzip.open, packed), 13, array.shape, array.dtype)
    for order in (range(40), [39, 0, 17, 17, 16, 18, 3]):
        for index in order:
            for source in (windowed, streamed):
                np.testing.assert_array_equal(source[index], array[index])
                assert source[index].dtype == np.dtype("uint16")
                assert source[index].flags.writeable


def test_several_threads_read_windows_of_their_own(stored: tuple[np.ndarray, Path, Path]) -> None:
    array, plain, packed = stored
    for source in (
        WindowedArray(plain, 13, array.shape, array.dtype),
        StreamedArray(packed, partial(gzip.open, packed), 13, array.shape, array.dtype),
    ):
        with ThreadPoolExecutor(4) as pool:
            for index, item in enumerate(pool.map(source.__getitem__, range(40))):
                np.testing.assert_array_equal(item, array[index])


def test_a_file_that_becomes_shorter(stored: tuple[np.ndarray, Path, Path]) -> None:
    array, plain, _ = stored
    windowed = WindowedArray(plain, 13, array.shape, array.dtype)
    os.truncate(plain, 13 + array.nbytes - 1)
    np.testing.assert_array_equal(windowed[0], array[0])
    with pytest.raises(InputError, match="it has become shorter"):
        windowed[39]


def test_truncation(stored: tuple[np.ndarray, Path, Path], tmp_path: Path) -> None:
    array, plain, packed = stored
    with pytest.raises(InputError, match="truncated: 20480014 bytes expected, 20480013 found"):
        WindowedArray(plain, 14, array.shape, array.dtype)
    cut = tmp_path / "cut.gz"
    cut.write_bytes(packed.read_bytes()[:-1000])
    streamed = StreamedArray(cut, partial(gzip.open, cut), 13, array.shape, array.dtype)
    np.testing.assert_array_equal(streamed[0], array[0])
    with pytest.raises(InputError, match="damaged compressed data"):
        streamed[39]
    short = StreamedArray(packed, partial(gzip.open, packed), 13, (41, *array.shape[1:]), array.dtype)
    with pytest.raises(InputError, match="truncated"):
        short[40]


def test_pickling(stored: tuple[np.ndarray, Path, Path]) -> None:
    array, plain, packed = stored
    windowed = WindowedArray(plain, 13, array.shape, array.dtype)
    streamed = StreamedArray(packed, partial(gzip.open, packed), 13, array.shape, array.dtype)
    for source in (windowed, streamed):
        np.testing.assert_array_equal(source[5], array[5])
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(source))[5], array[5])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_disturb_the_parent(tmp_path: Path) -> None:
    content = noise((9 << 20,)).tobytes()
    (tmp_path / "a.gz").write_bytes(gzip.compress(content, 1))
    script = f"""
        import gzip, os, sys
        from functools import partial
        from batchcodec_plugins.formats.arrays import ForwardReader
        reader = ForwardReader(partial(gzip.open, {str(tmp_path / "a.gz")!r}))
        first = reader.read_at(0, 100)
        child = os.fork()
        if child == 0:
            data = reader.read_at(5 << 20, 100)
            os._exit(0 if len(data) == 100 else 1)
        assert os.waitpid(child, 0)[1] == 0
        sys.stdout.buffer.write(reader.read_at(8 << 20, 1000))
    """
    done = subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(script)], capture_output=True, check=True)
    assert done.stdout == content[8 << 20 : (8 << 20) + 1000]


def test_forward_reader_is_a_file(tmp_path: Path) -> None:
    content = noise((9 << 20,)).tobytes()
    (tmp_path / "a").write_bytes(content)
    reader = ForwardReader(partial(open, tmp_path / "a", "rb"))
    assert reader.read(10) == content[:10]
    reader.seek(6 << 20)
    assert reader.read(10) == content[6 << 20 : (6 << 20) + 10]
    assert reader.tell() == (6 << 20) + 10
    reader.seek(-20, os.SEEK_CUR)
    assert reader.read(10) == content[(6 << 20) - 10 : 6 << 20]
    reader.seek(3)
    assert reader.read() == content[3:]
    assert reader.read(5) == b""
    reader.close()
    assert reader.read_at(1, 2) == content[1:3]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("kind", ["npy", "npz", "npz compressed", "idx.gz"])
def test_resident_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    n_items, side = 1600, 256  # 100 MiB
    path = tmp_path / f"big.{kind.split()[0]}"
    pixels = np.zeros((n_items, side, side, 1), np.uint8)
    pixels[:, 0, 0, 0] = np.arange(n_items) % 251
    if kind == "npy":
        np.save(path, pixels)
    elif kind == "idx.gz":
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(
                bytes.fromhex("00000803") + b"".join(n.to_bytes(4, "big") for n in (n_items, side, side)) + pixels.tobytes()
            )
    else:
        (np.savez_compressed if "compressed" in kind else np.savez)(path, images=pixels)
    script = f"""
        from pathlib import Path
        from batchcodec_plugins.formats import IdxFormat, NpyFormat, NpzFormat
        def resident():
            status = Path("/proc/self/status").read_text()
            return int(status.split("VmHWM:")[1].split()[0])
        path = Path({str(path)!r})
        items = next(f for f in (IdxFormat, NpyFormat, NpzFormat) if f.matches(path))().read(path)
        items[0]
        before = resident()
        for i in range(len(items)):
            if items[i].pixels[0, 0, 0] != i % 251:
                raise SystemExit(1)
        print(resident() - before)
    """
    done = subprocess.run([sys.executable, "-W", "error", "-c", textwrap.dedent(script)], capture_output=True, check=True)
    assert int(done.stdout) < 16 << 10  # KiB
