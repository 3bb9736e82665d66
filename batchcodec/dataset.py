"""The `Format` contract: a dataset on disk to items and back.

`read` gives a *lazy* sequence: `len` is known, `[i]` reads one item (random access, any order, stable order of names), and
memory stays bounded whatever the dataset's size. An item that cannot be read raises `ItemError` naming it when it is
asked for, not before, so that `--on-error skip` can step over it. `write` is handed items one by one and does not keep them;
a format that only copies pixels may ask `stacks_of` for many at once.

The sequence is read by one thread, the one that asked for it, from the first item to the last. If `[i]` may be called by
several threads at once, in any order, and costs no more than in order, then let the sequence say so by an attribute
`parallel_reads = True`: `pack` then reads ahead on as many threads as there are cores. A stream that only goes forwards has
none: it is safe behind a lock, but threads that are not quite in step would make each other start over.

A sequence that can tell an item's shape without decoding it may have a method `head(i) -> ItemHead | None`; `plan` then surveys
large datasets in little time. It says None of an item of which only reading tells, never raises, and may be called by several
threads where `parallel_reads` is true. If it is wrong of an unusual file, an estimate is a little off, and nothing else.

Laws, held by `batchcodec.testing.check_format`: `write` then `read` gives the same pixels, names (as far as the format
has names: `keeps_names`) and labels (`keeps_labels`), in the same order or in sorted order of names; `matches` never raises;
several threads get what one gets where `parallel_reads` is true.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

from batchcodec.errors import InputError
from batchcodec.types import Item, Stack


@dataclass(frozen=True, slots=True)
class FormatOptions:
    """What a user may ask of a format; a format ignores what does not concern it.

    Attributes:
        frames: "first" or "all" frames of an animated or multi-page file.
        metadata: keep EXIF and ICC profile of the source as attributes (base64).
        key: which array of a file with several holds the images.
        label_key: which array holds the labels.
        image_format: how image files are written: "png" (lossless, the default), "keep" (as the name's suffix says,
            lossy where that format is), or a suffix such as "webp".
    """

    frames: str = "first"
    metadata: bool = False
    key: str | None = None
    label_key: str | None = None
    image_format: str = "png"


@runtime_checkable
class StackedItems(Protocol):
    """Items that can also be had in stacks, as they were decoded."""

    def stacks(self) -> Iterator[Stack]:
        """The same items, in the same order."""
        ...


def stacks_of(items: Iterable[Item]) -> Iterator[Stack]:
    """Items in stacks: of one item each, if they are not had in others."""
    if isinstance(items, StackedItems):
        return items.stacks()
    return (Stack((item,), item.pixels[None]) for item in items)


class Format(ABC):
    """Reads and writes one kind of dataset.

    Attributes:
        format_id: permanent short name, such as `folder` or `npz`.
        suffixes: file suffixes in lower case with the dot; empty for directories.
        summary: one line for `batchcodec formats`.
        can_write: whether `write` exists.
        keeps_names: whether a round trip through the format keeps them.
        keeps_labels: whether a round trip through the format keeps them.
        ordered: whether `write` must be given the items in the dataset's order; if not, unpacking may go group by group.
        image_files: whether it writes an image file for each item, as `FormatOptions.image_format` says.
        workers: threads that `write` may use; the caller sets it. What is written does not depend on it.
    """

    format_id: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    summary: ClassVar[str] = ""
    can_write: ClassVar[bool] = True
    keeps_names: ClassVar[bool] = True
    keeps_labels: ClassVar[bool] = True
    ordered: ClassVar[bool] = True
    image_files: ClassVar[bool] = False
    workers: int = 1

    def __init__(self, options: FormatOptions | None = None) -> None:
        self.options = options or FormatOptions()

    @classmethod
    @abstractmethod
    def matches(cls, path: Path) -> bool:
        """Whether the path looks like this format, by its name and a few bytes of content. Never raises."""

    @abstractmethod
    def read(self, path: Path) -> Sequence[Item]:
        """The dataset as a lazy sequence of items.

        Raises:
            InputError: the dataset as a whole cannot be read. (One bad image raises `ItemError`, at its index.)
        """

    def write(self, path: Path, items: Iterable[Item]) -> None:
        """Write the items to a path that does not exist yet (the caller makes that sure).

        Where `items` has a length, so many come, or an error.

        Raises:
            InputError: the items do not fit the format (mixed shapes into one array, say).
            OutputError: the path cannot be written.
        """
        raise InputError(path, f"the format {self.format_id} can only be read")
