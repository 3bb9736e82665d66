"""The `folder` format: a directory of image files, searched recursively.

Names are paths relative to the directory, with `/`, in the order of their code points. Files and directories that begin with
a dot are passed over, files without an image suffix are counted in `ignored`; a file *with* an image suffix is an item even
if it is not an image, and says so when it is read. Links to directories are followed, but not into a directory that is being
searched already.

Labels: the folders that all images share are set aside; the next folder is the label. In `eurosat/Forest/1.jpg`,
`eurosat/River/2.jpg` the labels are Forest and River. Images beside these folders have no label, nor have images in one folder.

Writing keeps names and their folders, and changes the suffix to that of the format that is written (see `encode.py`):
`a.jpg` becomes `a.png`, or `a.jpg.png` where `a.png` is taken. A labelled item whose name has no folder goes into a folder
of its label. Attributes other than EXIF and ICC profile have no place in a folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, ClassVar

from batchcodec.dataset import Format, FormatOptions
from batchcodec.errors import InputError, ItemError, OutputError, UnsafeNameError
from batchcodec.names import check_name, is_utf8, printable
from batchcodec.types import Item

from .encode import check_image_format, encoded
from .imagefiles import ImageFiles
from .names import candidates, common_depth, folder_label, has_image_suffix, label_folder, split_suffix


class FolderFormat(Format):
    """A directory of image files."""

    format_id: ClassVar[str] = "folder"
    suffixes: ClassVar[tuple[str, ...]] = ()
    summary: ClassVar[str] = "a directory of image files, searched recursively; the first differing folder is the label"
    ordered: ClassVar[bool] = False
    image_files: ClassVar[bool] = True

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether it is a directory."""
        try:
            return Path(path).is_dir()
        except (OSError, ValueError):
            return False

    def read(self, path: Path) -> FolderItems:
        """The images below a directory. Raises `InputError` if it is missing or cannot be listed."""
        return FolderItems(Path(path), self.options)

    def write(self, path: Path, items: Iterable[Item]) -> None:
        """Write each item as an image file below `path`.

        Raises:
            UnsafeNameError: an item's name must not become a file name.
            OptionError: `image_format` is not known.
            OutputError: a file cannot be written.
        """
        root = Path(path)
        check_image_format(self.options.image_format)
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise OutputError(root, exc.strerror or str(exc)) from exc
        writer = _FolderWriter(root)
        with closing(encoded(items, self.options.image_format, self.workers)) as files:
            for item, suffix, data in files:
                writer.write(item, suffix, data)


class FolderItems(ImageFiles):
    """The images below a directory."""

    parallel_reads = True

    def __init__(self, root: Path, options: FormatOptions) -> None:
        names: list[str] = []
        n_others = 0
        for name in _files_below(root):
            if has_image_suffix(name):
                names.append(name)
            else:
                n_others += 1
        names.sort()
        self._depth = common_depth(names)
        super().__init__(root, names, options)
        self.ignored = n_others

    def _open_file(self, index: int) -> BinaryIO:
        name = self._names[index]
        if not is_utf8(name):
            raise ItemError(self._path, printable(name), "the file name is not valid UTF-8; rename the file")
        return open_regular(self._path / name)

    def _length(self, index: int) -> int:
        return (self._path / self._names[index]).stat().st_size

    def _label(self, index: int) -> str | None:
        return folder_label(self._names[index], self._depth)


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file; anything else (a pipe, a device, a directory) is an OSError and never waits."""
    stream = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115  (Path.open has no opener)
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError("not a regular file")
    return stream


def _open_without_waiting(path: str, flags: int) -> int:
    # Opening a pipe waits for its writer unless it is opened as non-blocking.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _files_below(root: Path) -> Iterator[str]:
    """Relative names, with `/`, of all that is not a directory."""
    pending: list[tuple[str, frozenset[tuple[int, int]]]] = [("", frozenset())]
    while pending:
        prefix, above = pending.pop()
        directory = root / prefix if prefix else root
        try:
            status = directory.stat()
            identity = (status.st_dev, status.st_ino)
            if identity in above:  # a link back to a directory that contains it
                continue
            with os.scandir(directory) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if _is_directory(entry):
                        pending.append((f"{prefix}{entry.name}/", above | {identity}))
                    else:
                        yield prefix + entry.name
        except OSError as exc:
            raise InputError(printable(str(directory)), f"cannot be listed: {exc.strerror or exc}") from exc


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, say; if it has an image's name, reading it says why
        return False


class _FolderWriter:
    """Puts files below a directory, each under a new name, and nothing outside it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._checked: str | None = None  # the folder that the item before went to

    def write(self, item: Item, suffix: str, data: bytes) -> None:
        name = item.name
        if "/" not in name and item.label is not None:
            name = f"{label_folder(item.label)}/{name}"
        check_name(self._root, name)
        stem, old_suffix = split_suffix(name)
        if old_suffix.lower() == suffix.lower():
            suffix = old_suffix  # A.PNG stays
        for candidate in candidates(stem, old_suffix, suffix):
            check_name(self._root, candidate)
            self._make_folder(candidate)
            target = self._root / candidate
            try:
                # Exclusive creation finds taken names without a list of them, and follows no link.
                with target.open("xb") as file:
                    file.write(data)
            except FileExistsError:
                continue
            except OSError as exc:
                raise OutputError(target, exc.strerror or str(exc)) from exc
            return

    def _make_folder(self, name: str) -> None:
        folder = name.rpartition("/")[0]
        if folder == self._checked or not folder:
            return
        current = self._root
        for part in folder.split("/"):
            current = current / part
            try:
                current.mkdir(exist_ok=True)
            except FileExistsError as exc:
                raise ItemError(self._root, name, f"needs a folder where the file {current.name!r} is") from exc
            except OSError as exc:
                raise OutputError(current, exc.strerror or str(exc)) from exc
            if current.is_symlink():
                raise UnsafeNameError(self._root, name, f"the folder {current.name!r} is a link")
        self._checked = folder
