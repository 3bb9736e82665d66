"""The plan of a stream: every item once over all ranks and workers, equal shares, one order for a seed and an epoch."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcodec.errors import OptionError
from batchcodec.shuffling import Piece, Plan

SIZES = st.lists(st.integers(1, 9), max_size=12)


def items_of(pieces: list[Piece]) -> list[tuple[int, int]]:
    return [(piece.group, place) for piece in pieces for place in range(piece.start, piece.stop)]


@given(SIZES, st.booleans(), st.integers(1, 4), st.integers(1, 4), st.none() | st.integers(1, 7), st.integers(0, 2))
@settings(max_examples=200)
def test_every_item_once(sizes: list[int], shuffle: bool, world: int, n_workers: int, batch: int | None, epoch: int) -> None:
    plan = Plan(np.array(sizes, np.int64), shuffle, batch=batch)
    found = []
    for rank in range(world):
        own = [plan.pieces(epoch, rank, world, worker, n_workers) for worker in range(n_workers)]
        items = [items_of(pieces) for pieces in own]
        n = sum(map(len, items))
        assert abs(n - sum(sizes) / world) < 1
        if batch:
            # The batches of all workers are as many as are announced: only the last one of the rank is smaller.
            assert sum(-(-len(part) // batch) for part in items) == plan.length(rank, world) == -(-n // batch)
        else:
            assert n == plan.length(rank, world)
            for part in own:  # within a rank no group is cut
                whole = [piece for piece in part if piece.n_items == sizes[piece.group]]
                assert len(part) - len(whole) <= 2
            groups = Counter(piece.group for part in own for piece in part)
            assert set(groups.values()) <= {1}
        found += [item for part in items for item in part]
    assert sorted(found) == [(group, place) for group, size in enumerate(sizes) for place in range(size)]


@given(SIZES, st.integers(1, 5), st.integers(1, 7), st.booleans())
@settings(max_examples=100)
def test_equal_ranks_and_whole_batches(sizes: list[int], world: int, batch: int, drop_last: bool) -> None:
    plan = Plan(np.array(sizes, np.int64), batch=batch, drop_last=drop_last, equal=True)
    lengths = [sum(piece.n_items for piece in plan.pieces(1, rank, world)) for rank in range(world)]
    assert len(set(lengths)) == 1
    assert len({plan.length(rank, world) for rank in range(world)}) == 1
    assert 0 <= sum(sizes) - sum(lengths) < world * (batch if drop_last else 1) or not drop_last
    if drop_last:
        assert lengths[0] == plan.length(0, world) * batch


def test_the_order_is_that_of_seed_and_epoch() -> None:
    sizes = np.full(40, 5)
    orders = {
        (seed, epoch): [piece.group for piece in Plan(sizes, seed=seed).pieces(epoch)] for seed in (0, 1) for epoch in (0, 1, 2)
    }
    assert all(sorted(order) == list(range(40)) for order in orders.values())
    assert len(set(map(tuple, orders.values()))) == 6
    assert orders[0, 1] == [piece.group for piece in Plan(sizes, seed=0, window=9).pieces(1)]
    assert [piece.group for piece in Plan(sizes, shuffle=False).pieces(1)] == list(range(40))


def test_windows_mix_the_items_of_their_groups() -> None:
    plan = Plan(np.full(10, 6), window=4)
    windows = list(plan.windows(plan.pieces(0), 0))
    assert [len(part) for part, _ in windows] == [4, 4, 2]
    for part, order in windows:
        assert sorted(order.tolist()) == list(range(6 * len(part)))
        groups = [int(place) // 6 for place in order]
        assert sum(a != b for a, b in pairwise(groups)) > len(groups) // 2
    again = list(plan.windows(plan.pieces(0), 0))
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(windows, again, strict=True))
    other = list(plan.windows(plan.pieces(1), 1))
    assert not np.array_equal(windows[0][1], other[0][1])
    plain = Plan(np.full(10, 6), shuffle=False)
    assert all(order.tolist() == list(range(len(order))) for _, order in plain.windows(plain.pieces(0), 0))


@pytest.mark.parametrize("options", [{"window": 0}, {"seed": -1}, {"batch": 0}])
def test_options_that_make_no_sense(options: dict[str, int]) -> None:
    with pytest.raises(OptionError):
        Plan(np.ones(3, np.int64), **options)  # type: ignore[arg-type]
