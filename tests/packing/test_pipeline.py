"""Groups are written in order whichever is coded first, errors come in order, and no thread outlives `close`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

import pytest

from batchcodec.packing.pipeline import Pipeline


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def _through(pipeline: Pipeline[int, int], jobs: list[object]) -> list[int]:
    found: list[int] = []
    with contextlib.closing(pipeline):
        for job in jobs:
            found += pipeline.put(job)  # type: ignore[arg-type]
        found += pipeline.finish()
    return found


@pytest.mark.parametrize(("workers", "depth"), [(1, 1), (1, 5), (2, 2), (5, 3), (5, 20)])
def test_order(workers: int, depth: int) -> None:
    written: list[int] = []

    def write(number: int) -> int:
        written.append(number)
        return number

    def slowly(number: int) -> int:
        time.sleep(0.002 * (7 * number % 5))
        return number

    jobs: list[object] = [lambda n=n: slowly(n) for n in range(40)]
    assert _through(Pipeline(write, workers=workers, depth=depth), jobs) == list(range(40))
    assert written == list(range(40))


def test_no_more_is_under_way_than_depth() -> None:
    begun = 0
    go_on = threading.Event()

    def job() -> int:
        nonlocal begun
        begun += 1
        go_on.wait(10)
        return begun

    pipeline: Pipeline[int, int] = Pipeline(lambda n: n, workers=4, depth=3)
    with contextlib.closing(pipeline):
        for _ in range(3):
            assert list(pipeline.put(job)) == []
        time.sleep(0.05)
        assert begun == 3
        threading.Timer(0.05, go_on.set).start()
        started = time.monotonic()
        list(pipeline.put(job))
        assert time.monotonic() - started > 0.04
        assert pipeline.wait_seconds > 0.04
        list(pipeline.finish())


@pytest.mark.parametrize("where", ["code", "write"])
def test_the_first_error_is_raised_and_nothing_is_written_after_it(where: str) -> None:
    written: list[int] = []

    class Stop(BaseException):
        pass

    def code(number: int) -> int:
        time.sleep(0.02 if number == 3 else 0)
        if where == "code" and number >= 3:
            raise Stop(number)
        return number

    def write(number: int) -> int:
        if where == "write" and number >= 3:
            raise Stop(number)
        written.append(number)
        return number

    jobs: list[object] = [lambda n=n: code(n) for n in range(10)]
    with pytest.raises(Stop) as raised:
        _through(Pipeline(write, workers=4, depth=8), jobs)
    assert raised.value.args == (3,)
    assert written == [0, 1, 2]


def test_closing_drops_what_has_not_begun() -> None:
    begun: list[int] = []
    go_on = threading.Event()

    def job(number: int) -> int:
        begun.append(number)
        go_on.wait(10)
        return number

    pipeline: Pipeline[int, int] = Pipeline(lambda n: n, workers=1, depth=100)
    for number in range(50):
        list(pipeline.put(lambda n=number: job(n)))
    threading.Timer(0.05, go_on.set).start()
    pipeline.close()
    assert len(begun) <= 2
