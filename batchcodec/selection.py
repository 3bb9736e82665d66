"""Which items of an archive: by name, label and place in the dataset."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from batchcodec.archive.reader import Archive
from batchcodec.errors import ItemNotFoundError, OptionError

_RANGE = re.compile(r"(-?\d{1,18})?:(-?\d{1,18})?|(-?\d{1,18})")


@dataclass(frozen=True)
class Selection:
    """Conditions on items. Of one kind any must hold, of different kinds all; without any, all items are selected.

    Attributes:
        names: shell patterns for whole names, in which `*` also stands for `/`, `?` for one character, `[ab]` for one of some.
        labels: exact labels.
        ranges: places in the dataset: `100:200`, `:200`, `-5:` as Python slices, or one place such as `7`.

    Raises:
        OptionError: a range is none.
    """

    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    ranges: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for text in self.ranges:
            parse_range(text)

    def of(self, archive: Archive) -> Selected:
        """The items of an archive that are selected.

        Raises:
            ItemNotFoundError: none is.
            ArchiveError: its directory cannot be read.
        """
        conditions = [
            [(f"name {pattern!r}", _matching(archive.names, pattern)) for pattern in self.names],
            [(f"label {label!r}", np.array([label == found for found in archive.labels], bool)) for label in self.labels],
            [(f"range {text}", _within(len(archive), text)) for text in self.ranges],
        ]
        mask = np.ones(len(archive), bool)
        for kind in conditions:
            if kind:
                mask &= np.logical_or.reduce([found for _, found in kind])
        without = [text for kind in conditions for text, found in kind if not found.any()]
        if any(conditions) and not mask.any():
            reason = f"nothing has {', '.join(without)}" if without else "no item meets all conditions"
            raise ItemNotFoundError(archive.path, f"no item is selected: {reason}")
        return Selected(mask, without)


@dataclass(frozen=True)
class Selected:
    """What a selection found.

    Attributes:
        mask: bool [items], in the order of the dataset.
        without: conditions that no item meets, in words: most likely misspelt.
    """

    mask: npt.NDArray[np.bool_]
    without: list[str]

    @property
    def n_items(self) -> int:
        """Number of selected items."""
        return int(self.mask.sum())


def parse_range(text: str) -> slice:
    """`START:STOP` or a place as a slice."""
    match = _RANGE.fullmatch(text)
    if match is None:
        raise OptionError("range", text, "START:STOP, START:, :STOP or one place, such as 100:200 or -5:")
    start, stop, place = (None if number is None else int(number) for number in match.groups())
    if place is None:
        return slice(start, stop)
    return slice(place, place + 1 if place != -1 else None)


def _matching(names: Sequence[str], pattern: str) -> npt.NDArray[np.bool_]:
    matches = re.compile(fnmatch.translate(pattern)).match
    return np.array([matches(name) is not None for name in names], bool)


def _within(n_items: int, text: str) -> npt.NDArray[np.bool_]:
    mask = np.zeros(n_items, bool)
    mask[parse_range(text)] = True
    return mask
