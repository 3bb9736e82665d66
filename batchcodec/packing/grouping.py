"""Items to groups: of one shape and type, in the order in which they come. Memory is bounded whatever comes.

A group is full at about `GROUP_PIXELS` pixels, or at the number of items that was asked for. Groups that are not full hold at
most `BUFFER_BYTES` together; beyond that the largest is closed early. What is closed when depends on the items and their order
alone, so the bytes of an archive do.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from batchcodec.archive.wire import MAX_GROUP_BYTES
from batchcodec.codec import Codec
from batchcodec.types import ImageSpec, Item, Pixels

GROUP_PIXELS = 1 << 20
MAX_DEFAULT_ITEMS = 4096
BUFFER_BYTES = 32 << 20
MANY_KINDS = 4096
FEW_GROUPS = 32
"""Open groups among which the largest is found by looking at all."""


@dataclass(slots=True)
class Group:
    """Items of one spec that are coded together.

    Attributes:
        order: the rank of the group among all that were opened.
        orders: places of the items in the archive.
    """

    spec: ImageSpec
    codec: Codec
    order: int
    orders: list[int] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)

    @property
    def n_bytes(self) -> int:
        """Of its pixels."""
        return self.spec.n_bytes * len(self.items)


@dataclass(slots=True, eq=False)
class Kind:
    """All items of one shape and type.

    Attributes:
        n_bytes: of one image.
        capacity: items of a full group.
        group: the one that is filled now, if any.
    """

    spec: ImageSpec
    codec: Codec
    n_bytes: int
    capacity: int
    group: Group | None = None


class Grouping:
    """Gathers items into groups.

    Args:
        group_items: of a full group; None goes by pixels.
        buffer_bytes: of all groups that are not full; one group that was asked for always fits.
    """

    def __init__(self, group_items: int | None = None, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._group_items, self._buffer_bytes = group_items, buffer_bytes
        self._kinds: dict[tuple[Any, Any], Kind] = {}
        self._open: dict[int, Kind] = {}  # by the rank of the kind's group, so in the order in which these were opened
        self._largest: list[tuple[int, int]] | None = None  # heap of (-bytes, rank), old sizes among them; None: not in use
        self._n_opened = self._buffered = 0

    def kind_of(self, pixels: Pixels, choose: Callable[[ImageSpec], Codec]) -> Kind:
        """The kind of an image; `choose` gives the codec of one that was not seen before, or raises."""
        key = (pixels.shape, pixels.dtype)
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= MANY_KINDS:  # each image may have a size of its own
                self._kinds = {key: kind for key, kind in self._kinds.items() if kind.group is not None}
            spec = ImageSpec.of(pixels)
            self._kinds[key] = kind = Kind(spec, choose(spec), spec.n_bytes, self._capacity(spec))
        return kind

    def add(self, kind: Kind, item: Item, order: int) -> list[Group]:
        """Put an item into the group of its kind; the groups that are closed by that."""
        group = kind.group
        if group is None:
            group = kind.group = Group(kind.spec, kind.codec, self._n_opened)
            self._open[self._n_opened] = kind
            self._n_opened += 1
        group.orders.append(order)
        group.items.append(item)
        self._buffered += kind.n_bytes
        closed = []
        if len(group.items) == kind.capacity:
            closed.append(self._close(kind, group))
        elif self._largest is not None:
            heapq.heappush(self._largest, (-group.n_bytes, group.order))
            if len(self._largest) > FEW_GROUPS + 4 * len(self._open):
                self._largest = None  # mostly sizes that groups have outgrown
        while self._buffered > self._buffer_bytes:
            closed.append(self._close_largest())
        return closed

    def rest(self) -> Iterator[Group]:
        """Close what is not full."""
        for kind in list(self._open.values()):
            if kind.group is not None:
                yield self._close(kind, kind.group)

    def _capacity(self, spec: ImageSpec) -> int:
        if self._group_items:
            capacity = min(self._group_items, max(1, MAX_GROUP_BYTES // spec.n_bytes))
            self._buffer_bytes = max(self._buffer_bytes, capacity * spec.n_bytes)
            return capacity
        return max(1, min(MAX_DEFAULT_ITEMS, GROUP_PIXELS // (spec.height * spec.width)))

    def _close(self, kind: Kind, group: Group) -> Group:
        del self._open[group.order]
        kind.group = None
        self._buffered -= group.n_bytes
        return group

    def _close_largest(self) -> Group:
        """Close the group of most bytes; of equal ones that which was opened first."""
        sizes = ((-kind.n_bytes * len(kind.group.items), order) for order, kind in self._open.items() if kind.group is not None)
        if len(self._open) <= FEW_GROUPS:
            self._largest = None
            rank = min(sizes)[1]
        else:
            # Where every image has its own size there are thousands, and each new image closes one.
            if self._largest is None:
                self._largest = list(sizes)
                heapq.heapify(self._largest)
            rank = self._from_heap(self._largest)
        kind = self._open[rank]
        group = kind.group
        if group is None:
            raise RuntimeError(f"group {rank} is closed")
        return self._close(kind, group)

    def _from_heap(self, largest: list[tuple[int, int]]) -> int:
        """The rank of the largest group; sizes that groups have outgrown, and closed groups, are passed over."""
        while True:
            size, rank = heapq.heappop(largest)
            kind = self._open.get(rank)
            if kind is not None and kind.group is not None and kind.group.n_bytes == -size:
                return rank
