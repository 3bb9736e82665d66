"""How an archive is divided: which images of which groups go into which part. Nothing is written here.

Groups are kept whole where that is possible, since one cannot be cut without decoding it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import numpy.typing as npt

from batchcodec.archive import wire
from batchcodec.archive.writer import row_bytes
from batchcodec.copying.stored import StoredArchive
from batchcodec.errors import OptionError

UNLABELLED = "%unlabelled"
"""Stands for items without a label; no label becomes it, since `%` begins an escape there."""


@dataclass(frozen=True)
class Share:
    """What is taken of a group: the images at these places in it, in rising order, or all of them."""

    group: int
    places: tuple[int, ...] | None = None


def shares_of(archive: StoredArchive, wanted: npt.NDArray[np.bool_]) -> list[Share]:
    """What of each group is wanted; `wanted` is bool [items] in the order of groups."""
    shares, start = [], 0
    for group in range(archive.n_groups):
        of_group = wanted[start : start + archive.group_items(group)]
        start += len(of_group)
        if of_group.all():
            shares.append(Share(group))
        elif of_group.any():
            shares.append(Share(group, tuple(np.flatnonzero(of_group).tolist())))
    return shares


def shares_by_label(archive: StoredArchive) -> dict[str | None, list[Share]]:
    """What of each group has which label, in the order in which labels are met."""
    shares: dict[str | None, list[Share]] = {}
    for group in range(archive.n_groups):
        places: dict[str | None, list[int]] = {}
        for place, row in enumerate(archive.group_rows(group)):
            places.setdefault(row.label, []).append(place)
        for label, found in places.items():
            shares.setdefault(label, []).append(Share(group, tuple(found) if len(places) > 1 else None))
    return shares


def label_stem(label: str | None) -> str:
    """A label as a file name without suffix: letters, digits and a few signs as they are, the rest in percent encoding."""
    if label is None:
        return UNLABELLED
    text = "".join(c if c.isalnum() or c in " _-.,+=@" else "".join(f"%{b:02X}" for b in c.encode()) for c in label)
    return re.sub(r"^[. ]", lambda match: f"%{ord(match[0]):02X}", text) or "%"


def even_runs(archive: StoredArchive, n_parts: int) -> list[range]:
    """Groups in so many runs, cut where the numbers of items come nearest to equal.

    Raises:
        OptionError: there are fewer groups.
    """
    n_groups = archive.n_groups
    if n_parts > n_groups:
        raise OptionError("parts", n_parts, f"at most {n_groups}: {archive.path} has so many groups, and they are not cut")
    borders = np.array([0, *accumulate(map(archive.group_items, range(n_groups)))])
    cuts = [0]
    for part in range(1, n_parts):
        nearest = int(np.abs(borders - part * len(archive) / n_parts).argmin())
        cuts.append(min(max(nearest, cuts[-1] + 1), n_groups - n_parts + part))
    return [range(start, stop) for start, stop in zip(cuts, [*cuts[1:], n_groups], strict=True)]


def item_runs(archive: StoredArchive, n_items: int) -> list[range]:
    """Groups in runs of at most so many items, or of one group where that has more."""
    runs, start, total = [], 0, 0
    for group in range(archive.n_groups):
        more = archive.group_items(group)
        if group > start and total + more > n_items:
            runs.append(range(start, group))
            start, total = group, 0
        total += more
    return [*runs, range(start, archive.n_groups)]


def byte_runs(archive: StoredArchive, n_bytes: int) -> list[range]:
    """Groups in runs whose archives have at most so many bytes.

    How small a directory gets is known when it is compressed. Here it counts as if that did nothing, so parts are smaller than
    they might be, by the length of names and attributes.

    Raises:
        OptionError: a group is too large.
    """
    block = wire.BLOCK.size + 21  # with its row of the index
    fixed = wire.HEADER.size + wire.TRAILER.size + 2 * block + archive.meta_bytes + 1024
    codecs: dict[int, int] = {}
    runs, start, total, used = [], 0, fixed, set[int]()
    for group in range(archive.n_groups):
        reference = archive.group_head(group).codec_ref
        if reference not in codecs:
            codecs[reference] = sum(block + length for length in archive.codec_bytes(reference))
        own = 2 * block + archive.group_bytes(group) + _most_bytes(archive, group)
        needed = fixed + codecs[reference] + own
        if needed > n_bytes:
            raise OptionError("max-bytes", n_bytes, f"at least {needed}: group {group} and its codec may take that")
        more = own + (0 if reference in used else codecs[reference])
        if total + more > n_bytes:
            runs.append(range(start, group))
            start, total, used = group, fixed, set()
            more = own + codecs[reference]
        total += more
        used.add(reference)
    return [*runs, range(start, archive.n_groups)]


def _most_bytes(archive: StoredArchive, group: int) -> int:
    """No DIRECTORY block of the rows of a group alone has more bytes: varints, numbers of rows in attributes, zstd's frame."""
    table = sum(24 + row_bytes(row) + 16 * len(row.attributes) for row in archive.group_rows(group))
    return table + table // 128 + 64


def count_cut(shares: Sequence[Share]) -> tuple[int, int]:
    """Of the groups that have to be cut: their number, and the number of images that are taken of them."""
    cut = [share for share in shares if share.places is not None]
    return len({share.group for share in cut}), sum(len(share.places or ()) for share in cut)
