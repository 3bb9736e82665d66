"""Groups of small pictures are decoded by one thread at a time: with the same pixels, and also where a process is forked."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from batchcodec_plugins.codecs import picture

from batchcodec.codec import Codec
from batchcodec.errors import PayloadError
from batchcodec.registry import registry
from batchcodec.types import GroupSpec

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 24, 31, 3), dtype=np.uint8)
CODECS = ["jpeg", "webp", "png", "bmp"]


@pytest.mark.parametrize("name", CODECS)
def test_threads_get_what_one_gets(name: str) -> None:
    codec = registry().make_codec(name)
    payload, spec = codec.encode(IMAGES), GroupSpec.of(IMAGES)
    expected = codec.decode(payload, spec)
    with ThreadPoolExecutor(4) as pool:
        payloads = list(pool.map(lambda _: codec.encode(IMAGES), range(12)))
        for found in pool.map(lambda _: codec.decode(payload, spec), range(12)):
            np.testing.assert_array_equal(found, expected)
    assert set(payloads) == {payload}


@pytest.mark.parametrize("name", CODECS)
def test_a_damaged_group_passes_the_turn_on(name: str) -> None:
    codec = registry().make_codec(name)
    payload, spec = codec.encode(IMAGES), GroupSpec.of(IMAGES)
    with pytest.raises(PayloadError):
        codec.decode(payload[: len(payload) // 2], spec)
    assert codec.decode(payload, spec).shape == IMAGES.shape


def test_large_pictures_take_no_turn() -> None:
    images = np.zeros((2, 200, 200, 1), np.uint8)
    codec = registry().make_codec("jpeg")
    payload = codec.encode(images)
    with picture._turn:
        assert codec.decode(payload, GroupSpec.of(images)).shape == images.shape


def _decode(codec: Codec, payload: bytes) -> None:
    np.testing.assert_array_equal(codec.decode(payload, GroupSpec.of(IMAGES)), IMAGES)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_has_a_turn_of_its_own() -> None:
    codec = registry().make_codec("png")
    payload = codec.encode(IMAGES)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with picture._turn:
            held.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(60)
        child = multiprocessing.get_context("fork").Process(target=_decode, args=(codec, payload))
        child.start()
        child.join(60)
        if child.exitcode is None:
            child.kill()
        assert child.exitcode == 0
    finally:
        done.set()
        holder.join()
