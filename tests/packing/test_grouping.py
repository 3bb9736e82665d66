"""Groups hold items of one kind in their order, memory is bounded, and what is closed when depends on the items alone."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from batchcodec.codec import Codec
from batchcodec.packing import grouping
from batchcodec.packing.grouping import Group, Grouping
from batchcodec.types import ImageSpec, Item

CODEC = cast("Codec", object())


class Plain:
    """The same rules, written down without regard to speed."""

    def __init__(self, group_items: int | None, buffer_bytes: int) -> None:
        self.group_items, self.buffer_bytes = group_items, buffer_bytes
        self.open: dict[ImageSpec, list[int]] = {}

    def add(self, spec: ImageSpec, order: int) -> list[list[int]]:
        closed = []
        capacity = self.group_items or max(1, min(4096, (1 << 20) // (spec.height * spec.width)))
        if self.group_items:
            self.buffer_bytes = max(self.buffer_bytes, capacity * spec.n_bytes)
        self.open.setdefault(spec, []).append(order)
        if len(self.open[spec]) == capacity:
            closed.append(self.open.pop(spec))
        while sum(spec.n_bytes * len(orders) for spec, orders in self.open.items()) > self.buffer_bytes:
            largest = max(self.open, key=lambda spec: spec.n_bytes * len(self.open[spec]))
            closed.append(self.open.pop(largest))
        return closed


def _grouped(shapes: list[tuple[int, int, int]], found: Grouping, dtypes: list[str]) -> list[Group]:
    groups = []
    for order, (shape, dtype) in enumerate(zip(shapes, dtypes, strict=True)):
        item = Item(f"{order:06}", np.zeros(shape, dtype))
        groups += found.add(found.kind_of(item.pixels, lambda spec: CODEC), item, order)
        assert found._buffered == sum(kind.group.n_bytes for kind in found._open.values() if kind.group)
    return groups


SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))


@given(
    st.lists(st.tuples(SHAPES, st.sampled_from(["uint8", "uint16"])), max_size=60),
    st.one_of(st.none(), st.integers(1, 5)),
    st.integers(0, 300),
    st.sampled_from([0, 2, 32]),
    st.sampled_from([1, 4, 4096]),
)
def test_like_the_rules(kinds: list[Any], group_items: int | None, buffer_bytes: int, few: int, many: int) -> None:
    with_patches = {"FEW_GROUPS": few, "MANY_KINDS": many}
    saved = {name: getattr(grouping, name) for name in with_patches}
    for name, value in with_patches.items():
        setattr(grouping, name, value)
    try:
        plain, found = Plain(group_items, buffer_bytes), Grouping(group_items, buffer_bytes)
        shapes, dtypes = [shape for shape, _ in kinds], [dtype for _, dtype in kinds]
        groups = _grouped(shapes, found, dtypes)
        expected = [
            orders for order, (shape, dtype) in enumerate(kinds) for orders in plain.add(ImageSpec(*shape, dtype), order)
        ]
        assert [group.orders for group in groups] == expected
        rest = list(found.rest())
        assert [group.orders for group in rest] == list(plain.open.values())
        for group in groups + rest:
            assert [item.name for item in group.items] == [f"{order:06}" for order in group.orders]
            assert {ImageSpec.of(item.pixels) for item in group.items} == {group.spec}
        assert sorted(order for group in groups + rest for order in group.orders) == list(range(len(kinds)))
    finally:
        for name, value in saved.items():
            setattr(grouping, name, value)


def test_sizes_that_were_outgrown_do_not_pile_up() -> None:
    """First every image has its own size, then all have one."""
    found = Grouping(None, 40 * 64)
    shapes = [(1 + i // 40, 1 + i % 40, 1) for i in range(600)]
    _grouped(shapes, found, ["uint8"] * 600)
    assert found._largest is not None
    _grouped([(1, 1, 1)] * 3000, found, ["uint8"] * 3000)
    assert found._largest is None or len(found._largest) < 1000


def test_default_sizes_of_groups() -> None:
    for shape, n in [((28, 28, 1), 1337), ((16, 16, 3), 4096), ((1024, 1024, 1), 1), ((1, 1, 1), 4096)]:
        found = Grouping()
        image = np.zeros(shape, np.uint8)
        groups: list[Group] = []
        order = 0
        while not groups:
            groups = found.add(found.kind_of(image, lambda spec: CODEC), Item(str(order), image), order)
            order += 1
        assert order == n
