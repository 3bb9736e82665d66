"""A part of a dataset as a dataset of its own, so that `pack` can be measured on it with the source's own reading.

Places in a dataset rise always: a compressed stream can only be read forwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from batchcodec.dataset import Format, FormatOptions
from batchcodec.registry import Registry
from batchcodec.types import Item


def spread(n_items: int, n_wanted: int) -> list[int]:
    """Places of at most `n_wanted` of `n_items` items, evenly spread: a dataset may be sorted by class."""
    if n_items <= n_wanted:
        return list(range(n_items))
    return [i * n_items // n_wanted for i in range(n_wanted)]


def at_random(n_items: int, n_wanted: int, seed: int) -> list[int]:
    """Places of at most `n_wanted` of `n_items` items, each set of so many as likely as any other."""
    if n_items <= n_wanted:
        return list(range(n_items))
    picks = np.random.default_rng(seed).choice(n_items, n_wanted, replace=False)
    return sorted(picks.tolist())


class Sample(Sequence[Item]):
    """Some items of a dataset, read when they are asked for.

    Args:
        dataset: all items.
        picks: their places.
    """

    def __init__(self, dataset: Sequence[Item], picks: Sequence[int]) -> None:
        self._dataset, self._picks = dataset, picks
        self.parallel_reads: bool = getattr(dataset, "parallel_reads", False)

    def __len__(self) -> int:
        return len(self._picks)

    @overload
    def __getitem__(self, key: int) -> Item: ...
    @overload
    def __getitem__(self, key: slice) -> list[Item]: ...
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return [self._dataset[i] for i in self._picks[key]]
        return self._dataset[self._picks[key]]


class SamplingRegistry(Registry):
    """A registry whose formats read a sample of each dataset.

    Args:
        whole: has the plugins.
        choose: from the number of items to the places of those that are read.
    """

    def __init__(self, whole: Registry, choose: Callable[[int], Sequence[int]]) -> None:
        vars(self).update(vars(whole))  # the same plugins, loaded once
        self._choose = choose

    def format_of(self, path: Path, options: FormatOptions | None = None, format_id: str | None = None) -> Format:
        """As in `Registry`, but it reads a sample."""
        return _Sampling(super().format_of(path, options, format_id), self._choose)


class _Sampling(Format):
    """Reads a part of what another format reads."""

    suffixes = ()

    def __init__(self, whole: Format, choose: Callable[[int], Sequence[int]]) -> None:
        super().__init__(whole.options)
        self.format_id = whole.format_id  # type: ignore[misc]  # of this dataset, not of a class
        self._whole, self._choose = whole, choose

    @classmethod
    def matches(cls, path: Path) -> bool:
        """It stands for a format that was found already."""
        return False

    def read(self, path: Path) -> Sequence[Item]:
        """Some of the items."""
        dataset = self._whole.read(path)
        return Sample(dataset, self._choose(len(dataset)))
