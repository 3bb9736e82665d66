"""Packed weights: what goes in comes out, the same bytes each time, and every lie in a file is a `ModelError`, soon."""

from __future__ import annotations

import contextlib
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.entropy import gaussian, values
from batchcodec.errors import ModelError
from batchcodec.learned import model_file, packed_weights
from batchcodec.learned.packed_weights import NAMES, Tensors

FILLS: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Any]] = {
    "zeros": lambda rng, shape: np.zeros(shape),
    "127": lambda rng, shape: np.full(shape, 127),
    "-128": lambda rng, shape: np.full(shape, -128),
    "uniform": lambda rng, shape: rng.integers(-128, 128, shape),
    "narrow": lambda rng, shape: rng.normal(0, 0.3, shape),
    "wide": lambda rng, shape: rng.normal(0, 60, shape),
    "one large": lambda rng, shape: 127 * (rng.random(shape) < 0.02),
    "rows of all scales": lambda rng, shape: (
        rng.normal(0, 1, shape) * 2.0 ** rng.uniform(-4, 7, (shape[0], *[1] * (len(shape) - 1)))
    ),
}
DOCUMENT: dict[str, Any] = {"codec": "some-1", "config": {"a": [1, 2]}}


def made(fill: str, shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.clip(np.rint(FILLS[fill](np.random.default_rng(seed), shape)), -128, 127).astype(np.int8)


def same(a: Tensors, b: Tensors) -> bool:
    return set(a) == set(b) and all(
        a[name].dtype == b[name].dtype and a[name].shape == b[name].shape and np.array_equal(a[name], b[name]) for name in a
    )


def sample() -> Tensors:
    return {
        "b": made("wide", (3, 4, 3, 3), 1),
        "a": made("rows of all scales", (5, 7), 2),
        "bias": np.arange(3, dtype=np.int32),
        "shift": np.array([-4, 14, 3], np.int8),
    }


names = st.text(st.characters(codec="utf-8"), max_size=8)
shapes = st.lists(st.integers(1, 9), min_size=2, max_size=5).filter(lambda shape: np.prod(shape) <= 4096).map(tuple)
tensors = st.builds(made, st.sampled_from(sorted(FILLS)), shapes, st.integers(0, 1000))


@settings(max_examples=30)
@given(st.dictionaries(names.filter(lambda name: name not in NAMES), tensors, max_size=3))
def test_what_goes_in_comes_out(given_tensors: Tensors) -> None:
    before = {name: tensor.copy() for name, tensor in given_tensors.items()}
    packed, listed = packed_weights.pack(given_tensors)
    assert same(given_tensors, before)
    again, listed_again = packed_weights.pack(dict(reversed(given_tensors.items())))
    assert listed_again == listed
    assert same(again, packed)
    if given_tensors:
        assert set(packed) == set(NAMES)
        assert same(packed_weights.unpack(packed, listed), given_tensors)
    else:
        assert (packed, listed) == ({}, [])


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1), (8, 6, 3, 3), (2, 1, 1, 1, 1, 1, 1, 2)])
def test_contents_of_all_kinds(fill: str, shape: tuple[int, ...]) -> None:
    given_tensors = {"x": made(fill, shape)}
    packed, listed = packed_weights.pack(given_tensors)
    assert listed == [["x", list(shape)]]
    assert same(packed_weights.unpack(packed, listed), given_tensors)


def test_only_int8_with_axes_is_packed() -> None:
    packed, listed = packed_weights.pack(sample())
    assert [name for name, _ in listed] == ["a", "b"]
    assert set(packed) == {*NAMES, "bias", "shift"}
    assert same(packed_weights.unpack(packed, listed), sample())


def test_it_saves_bytes() -> None:
    weights = {
        "x": made("narrow", (64, 64, 3, 3)),
        "y": np.rint(np.random.default_rng(0).normal(0, 12, (64, 576))).astype(np.int8),
    }
    packed, _ = packed_weights.pack(weights)
    assert sum(part.nbytes for part in packed.values()) < 0.6 * sum(weight.nbytes for weight in weights.values())


def test_the_stored_model_gives_itself_again() -> None:
    full = {**sample(), "encoder.x": np.ones((4, 4), np.float16)}
    stored = model_file.without_encoder(full, {**DOCUMENT, "training": {"steps": 3}, "encoder": {}, "name": "x"})
    parsed, document = model_file.parse(stored)
    assert same(parsed, sample())
    assert document == DOCUMENT
    assert model_file.without_encoder(parsed, document) == stored
    assert model_file.without_encoder(*model_file.parse(model_file.dump(full, DOCUMENT))) == stored


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 2), (1,) * 9], ids=str)
def test_strange_tensors_are_stored_too(shape: tuple[int, ...]) -> None:
    """They are no weights, but a file may hold them: what is stored of it must still be a model."""
    full = {**sample(), "strange": np.zeros(shape, np.int8)}
    stored = model_file.without_encoder(full, DOCUMENT)
    assert same(model_file.parse(stored)[0], full)
    alone = {"strange": np.zeros(shape, np.int8)}
    assert same(model_file.parse(model_file.without_encoder(alone, DOCUMENT))[0], alone)


dtypes = st.sampled_from([np.int8, np.uint8, np.int16, np.uint16, np.int32, np.float16, np.float32])
json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.data())
def test_a_model_file_gives_back_what_it_was_given(data: st.DataObject) -> None:
    shape = st.lists(st.integers(0, 4), min_size=1, max_size=4).map(tuple)

    def filled(shape: tuple[int, ...], dtype: type, n: int) -> Any:
        return (np.arange(np.prod(shape)) * n % 101).astype(dtype).reshape(shape)

    array = st.builds(filled, shape, dtypes, st.integers(0, 50))
    given_tensors = data.draw(st.dictionaries(names.filter(lambda name: name != "__metadata__"), array, max_size=4))
    document = data.draw(st.dictionaries(names.filter(lambda name: name != "packed"), json, max_size=4))
    blob = model_file.dump(given_tensors, document)
    assert model_file.dump(dict(reversed(given_tensors.items())), dict(reversed(document.items()))) == blob
    parsed, found = model_file.parse(blob)
    assert found == document
    assert same(parsed, given_tensors)


LISTS: dict[str, object] = {
    "null": None,
    "a number": 3,
    "an object": {"a": [5, 7]},
    "empty": [],
    "names alone": ["a", "b"],
    "three parts": [["a", [5, 7], 1], ["b", [3, 4, 3, 3]]],
    "a number for a name": [[1, [5, 7]], ["b", [3, 4, 3, 3]]],
    "a text for a shape": [["a", "57"], ["b", [3, 4, 3, 3]]],
    "one axis": [["a", [35]], ["b", [3, 4, 3, 3]]],
    "no axis": [["a", []], ["b", [3, 4, 3, 3]]],
    "nine axes": [["a", [5, 7, 1, 1, 1, 1, 1, 1, 1]], ["b", [3, 4, 3, 3]]],
    "zero": [["a", [5, 0]], ["b", [3, 4, 3, 3]]],
    "negative": [["a", [-5, -7]], ["b", [3, 4, 3, 3]]],
    "boolean": [["a", [True, 35]], ["b", [3, 4, 3, 3]]],
    "a fraction": [["a", [5.0, 7]], ["b", [3, 4, 3, 3]]],
    "the same name twice": [["a", [5, 7]], ["a", [3, 4, 3, 3]]],
    "a name that is there unpacked": [["a", [5, 7]], ["bias", [3, 4, 3, 3]]],
    "one tensor less": [["a", [5, 7]]],
    "one tensor more": [["a", [5, 7]], ["b", [3, 4, 3, 3]], ["c", [1, 1]]],
    "more rows": [["a", [6, 7]], ["b", [3, 4, 3, 3]]],
    "longer rows": [["a", [5, 8]], ["b", [3, 4, 3, 3]]],
    "shorter rows": [["a", [5, 6]], ["b", [3, 4, 3, 3]]],
    "the other order": [["b", [3, 4, 3, 3]], ["a", [5, 7]]],
    "too many weights": [["a", [5, 7]], ["b", [3, packed_weights.MAX_WEIGHTS]]],
    "too many weights in many tensors": [[str(i), [1, packed_weights.MAX_WEIGHTS // 8]] for i in range(9)],
    "10^30": [["a", [5, 7]], ["b", [10**30, 10**30]]],
}


@pytest.mark.parametrize("listed", LISTS.values(), ids=LISTS)
def test_lists_that_lie(listed: object) -> None:
    packed, _ = packed_weights.pack(sample())
    with pytest.raises(ModelError):
        packed_weights.unpack(packed, listed)
    with pytest.raises(ModelError):
        model_file.parse(model_file.dump(packed, {**DOCUMENT, "packed": listed}))


def _part(name: str, change: Callable[[Any], Any]) -> Callable[[Tensors], Tensors]:
    return lambda packed: packed | {name: change(packed[name])}


PARTS: dict[str, Callable[[Tensors], Tensors]] = {
    **{f"no {name}": lambda packed, name=name: {k: v for k, v in packed.items() if k != name} for name in NAMES},
    **{f"{name} of int8": _part(name, lambda x: x.astype(np.int8)) for name in NAMES},
    **{f"{name} of int64": _part(name, lambda x: x.astype(np.int64)) for name in NAMES},
    "no words": _part("packed.words", lambda x: x[:0]),
    "a byte less": _part("packed.words", lambda x: x[:-1]),
    "a word less": _part("packed.words", lambda x: x[:-2]),
    "a word more": _part("packed.words", lambda x: np.append(x, np.zeros(2, np.uint8))),
    "words of zeros": _part("packed.words", np.zeros_like),
    "an escape more": _part("packed.escapes", lambda x: np.append(x, np.uint8(0))),
    "an escape without end": _part("packed.escapes", lambda x: np.full(9, 255, np.uint8)),
    "a table less": _part("packed.tables", lambda x: x[:-1]),
    "a table more": _part("packed.tables", lambda x: np.append(x, np.uint8(0))),
    "a table beyond the bank": _part(
        "packed.tables", lambda x: np.where(np.arange(len(x)) == 2, gaussian.N_SCALES, x).astype(np.uint8)
    ),
    "table 255": _part("packed.tables", lambda x: np.full_like(x, 255)),
    "tables of two axes": _part("packed.tables", lambda x: x[:, None]),
}


@pytest.mark.parametrize("change", PARTS.values(), ids=PARTS)
def test_parts_that_lie(change: Callable[[Tensors], Tensors]) -> None:
    packed, listed = packed_weights.pack(sample())
    with pytest.raises(ModelError):
        packed_weights.unpack(change(packed), listed)


@pytest.mark.parametrize("number", [128, -129, 300, 2**31 - 1, -(2**31) + 1])
def test_numbers_beyond_int8(number: int) -> None:
    numbers, tables = np.array([3, number, -2, 0]), np.array([30, 30], np.uint8)
    words, escapes = values.encode(numbers, np.repeat(tables, 2).astype(np.int64), values.Bank(gaussian.frequencies()))
    parts = dict(zip(NAMES, (np.frombuffer(words, np.uint8), np.frombuffer(escapes, np.uint8), tables), strict=True))
    with pytest.raises(ModelError, match="int8"):
        packed_weights.unpack(parts, [["a", [2, 2]]])


@settings(max_examples=100)
@given(st.data())
def test_damage_is_found_or_gives_weights(data: st.DataObject) -> None:
    packed, listed = packed_weights.pack(sample())
    name = data.draw(st.sampled_from(NAMES))
    damaged = packed[name].copy()
    if data.draw(st.booleans()) or not len(damaged):
        damaged = damaged[: data.draw(st.integers(0, len(damaged)))]
    else:
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ModelError):
        found = packed_weights.unpack(packed | {name: damaged}, listed)
        assert {k: (v.dtype, v.shape) for k, v in found.items()} == {k: (v.dtype, v.shape) for k, v in sample().items()}


@pytest.mark.parametrize("length", range(0, 60, 2))
def test_truncated_words(length: int) -> None:
    packed, listed = packed_weights.pack(sample())
    with pytest.raises(ModelError):
        packed_weights.unpack(packed | {"packed.words": packed["packed.words"][:length]}, listed)


@pytest.mark.parametrize("shape", [(packed_weights.MAX_WEIGHTS, 1), (packed_weights.MAX_WEIGHTS // 2, 2)], ids=str)
def test_a_claim_of_many_channels_costs_nothing(shape: tuple[int, int]) -> None:
    packed, _ = packed_weights.pack({"a": made("wide", (1, 1))})
    assert _peak(lambda: packed_weights.unpack(packed, [["a", list(shape)]])) < 1 << 20


def test_a_claim_of_many_weights_costs_little_more_than_they_would() -> None:
    packed, _ = packed_weights.pack({"a": made("zeros", (1, 100))})
    claim = [["a", [1, packed_weights.MAX_WEIGHTS]]]
    assert _peak(lambda: packed_weights.unpack(packed, claim)) < 8 * packed_weights.MAX_WEIGHTS + (8 << 20)


def _peak(refused: Callable[[], Any]) -> int:
    """Bytes that were allocated at once until it was refused."""
    packed_weights.unpack(*packed_weights.pack(sample()))  # what is made once and kept
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            refused()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
