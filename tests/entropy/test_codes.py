"""The common front, and what the package costs to import."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import zstandard

from batchcodec.entropy.codes import ENTROPY_CODERS, pack_symbols, unpack_symbols
from batchcodec.errors import ModelError, OptionError, PayloadError

from .streams import damaged, outcome, stream


@pytest.mark.parametrize("kind", ENTROPY_CODERS)
@pytest.mark.parametrize("n", [0, 1, 2, 501])
def test_round_trip(kind: str, n: int) -> None:
    symbols, index, freqs = stream(n, n, 3, 256, 4)
    data = pack_symbols(kind, symbols.astype(np.uint8), index, freqs)
    back = unpack_symbols(kind, data, index, freqs)
    assert back.dtype == np.uint8
    assert back.flags.writeable
    assert np.array_equal(back, symbols)
    assert pack_symbols(kind, symbols.astype(np.uint8), index, freqs) == data


@pytest.mark.parametrize("kind", ENTROPY_CODERS)
def test_damage(kind: str) -> None:
    symbols, index, freqs = stream(1, 200, 1, 256, 30)
    data = pack_symbols(kind, symbols.astype(np.uint8), index, freqs)
    for bad in damaged(data, 1, 100):
        got = outcome(unpack_symbols, PayloadError, kind, bad, index, freqs)
        assert got is None or len(got) == len(symbols)
    for n in range(len(data)):
        with pytest.raises(PayloadError):
            unpack_symbols(kind, data[:n], index, freqs)
    with pytest.raises(PayloadError):
        unpack_symbols(kind, data + b"\0", index, freqs)


def test_zstd_frames_that_are_not_ours() -> None:
    _, index, freqs = stream(1, 100, 1, 256)
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1 << 26))
    assert len(bomb) < 1 << 13
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100))
    frame = zstandard.ZstdCompressor().compress(bytes(100))
    lying = bytearray(bomb)
    at = lying.index((1 << 26).to_bytes(4, "little"))
    lying[at : at + 4] = (100).to_bytes(4, "little")
    skippable = bytes.fromhex("502a4d1804000000") + bytes(4)
    for bad in (bomb, unsized, frame + frame, frame + b"\0", bytes(lying), skippable, skippable + frame, b""):
        with pytest.raises(PayloadError):
            unpack_symbols("zstd", bad, index, freqs)
    for bad in (bomb, skippable + frame, frame):
        with pytest.raises(PayloadError):
            unpack_symbols("zstd", bad, index[:0], freqs)


def test_bad_arguments() -> None:
    symbols, index, freqs = np.zeros(3, np.uint8), np.zeros(3, np.uint8), np.full((1, 256), 256)
    with pytest.raises(OptionError):
        pack_symbols("lzma", symbols, index, freqs)
    with pytest.raises(OptionError):
        unpack_symbols("lzma", b"", index, freqs)
    for kind in ENTROPY_CODERS:
        with pytest.raises(ValueError, match="uint8"):
            pack_symbols(kind, symbols.astype(int), index, freqs)
        with pytest.raises(ValueError, match="expected"):
            pack_symbols(kind, symbols, index[:2], freqs)
        with pytest.raises(ModelError):
            pack_symbols(kind, symbols, index + 1, freqs)
        with pytest.raises(ModelError):
            unpack_symbols(kind, bytes(3), index + 1, freqs)
        with pytest.raises(ModelError):
            unpack_symbols(kind, bytes(3), index, np.full((1, 128), 512))


def test_import_is_cheap() -> None:
    code = """
import sys, batchcodec
before = set(sys.modules)
import batchcodec.entropy.codes, batchcodec.entropy.rans, batchcodec.entropy.huffman
print(sorted({"numba", "torch", "zstandard", "constriction"} & (set(sys.modules) - before)), "numba" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[] False"


def test_kernels_compile_where_nothing_can_be_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    import numba
    from numba.core import caching

    from batchcodec.entropy import _jit

    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    monkeypatch.setattr(numba.config, "CACHE_LOCATOR_CLASSES", "")

    def double(value: int) -> int:
        return 2 * value

    assert _jit.jit(numba.types.int64(numba.types.int64))(double)(21) == 42
