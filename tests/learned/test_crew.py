"""Idle cores take shares of a loop; what comes out is the same."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from batchcodec.learned import crew
from batchcodec.learned.hyperprior import codec as hyperprior_codec
from batchcodec.learned.hyperprior import engine
from batchcodec.learned.hyperprior.codec import HyperpriorCodec
from batchcodec.types import GroupSpec, ImageSpec
from tests.learned.test_reference import perturbed, wild


@pytest.fixture
def three_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(crew, "_cores", lambda: 3)
    crew._helpers.cache_clear()
    yield
    crew._helpers().shutdown()
    crew._helpers.cache_clear()


def parts(n: int, least: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    crew.share(n, least, lambda first, last: found.append((first, last)))
    return sorted(found)


@pytest.mark.usefixtures("three_cores")
def test_parts_cover_what_there_is() -> None:
    for n in (0, 1, 2, 7, 100):
        for least in (1, 3, 40, 1000):
            found = parts(n, least)
            assert [i for first, last in found for i in range(first, last)] == list(range(n))
            assert len(found) == max(1, min(3, n // least))
    assert not crew._busy


@pytest.mark.usefixtures("three_cores")
def test_who_works_already_is_not_asked() -> None:
    with crew.working():
        assert len(parts(100, 1)) == 3  # it is the caller itself
        with crew.working():
            assert len(parts(100, 1)) == 2
            with crew.working(), crew.working():
                assert len(parts(100, 1)) == 1
    assert not crew._busy


@pytest.mark.usefixtures("three_cores")
def test_helpers_are_others_threads_and_count() -> None:
    threads: set[int] = set()
    barrier = threading.Barrier(3)

    def work(first: int, last: int) -> None:
        barrier.wait(60)  # all three parts run at the same time
        threads.add(threading.get_ident())
        assert len(parts(100, 1)) == 1  # nobody is left

    with crew.working():
        crew.share(3, 1, work)
    assert len(threads) == 3
    assert not crew._busy


@pytest.mark.usefixtures("three_cores")
@pytest.mark.parametrize("bad", [0, 50, 99])
def test_an_error_in_a_part(bad: int) -> None:
    done: list[int] = []

    def work(first: int, last: int) -> None:
        if first <= bad < last:
            raise ValueError(bad)
        done.append(first)

    with pytest.raises(ValueError, match=str(bad)):
        crew.share(100, 1, work)
    assert len(done) == 2
    assert not crew._busy
    assert len(parts(100, 1)) == 3


@pytest.mark.usefixtures("three_cores")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_has_helpers_of_its_own() -> None:
    parts(100, 1)
    with crew.working(), crew.working():
        child = os.fork()
        if not child:
            os._exit(0 if len(parts(100, 1)) == 3 else 1)
        assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("kind", [perturbed, wild])
@pytest.mark.parametrize("shape", [(1, 200, 75), (1, 640, 8), (5, 24, 40), (2, 90, 33)])
def test_decoding_with_help(kind: object, shape: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    coder = HyperpriorCodec(model=kind("rgb"), effort=1)  # type: ignore[operator]
    spec = GroupSpec(len(images), ImageSpec.of(images[0]))
    monkeypatch.setattr(crew, "_cores", lambda: 1)
    payload = coder.encode(images)
    alone = coder.decode(payload, spec)
    monkeypatch.setattr(crew, "_cores", lambda: 4)
    crew._helpers.cache_clear()
    monkeypatch.setattr(engine, "SHARE", 1)
    monkeypatch.setattr(hyperprior_codec, "SHARE_LINES", 1)
    monkeypatch.setattr(hyperprior_codec, "STRIP_PIXELS", 2000)
    monkeypatch.setattr(hyperprior_codec, "SYNTHESIS_PIXELS", 2000)
    assert coder.encode(images) == payload
    assert np.array_equal(coder.decode(payload, spec), alone)
    assert np.array_equal(coder.decode(payload, spec, [len(images) - 1]), alone[-1:])
    crew._helpers().shutdown()
    crew._helpers.cache_clear()
