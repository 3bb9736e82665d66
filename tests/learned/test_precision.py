"""Bits of channels: what options may say, and that what is allotted is within its budget and the best there is."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.entropy.codes import ENTROPY_CODERS
from batchcodec.entropy.tables import code_length_bits, quantise_counts
from batchcodec.errors import OptionError
from batchcodec.learned import precision
from batchcodec.learned.cells import RULES, Cells, fixed, rule_of
from batchcodec.learned.quantiser import Quantiser


@st.composite
def curves(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Falling errors and rising costs, [C, 9] each."""
    n = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    added = np.flip(np.cumsum(rng.random((n, 9)) ** draw(st.sampled_from([1, 9])), axis=1), 1)
    added = added - added[:, -1:]
    return added, np.cumsum(np.concatenate([np.zeros((n, 1)), rng.random((n, 8)) + 0.01], axis=1), axis=1)


@given(curves(), st.floats(0, 8) | st.integers(0, 8).map(float))
@settings(max_examples=150)
def test_allotted_keeps_to_the_budget_and_is_not_worse_than_alike(case: tuple[np.ndarray, np.ndarray], average: float) -> None:
    added, price = case
    every = np.arange(len(added))
    bits = precision.allotted(added, price, average)
    budget = sum(float(np.interp(average, np.arange(9), row)) for row in price)
    assert price[every, bits].sum() <= budget + 1e-6
    assert added[every, bits].sum() <= added[:, int(average)].sum() + 1e-9


@given(curves(), st.floats(0, 8))
@settings(max_examples=60)
def test_allotted_is_the_best_there_is(case: tuple[np.ndarray, np.ndarray], average: float) -> None:
    added, price = (curve[:3] for curve in case)
    every = np.arange(len(added))
    bits = precision.allotted(added, price, average)
    budget = sum(float(np.interp(average, np.arange(9), row)) for row in price)
    less = budget - 3 * 2.0 ** np.ceil(np.log2(max(budget, 1) / precision.BUDGETS))  # costs are rounded up
    others = (list(other) for other in itertools.product(range(9), repeat=len(added)))
    least = min((added[every, other].sum() for other in others if price[every, other].sum() <= less), default=np.inf)
    assert added[every, bits].sum() <= least + 1e-9


@given(curves(), st.integers(0, 8))
@settings(max_examples=30)
def test_whole_bits_are_all_used(case: tuple[np.ndarray, np.ndarray], average: int) -> None:
    n = len(case[0])
    bits = precision.allotted(np.tile(4.0 ** -np.arange(9), (n, 1)), np.tile(np.arange(9.0), (n, 1)), average)
    assert bits.sum() == n * average


def test_many_channels() -> None:
    price = np.tile(np.arange(9.0), (512, 1))
    bits = precision.allotted(np.arange(512)[:, None] * 4.0 ** -np.arange(9), price, 4.5)
    assert bits.sum() == 512 * 4.5
    assert bits[0] == 0
    assert (np.diff(bits.astype(int)) >= 0).all()


def test_channels_that_matter_get_more() -> None:
    noise = 4.0 ** -np.arange(9) - 4.0**-8
    added = np.array([64.0, 1.0, 0.0])[:, None] * noise
    assert precision.allotted(added, np.tile(np.arange(9.0), (3, 1)), 3).tolist() == [6, 3, 0]


@pytest.mark.parametrize("entropy", ENTROPY_CODERS)
def test_costs_are_what_the_tables_say(entropy: str) -> None:
    tables = quantise_counts(np.floor(1e6 * np.exp(-np.abs(np.arange(256) - 90) / [[5.0], [30.0]])).astype(np.int64))
    found = precision.costs(tables, entropy)
    assert (np.diff(found, axis=1) >= 0).all()
    if entropy == "none":
        assert found.tolist() == [list(range(9))] * 2
        return
    cells = Cells.of(tables, np.array([3, 3]), RULES["equal"])
    for row, cost in zip(cells.freqs, found[:, 3], strict=True):
        own = row[row > 0]
        symbols = np.repeat(np.arange(len(own)), own)
        ideal = code_length_bits(symbols, np.zeros_like(symbols), own[None]) / len(symbols)
        assert ideal - 1e-9 <= cost <= ideal + (1 if entropy == "huffman" else 1e-9)


def test_errors_are_measured_through_the_decoder() -> None:
    """A linear decoder, where they are known: the error of the cells times the square of the gain."""
    rng = np.random.default_rng(0)
    tables = quantise_counts(np.stack([np.bincount(rng.integers(60, 200, 9999), minlength=256), np.full(256, 9)]))
    gain = np.float32([3, 0.5])
    quantiser = Quantiser(np.float32([1, 2]), np.float32([0.1, 0.2]))
    levels = precision.drawn(tables)
    assert levels.shape == (16, 2, 8, 8)
    for rule in RULES.values():
        found = precision.errors(lambda y: y * gain[:, None, None], quantiser, tables, levels, rule)
        assert found.shape == (2, 9)
        assert not found[:, 8].any()
        for bits in range(8):
            cells = Cells.of(tables, np.full(2, bits), rule)
            error = (levels - cells.values_of(cells.numbers_of(levels))) * (gain * quantiser.step)[:, None, None]
            np.testing.assert_allclose(found[:, bits], (error**2).mean((0, 2, 3)) / 2, rtol=1e-3, atol=1e-6)


def test_drawn_latents_follow_the_tables() -> None:
    tables = quantise_counts(np.floor(1e6 * np.exp(-np.abs(np.arange(256) - [[20.0], [200.0]]) / 4)).astype(np.int64))
    levels = precision.drawn(tables)
    assert np.abs(levels.mean((0, 2, 3)) - [20, 200]).max() < 1
    np.testing.assert_array_equal(levels, precision.drawn(tables))
    assert len(np.unique(precision.drawn(np.full((1, 256), 256)))) > 150  # all alike: all are drawn


def test_levels_that_were_never_seen_are_not_drawn() -> None:
    counts = np.zeros((1, 256), np.int64)
    counts[0, [7, 200]] = 1
    assert np.unique(precision.drawn(quantise_counts(counts))).tolist() == [7, 200]


@pytest.mark.parametrize(("bits", "average"), [(8, None), (1, None), ("auto:4.5", 4.5), ("auto:0", 0), ("auto:8", 8)])
def test_average_of(bits: int | str, average: float | None) -> None:
    assert precision.average_of(bits) == average


@pytest.mark.parametrize(
    "bits", [0, 9, -1, 4.5, True, "4", "auto", "auto:", "auto:x", "auto:9", "auto:-1", "auto:nan", "auto:inf", None, [4]]
)
def test_bits_that_are_none(bits: object) -> None:
    with pytest.raises(OptionError, match="option bits: got"):
        precision.average_of(bits)


@pytest.mark.parametrize("content", ["[0, 8, 3]", '{"bits": [0, 8, 3]}'])
def test_a_map_from_a_file(content: str, tmp_path: Path) -> None:
    (tmp_path / "bits.json").write_text(content)
    for given_path in (tmp_path / "bits.json", str(tmp_path / "bits.json")):
        assert precision.from_map(given_path, 3).tolist() == [0, 8, 3]
    assert precision.from_map(json.loads("[0, 8, 3]"), 3).tolist() == [0, 8, 3]


@pytest.mark.parametrize(
    "content",
    [
        "[1, 2]",
        "[1, 2, 3, 4]",
        "[1, 2, 9]",
        "[1, 2, -1]",
        "[1, 2, true]",
        "[1, 2, 3.0]",
        "[1, 2, null]",
        '"123"',
        "{}",
        '{"bits": 3}',
        '{"bits": [1, 2, 3], "more": 1}',
        "5",
        "[",
        "[" * 50_000,
    ],
    ids=lambda text: text[:20],
)
def test_maps_that_are_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "bits.json").write_text(content)
    with pytest.raises(OptionError, match="option bits-map: got"):
        precision.from_map(tmp_path / "bits.json", 3)


def test_a_map_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "long.json").write_text("[1, 2, 3]" + " " * precision.MAX_MAP_BYTES)
    (tmp_path / "latin.json").write_bytes(b'["\xe9"]')
    for path in (tmp_path / "missing.json", tmp_path, tmp_path / "long.json", tmp_path / "latin.json", 5):
        with pytest.raises(OptionError, match="option bits-map: got"):
            precision.from_map(path, 3)


def test_fixed_is_for_what_costs_its_bits() -> None:
    assert [rule_of(entropy) is fixed for entropy in ENTROPY_CODERS] == [True, False, False, False]
