"""The items that an archive was packed from, read and preprocessed as it says they were."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batchcodec.archive.reader import Archive
from batchcodec.dataset import FormatOptions
from batchcodec.errors import ArchiveError, ItemError, OptionError
from batchcodec.preprocess import Preprocess, parse_size
from batchcodec.registry import Registry
from batchcodec.types import JSON, Item


class Originals:
    """The items that an archive was packed from, preprocessed in the same way.

    Args:
        archive: what it says of reading and preprocessing holds.
        source: the dataset.
        format_id: of the dataset; by default recognised.
        plugins: what reads it.

    Attributes:
        parallel: whether several threads may call `find`.

    Raises:
        ArchiveError: what the archive says of reading and preprocessing cannot be read.
        InputError: the dataset cannot be read.
    """

    def __init__(self, archive: Archive, source: Path, format_id: str | None, plugins: Registry) -> None:
        self.source = source
        self._dataset: Sequence[Item] = plugins.format_of(source, recorded_options(archive.meta), format_id).read(source)
        self._preprocess = recorded_preprocess(archive)
        self._index_of: dict[str, int] | None = None
        self._lock = threading.Lock()
        self.parallel: bool = getattr(self._dataset, "parallel_reads", False)

    def find(self, index: int, name: str) -> Item | None:
        """The original of an item, most likely at the same place; None when it is missing or cannot be read."""
        item = self._read(index) if index < len(self._dataset) else None
        if item is None or item.name != name:
            place = self._places().get(name)
            item = None if place is None else self._read(place)
        return None if item is None else self._preprocess(item)

    def _places(self) -> dict[str, int]:
        """Place of each name, for datasets that have changed since, or of which items were skipped."""
        with self._lock:
            if self._index_of is None:
                self._index_of = {}
                for i in range(len(self._dataset)):
                    if (item := self._read(i)) is not None:
                        self._index_of.setdefault(item.name, i)
            return self._index_of

    def _read(self, index: int) -> Item | None:
        try:
            return self._dataset[index]
        except ItemError:
            return None


def recorded_options(meta: dict[str, JSON]) -> FormatOptions:
    """How the dataset was read when it was packed."""
    recorded = meta.get("format_options")
    known = FormatOptions.__dataclass_fields__
    if not isinstance(recorded, dict):
        return FormatOptions()
    # The record is a stranger's: what has another type than its default is left out.
    options: dict[str, Any] = {
        key: value for key, value in recorded.items() if key in known and isinstance(value, bool if key == "metadata" else str)
    }
    return FormatOptions(**options)


def recorded_preprocess(archive: Archive) -> Preprocess:
    """What was done to the items when they were packed."""
    recorded: Any = archive.meta.get("preprocess", {})
    try:
        return Preprocess(
            parse_size(str(recorded.get("size", "native"))),
            *(recorded[key] for key in ("resample", "fit", "mode") if key in recorded),
        )
    except (AttributeError, OptionError) as exc:
        raise ArchiveError(archive.path, f"its record of the preprocessing cannot be read: {exc}") from exc
