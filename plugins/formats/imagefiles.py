"""Items that are image files, in a folder or a tar, and their frames.

By default an item is the first frame of a file, under the file's name. With `frames="all"` a file of several frames gives one
item for each: `iss634.gif` becomes `iss634.0000.gif`, `iss634.0001.gif`, ... (four digits or more, counted from 0), which
are valid file names, sort in order, stay in the file's folder and share the file's WebDataset key.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from batchcodec.dataset import FormatOptions
from batchcodec.errors import ItemError, OptionError
from batchcodec.types import JSON, Item, ItemHead

from .lazy import LazyItems
from .names import split_suffix
from .pixels import count_frames, image_spec, read_image


class ImageFiles(LazyItems):
    """Image files under names. A subclass has `_open_file`, `_label` and maybe `_attributes`.

    Args:
        path: the dataset, for messages.
        names: the files' names.
        options: `frames` and `metadata` are heeded.
    """

    def __init__(self, path: Path, names: list[str], options: FormatOptions) -> None:
        if options.frames not in ("first", "all"):
            raise OptionError("frames", options.frames, "first or all")
        self._path = path
        self._names = names
        self._metadata = options.metadata
        self._frames: list[tuple[int, int, int]] | None = None  # file, frame, frames of the file
        if options.frames == "all":
            counts = ((index, self._count(index)) for index in range(len(names)))
            self._frames = [(index, frame, count) for index, count in counts for frame in range(count)]

    @abstractmethod
    def _open_file(self, index: int) -> BinaryIO:
        """Open a file, seekable. Raises `ItemError` or OSError."""

    @abstractmethod
    def _label(self, index: int) -> str | None:
        """The label of a file."""

    def _attributes(self, index: int) -> Mapping[str, JSON]:
        """Attributes that come from beside the file."""
        return {}

    def __len__(self) -> int:
        return len(self._names) if self._frames is None else len(self._frames)

    def _read(self, index: int) -> Item:
        file, frame, count = (index, 0, 1) if self._frames is None else self._frames[index]
        name = self._names[file] if count == 1 else frame_name(self._names[file], frame, count)
        try:
            with self._open_file(file) as stream:
                decoded = read_image(self._path, name, stream, frame=frame if count > 1 else None, metadata=self._metadata)
            attributes = {**self._attributes(file), **decoded.attributes}
            return Item(name, decoded.pixels, self._label(file), attributes, decoded.notes)
        except OSError as exc:
            raise ItemError(self._path, name, exc.strerror or str(exc)) from exc

    def head(self, index: int) -> ItemHead | None:
        """By the header of the file. None where the files are a stream: looking there is reading."""
        if not self.parallel_reads or self._frames is not None:
            return None
        try:
            with self._open_head(index) as stream:
                spec = image_spec(stream)
            return None if spec is None else ItemHead(spec, self._label(index), self._length(index))
        except (OSError, ItemError):
            return None

    def _open_head(self, index: int) -> BinaryIO:
        """Open a file of which the first bytes are enough."""
        return self._open_file(index)

    def _length(self, index: int) -> int | None:
        """Bytes of a file, where that is known. Raises OSError."""
        return None

    def _count(self, index: int) -> int:
        try:
            with self._open_file(index) as stream:
                return count_frames(stream)
        except (OSError, ItemError):
            return 1  # reading it says why


def frame_name(name: str, frame: int, n_frames: int) -> str:
    """`dir/iss634.gif`, frame 3 -> `dir/iss634.0003.gif`."""
    stem, suffix = split_suffix(name)
    return f"{stem}.{frame:0{max(4, len(str(n_frames - 1)))}d}{suffix}"
