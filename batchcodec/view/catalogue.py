"""Which items of an archive have a name or label that is looked for: a search of a million names takes a fraction of a second.

Names are kept as they were read, a directory block in one run of text, in lower case, with a NUL before each name and at the
end. A search is one regular expression over these runs: nothing is made for names that do not match. What was found last is
kept.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from batchcodec.archive.reader import Archive

Indices = npt.NDArray[np.uint32]
MAX_QUERY = 1024
"""Characters of a name that is looked for."""
_KEPT = 8
"""Results that are kept, of at most 4 bytes for each item."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for. All that is given must hold.

    Attributes:
        name: a part of the name; with `*` or `?` a shell pattern for the whole name, in which `*` also stands for `/`. Upper
            and lower case are the same.
        label: the label, exactly; None for any.
        unlabelled: only items without a label.
    """

    name: str = ""
    label: str | None = None
    unlabelled: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether every item has it."""
        return not self.name and self.label is None and not self.unlabelled


class Catalogue:
    """The names and labels of an open archive. Methods may be called from several threads.

    Args:
        archive: it stays open while this is used.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._lock = threading.Lock()
        self._found: OrderedDict[Query, Indices] = OrderedDict()

    def load(self) -> None:
        """Read what the first search would have to read."""
        with self._lock:
            _ = self._runs, self._order, self._archive.targets

    @cached_property
    def _runs(self) -> list[str]:
        return [_run(names) for names in self._archive.name_blocks()]

    @cached_property
    def _order(self) -> npt.NDArray[np.int64] | None:
        """Place in the dataset of each name, None where names are in that order."""
        return None if self._archive.in_order else self._archive.indices

    def labels(self) -> list[tuple[str, int]]:
        """The labels and how many items have each, in the order of labels."""
        classes, targets = self._archive.classes, self._archive.targets
        counts = np.bincount(targets[targets >= 0], minlength=len(classes))
        return list(zip(classes, counts.tolist(), strict=True))

    def n_unlabelled(self) -> int:
        """Items without a label."""
        return int((self._archive.targets < 0).sum())

    def find(self, query: Query) -> Indices | None:
        """Places in the dataset of the items that are looked for, rising: uint32 [n]; None for all items."""
        if query.is_empty:
            return None
        with self._lock:
            if query in self._found:
                self._found.move_to_end(query)
                return self._found[query]
            found = self._searched(query)
            self._found[query] = found
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)
            return found

    def _searched(self, query: Query) -> Indices:
        wanted = None
        if query.label is not None or query.unlabelled:
            number = -1
            if query.label is not None:
                if query.label not in self._archive.classes or query.unlabelled:
                    return np.zeros(0, np.uint32)
                number = self._archive.classes.index(query.label)
            wanted = np.flatnonzero(self._archive.targets == number)
        if not query.name:
            return (np.zeros(0) if wanted is None else wanted).astype(np.uint32)
        named = self._named(query.name)
        return (named if wanted is None else np.intersect1d(named, wanted, assume_unique=True)).astype(np.uint32)

    def _named(self, name: str) -> npt.NDArray[np.int64]:
        pattern = _pattern(name)
        parts, first = [np.zeros(0, np.int64)], 0
        for run in self._runs:
            ends = _ends(run)
            hits = np.array([match.end() for match in pattern.finditer(run)], np.int64)
            parts.append(first + np.searchsorted(ends, hits))
            first += len(ends)
        positions = np.concatenate(parts)
        return positions if self._order is None else np.sort(self._order[positions])


def _run(names: list[str]) -> str:
    """Names as one text: NUL, name, NUL, name, NUL."""
    joined = "\0".join(names).lower()
    if joined.count("\0") != len(names) - 1:  # no name that `pack` takes has a NUL, but archives come from strangers
        joined = "\0".join(name.replace("\0", "\ufffd") for name in names).lower()
    return f"\0{joined}\0"


def _ends(run: str) -> npt.NDArray[np.int64]:
    """Where each name of a run ends: the places of all NULs but the first."""
    text = run.encode("utf-32-le") if not run.isascii() else run.encode()
    return np.flatnonzero(np.frombuffer(text, np.uint8 if run.isascii() else "<u4") == 0)[1:]


def _pattern(name: str) -> re.Pattern[str]:
    """Matches once in each name that is looked for, and ends where the name ends."""
    name = name.lower().replace("\0", "\ufffd")
    if "*" not in name and "?" not in name:
        return re.compile(re.escape(name) + "[^\0]*")
    return re.compile(f"\0{_glob(name)}(?=\0)")


def _glob(pattern: str) -> str:
    """A shell pattern as a regular expression that does not go beyond a name.

    A group that is atomic never tries again what a `*` before it took: `*a*a*a*a` costs no more than it must, as in `fnmatch`.
    """
    first, *others = _between_stars(pattern)
    if not others:
        return first
    *middle, last = others
    return first + "".join(f"(?>[^\0]*?{part})" for part in middle if part) + f"[^\0]*{last}"


def _between_stars(pattern: str) -> list[str]:
    """The parts of a shell pattern between `*`: `?` is one character, `[ab]`, `[a-c]`, `[*]` and `[!ab]` one of some."""
    parts, i = [""], 0
    while i < len(pattern):
        close = pattern.find("]", i + 2 + pattern.startswith("[!", i)) if pattern[i] == "[" else -1
        if pattern[i] == "*":
            parts.append("")
        elif pattern[i] == "?":
            parts[-1] += "[^\0]"
        elif close > 0:
            parts[-1] += _one_of(pattern[i + 1 : close])
            i = close
        else:
            parts[-1] += re.escape(pattern[i])
        i += 1
    return parts


def _one_of(inside: str) -> str:
    negated, inside = inside.startswith("!"), inside.removeprefix("!")
    chars, i = [], 0
    while i < len(inside):
        low, high = inside[i], inside[i]
        if inside[i + 1 : i + 2] == "-" and i + 2 < len(inside):
            high, i = inside[i + 2], i + 2
        if low <= high:
            chars.append(f"{re.escape(low)}-{re.escape(high)}")
        i += 1
    if not chars:
        return "[^\0]" if negated else "(?!)"
    return f"[^\0{''.join(chars)}]" if negated else f"[{''.join(chars)}]"
