"""Every seed, and every input that something was ever found with, again: without the fuzzer, in the normal suite."""

from __future__ import annotations

import re

import pytest

from . import mutators, oracle
from .oracle import BrokenError, Target, check, corpus, small_limits
from .targets import TARGETS

N_MUTANTS = 20


@pytest.fixture(params=TARGETS.values(), ids=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    found: Target = request.param
    oracle.warm_up(found)
    return found


def test_corpus(target: Target, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing that may not happen happens, and some of the seeds are taken."""
    with small_limits():
        taken = {path.name: check(target, path.read_bytes()) for path in corpus(target)}
        assert any(taken.values())
        for i, path in enumerate(corpus(target)[:N_MUTANTS]):  # that mutators work is not left to the fuzzer
            data, change = path.read_bytes(), mutators.random_bytes(i)
            check(target, target.mutate(data, change, i) if target.mutate else change(data))
    printed = capfd.readouterr()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", printed.out + printed.err), "what C libraries print"


def test_the_corpus_is_small_and_has_no_strangers() -> None:
    files = [path for path in oracle.CORPUS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 300_000
    assert {path.parent.name for path in files} == set(TARGETS)
    assert all(path.stat().st_size <= TARGETS[path.parent.name].max_length for path in files)


# ---- the judge


def _target(run: object, *allowed: type[Exception]) -> Target:
    return Target("test", run, list, allowed or (ValueError,))  # type: ignore[arg-type]


def _slow(data: bytes) -> None:
    while True:
        pass


def _fails(data: bytes) -> None:
    raise KeyError("an error that is not documented")


def _warns(data: bytes) -> None:
    import warnings

    warnings.warn("loud", stacklevel=1)


@pytest.mark.parametrize(
    ("run", "error", "match"),
    [
        (_fails, KeyError, "not documented"),
        (_warns, BrokenError, "a warning"),
        (lambda data: print("loud"), BrokenError, "it prints"),
        (lambda data: bytearray(b"x" * (150 << 20)), BrokenError, "it needs .* MiB for 4 bytes"),
        (_slow, BrokenError, "more than"),
    ],
)
def test_what_may_not_happen(run: object, error: type[Exception], match: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oracle, "SECONDS", 0.5 if run is _slow else 10)
    with pytest.raises(error, match=match):
        check(_target(run), b"data")


def test_what_may_happen() -> None:
    assert check(_target(lambda data: None), b"data")
    assert not check(_target(lambda data: int("x")), b"data")
