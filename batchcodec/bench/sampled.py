"""A part of a dataset as a dataset of its own, so that `pack` can be timed on it with the source's own reading."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from batchcodec.dataset import Format, FormatOptions
from batchcodec.registry import Registry
from batchcodec.types import Item


def picks(n_items: int, n_wanted: int) -> list[int]:
    """Places of at most `n_wanted` of `n_items` items, evenly spread and rising: a dataset may be sorted by class.

    They rise because a compressed stream can only be read forwards.
    """
    if n_items <= n_wanted:
        return list(range(n_items))
    return [i * n_items // n_wanted for i in range(n_wanted)]


class Sample(Sequence[Item]):
    """Some items of a dataset, read when they are asked for.

    Args:
        dataset: all items.
        n_wanted: how many of them, at most.
    """

    def __init__(self, dataset: Sequence[Item], n_wanted: int) -> None:
        self._dataset = dataset
        self._picks = picks(len(dataset), n_wanted)

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
        n_wanted: items of a sample, at most.
    """

    def __init__(self, whole: Registry, n_wanted: int) -> None:
        vars(self).update(vars(whole))  # the same plugins, loaded once
        self._n_wanted = n_wanted

    def format_of(self, path: Path, options: FormatOptions | None = None, format_id: str | None = None) -> Format:
        """As in `Registry`, but it reads a sample."""
        return _Sampling(super().format_of(path, options, format_id), self._n_wanted)


class _Sampling(Format):
    """Reads a part of what another format reads."""

    suffixes = ()

    def __init__(self, whole: Format, n_wanted: int) -> None:
        super().__init__(whole.options)
        self.format_id = whole.format_id  # type: ignore[misc]  # of this dataset, not of a class
        self._whole, self._n_wanted = whole, n_wanted

    @classmethod
    def matches(cls, path: Path) -> bool:
        """It stands for a format that was found already."""
        return False

    def read(self, path: Path) -> Sequence[Item]:
        """Some of the items."""
        return Sample(self._whole.read(path), self._n_wanted)
