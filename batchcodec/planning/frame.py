"""The groups that `pack` would form of a dataset, found without pixels, and which of them to measure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from batchcodec.codec import Codec
from batchcodec.packing.grouping import Group, Grouping
from batchcodec.planning.estimate import Floats, scatter
from batchcodec.planning.order import spread_order
from batchcodec.planning.survey import Looked, Seen
from batchcodec.types import CHANNEL_NAMES, ImageSpec, Item

TRUE_PART = 0.5
"""Part of the pixels that full groups must hold, for the groups that the end of a block cut off to be left out."""


@dataclass(frozen=True)
class Cluster:
    """A group as `pack` would form it.

    Attributes:
        spec: of its images.
        places: of them in the dataset.
        n_pixels: of all of them together.
        file_bytes: of their own files; None where not all are known.
        label: the most frequent one.
    """

    spec: ImageSpec
    places: tuple[int, ...]
    n_pixels: int
    file_bytes: int | None
    label: str


@dataclass(frozen=True)
class Stratum:
    """All groups of one kind of image: gray or colour, 8 or 16 bits.

    Attributes:
        name: the kind.
        clusters: the groups that are known.
        order: in which they are to be measured; every beginning of it is spread over sizes, labels and places.
        n_clusters: groups of the whole dataset; estimated where not all of it was looked at.
        n_items, n_pixels, file_bytes: of all of them together.
        scatter: variance of these totals, relative to their square; 0 where all of the dataset was looked at.
    """

    name: str
    clusters: list[Cluster]
    order: list[int]
    n_clusters: float
    n_items: float
    n_pixels: float
    file_bytes: float | None
    scatter: float

    def known(self, numbers: Sequence[int], *, by_items: bool) -> Floats:
        """Of each of some groups [n, p]: pixels (or images), and bytes of files where they are known of all."""
        rows = []
        for cluster in (self.clusters[number] for number in numbers):
            row = [float(len(cluster.places) if by_items else cluster.n_pixels)]
            rows.append([*row, float(cluster.file_bytes or 0)] if self.file_bytes else row)
        return np.array(rows)

    def known_totals(self, *, by_items: bool) -> Floats:
        """The same of all groups together: [p]."""
        first = self.n_items if by_items else self.n_pixels
        return np.array([first, self.file_bytes] if self.file_bytes else [first])


def divided(stratum: Stratum, apart: Sequence[int]) -> tuple[Stratum, Stratum]:
    """Some of the known groups, of which all is known, and the rest of the stratum. Groups keep their numbers in both."""
    clusters = [stratum.clusters[number] for number in apart]
    n_pixels = float(sum(cluster.n_pixels for cluster in clusters))
    n_items = float(sum(len(cluster.places) for cluster in clusters))
    file_bytes = None if stratum.file_bytes is None else float(sum(cluster.file_bytes or 0 for cluster in clusters))
    some = replace(
        stratum,
        n_clusters=float(len(clusters)),
        n_items=n_items,
        n_pixels=n_pixels,
        file_bytes=file_bytes,
        scatter=0.0,
    )
    rest = replace(
        stratum,
        n_clusters=stratum.n_clusters - len(clusters),
        n_items=stratum.n_items - n_items,
        n_pixels=stratum.n_pixels - n_pixels,
        file_bytes=None if stratum.file_bytes is None or file_bytes is None else stratum.file_bytes - file_bytes,
        scatter=stratum.scatter * (stratum.n_pixels / (stratum.n_pixels - n_pixels)) ** 2,
    )
    return some, rest


def strata(looked: Looked, group_items: int | None, rng: np.random.Generator) -> list[Stratum]:
    """The groups of a dataset by kind, with an order to measure them in.

    Args:
        looked: what was found out about the items.
        group_items: images of a group; None goes by pixels.
        rng: shifts the order, so that each group is as likely as any other to be measured.
    """
    formed = [_groups(block, group_items) for block in looked.blocks]
    whole = looked.n_blocks == 1 or len(looked.blocks) >= looked.n_blocks
    good = [[seen for seen in block if seen.spec is not None] for block in looked.blocks]
    kinds = sorted({_kind(seen.spec) for block in good for seen in block if seen.spec})
    found = []
    for kind in kinds:
        seen = [[s for s in block if s.spec and _kind(s.spec) == kind] for block in good]
        clusters = [(cluster, full) for block in formed for cluster, full in block if _kind(cluster.spec) == kind]
        kept = [cluster for cluster, full in clusters if full or whole]
        n_pixels = sum(cluster.n_pixels for cluster, _ in clusters)
        if sum(cluster.n_pixels for cluster in kept) < TRUE_PART * n_pixels:
            kept = [cluster for cluster, _ in clusters]
        scale = looked.survey.n_items / looked.survey.n_looked
        held = sum(cluster.n_pixels for cluster in kept)
        lengths = [s.n_bytes for block in seen for s in block]
        per_block = [float(sum(s.spec.height * s.spec.width for s in block if s.spec)) for block in seen]
        ordered = sorted(kept, key=lambda c: (c.label, c.n_pixels / len(c.places), c.places[0]))
        found.append(
            Stratum(
                name=kind,
                clusters=ordered,
                order=spread_order(len(ordered), float(rng.random())),
                n_clusters=len(ordered) if whole else len(ordered) * scale * n_pixels / held,
                n_items=scale * len(lengths),
                n_pixels=scale * n_pixels,
                file_bytes=None if None in lengths else scale * sum(n for n in lengths if n is not None),
                scatter=scatter(per_block, looked.n_blocks),
            )
        )
    return found


def _kind(spec: ImageSpec) -> str:
    return f"{CHANNEL_NAMES.get(spec.channels, spec.channels)} {spec.dtype}"


def _groups(block: Sequence[Seen], group_items: int | None) -> list[tuple[Cluster, bool]]:
    """The groups of consecutive items, and of each whether it was full."""
    grouping = Grouping(group_items)
    by_place = {seen.place: seen for seen in block}
    blanks: dict[ImageSpec, Item] = {}
    groups: list[tuple[Group, bool]] = []
    for seen in block:
        if seen.spec is None:
            continue
        blank = blanks.get(seen.spec)
        if blank is None:  # no pixels: one value that is there for all
            blank = blanks[seen.spec] = Item("", np.broadcast_to(np.zeros((), seen.spec.dtype), seen.spec.shape))
        kind = grouping.kind_of(blank.pixels, lambda _: cast("Codec", None))
        groups += [(group, True) for group in grouping.add(kind, blank, seen.place)]
    groups += [(group, False) for group in grouping.rest()]
    return [(_cluster(group, by_place), full) for group, full in groups]


def _cluster(group: Group, by_place: dict[int, Seen]) -> Cluster:
    seen = [by_place[place] for place in group.orders]
    lengths = [s.n_bytes for s in seen]
    return Cluster(
        spec=group.spec,
        places=tuple(group.orders),
        n_pixels=len(seen) * group.spec.height * group.spec.width,
        file_bytes=None if None in lengths else sum(n for n in lengths if n is not None),
        label=Counter(s.label or "" for s in seen).most_common(1)[0][0],
    )


def interleaved(found: Sequence[Stratum], first: int = 3) -> list[tuple[int, int]]:
    """All known groups as (stratum, group), in the order in which to measure them.

    The first of each kind come before all others, then the second, up to `first` of them; then large kinds come more often.
    """
    taken = [0] * len(found)
    result: list[tuple[int, int]] = []

    def due(h: int) -> tuple[int, float]:
        return min(taken[h], first), (taken[h] + 1) / max(found[h].n_pixels, 1.0)

    while open_ := [h for h in range(len(found)) if taken[h] < len(found[h].order)]:
        h = min(open_, key=due)
        result.append((h, found[h].order[taken[h]]))
        taken[h] += 1
    return result
