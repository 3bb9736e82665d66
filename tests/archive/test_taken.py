"""Names are taken once: whatever their order is, and in little memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcodec.archive import taken
from batchcodec.archive.taken import TakenNames


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken, "PIECE_NAMES", 4)


@given(st.lists(st.text(max_size=3)), st.lists(st.text("ab\0\n", max_size=3)))
def test_as_a_set(ascending: list[str], more: list[str]) -> None:
    names = [*sorted(set(ascending)), *more]
    found, expected = TakenNames(), set[str]()
    for name in names:
        assert found.add(name) == (name not in expected)
        expected.add(name)


def test_many(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:08}" for number in np.random.default_rng(0).permutation(50_000)]
    found = TakenNames()
    assert all(map(found.add, names))
    assert not any(map(found.add, names))


@pytest.mark.parametrize(("name", "most"), [("{:08}.png", 1.6), ("{:08}" + "é" * 50, 1.6)])
def test_ascending_names_take_little(name: str, most: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken, "PIECE_NAMES", 4096)
    tracemalloc.start()
    try:
        found = TakenNames()
        before = tracemalloc.get_traced_memory()[0]
        assert all(found.add(name.format(number)) for number in range(25 * 4096))
        assert (tracemalloc.get_traced_memory()[0] - before) / (25 * 4096) < most
    finally:
        tracemalloc.stop()
    assert not found.add(name.format(1000))


def test_names_that_do_not_compress_are_kept_as_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken, "PIECE_NAMES", 1000)
    rng = np.random.default_rng(0)
    names = sorted(rng.bytes(20).hex() for _ in range(10_000))
    found = TakenNames()
    assert all(map(found.add, names))
    assert sum(map(len, found._pieces)) <= 10_000 * 8 + 10
    assert not found.add(names[777])
    assert not any(map(found.add, names))


def test_two_names_of_the_hash_0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken, "_hash", lambda name: 0)
    found = TakenNames()
    assert found.add("b")
    assert not found.add("a")  # one hash passes for one name
