"""The `npz` format: a zip of NumPy arrays, one of which holds the images.

The images are the array of uint8, uint16 or bool with 3 or 4 axes (`npy.Layout` says what the axes mean). Of several such
arrays the one with a customary name (`images`, `x_train`, `data`, ...) is taken; if none or more than one has such a name,
`--key` must choose. Labels are the 1-D (or [N, 1]) array of as many integers or strings that is named after the images
(`x_train` -> `y_train`, `train_images` -> `train_labels`) or `labels`, `y`, `targets`, ...; `--label-key` chooses another.
Names are in `names`, strings. Integer labels become text; "" is no label. Pickled objects are never loaded. Other arrays are
counted in `ignored`.

Arrays that are stored are read at random; compressed ones (`np.savez_compressed`) only forwards, so in order. Writing makes
`images` (as in npy), `labels` (int64 if all are decimal integers, else strings) and `names`, stored, with the same bytes
for the same items. Attributes have no place in it.
"""

from __future__ import annotations

import io
import itertools
import math
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, ClassVar, cast

import numpy as np

from batchcodec.dataset import Format, stacks_of
from batchcodec.errors import InputError
from batchcodec.types import ImageSpec, Item, Stack

from .arrays import STREAM_ERRORS, ItemArray, StreamedArray, WindowedArray
from .npy import (
    IMAGE_DTYPES,
    ArrayItems,
    Layout,
    array_header,
    header_of,
    is_file_with_suffix,
    pixel_header,
    read_header,
)
from .output import BUFFER, PixelStream, new_file, waiting_file

IMAGE_KEYS = ("images", "image", "imgs", "x", "x_train", "x_test", "data", "pixels", "arr_0")
LABEL_KEYS = ("labels", "label", "y", "y_train", "y_test", "targets", "target", "classes")
NAME_KEYS = ("names", "filenames")

_ZIP_ERRORS: tuple[type[Exception], ...] = (*STREAM_ERRORS, KeyError, OverflowError, struct.error)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can say


class NpzFormat(Format):
    """A `.npz` file."""

    format_id: ClassVar[str] = "npz"
    suffixes: ClassVar[tuple[str, ...]] = (".npz",)
    summary: ClassVar[str] = "a zip of NumPy arrays: images, and maybe labels and names (--key, --label-key)"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether it is a file called `*.npz`."""
        return is_file_with_suffix(path, cls.suffixes)

    def read(self, path: Path) -> ArrayItems:
        """The images of the file. Raises `InputError` if it is damaged or does not say which array holds them."""
        path = Path(path)
        members, refused = _members(path)
        images = _choose_images(path, members, refused, self.options.key)
        layout = Layout(path, f"array {images.key!r}", images.shape, images.dtype)
        n_items = layout.stored_shape[0]
        names = next((members[key] for key in NAME_KEYS if key in members and members[key].is_text(n_items)), None)
        labels = _choose_labels(path, members, refused, images, n_items, self.options.label_key)
        items = ArrayItems(
            path,
            layout,
            images.open(path, layout.stored_shape),
            None if labels is None else labels.open(path, labels.shape),
            None if names is None else names.open(path, names.shape),
        )
        items.ignored = len(members) + len(refused) - sum(member is not None for member in (images, labels, names))
        return items

    def write(self, path: Path, items: Iterable[Item]) -> None:
        """Write images, labels and names; items of several shapes or dtypes raise `InputError`.

        Items whose number is known (`len`) go straight into the file; others wait beside it.
        """
        path = Path(path)
        labels: list[str | None] = []
        names: list[str] = []

        def noted() -> Iterator[Stack]:
            for stack in stacks_of(items):
                labels.extend(item.label for item in stack.items)
                names.extend(item.name for item in stack.items)
                yield stack

        with new_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            # An array begins with its shape: the number of items must be known before the first pixel is put into the zip.
            if isinstance(items, Sized) and len(items):
                _store_promised(path, archive, noted(), len(items))
            else:
                _store_counted(path, archive, noted())
            if any(label is not None for label in labels):
                _store(archive, "labels", *_array_parts(_label_array(labels)))
            _store(archive, "names", *_array_parts(np.array(names)))


@dataclass(frozen=True, slots=True)
class _Member:
    """One array of the file.

    Attributes:
        key: its name without `.npy`.
        offset: of its data, in the file if it is stored, else in the decompressed member.
    """

    key: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    stored: bool
    file_name: str

    @property
    def is_images(self) -> bool:
        return self.dtype.name in IMAGE_DTYPES and len(self.shape) in (3, 4)

    def _is_column(self, n_items: int) -> bool:
        return self.shape in ((n_items,), (n_items, 1))

    def is_text(self, n_items: int) -> bool:
        return self.shape == (n_items,) and self.dtype.kind in "US"

    def is_labels(self, n_items: int) -> bool:
        return self._is_column(n_items) and self.dtype.kind in "iubUS"

    def open(self, path: Path, shape: tuple[int, ...]) -> ItemArray:
        if self.stored:
            return WindowedArray(path, self.offset, shape, self.dtype)
        return StreamedArray(path, partial(_open_member, path, self.file_name), self.offset, shape, self.dtype)

    def __str__(self) -> str:
        return f"{self.key} {self.dtype}{list(self.shape)}"


def _open_member(path: Path, file_name: str) -> IO[bytes]:
    """The decompressed member; the archive closes when the member does."""
    with zipfile.ZipFile(path) as archive:
        return archive.open(file_name)


def _members(path: Path) -> tuple[dict[str, _Member], dict[str, InputError]]:
    """All arrays by their keys; and why not, of those that cannot be read (Python objects, Fortran order)."""
    members: dict[str, _Member] = {}
    refused: dict[str, InputError] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if not info.filename.endswith(".npy"):
                    continue
                key = info.filename.removesuffix(".npy")
                try:
                    with archive.open(info) as stream:
                        shape, dtype, offset = read_header(path, stream)
                except InputError as exc:
                    refused[key] = InputError(path, f"array {key!r}: {exc.fields['reason']}")
                    continue
                needed = offset + math.prod(shape) * dtype.itemsize
                if info.file_size < needed:
                    reason = f"array {key!r} is truncated: {needed} bytes expected, {info.file_size} found"
                    refused[key] = InputError(path, reason)
                    continue
                stored = info.compress_type == zipfile.ZIP_STORED
                start = _data_offset(archive, info) if stored else 0
                members[key] = _Member(key, shape, dtype, start + offset, stored, info.filename)
    except _ZIP_ERRORS as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise InputError(path, f"not a .npz file, or a damaged one: {reason}") from exc
    return members, refused


def _data_offset(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Where a member's data begin: behind its local header, whose extra field may differ from the directory's."""
    file = cast("IO[bytes]", archive.fp)
    file.seek(info.header_offset + 26)
    name_bytes, extra_bytes = struct.unpack("<HH", file.read(4))
    return int(info.header_offset + 30 + name_bytes + extra_bytes)


def _choose_images(path: Path, members: dict[str, _Member], refused: dict[str, InputError], key: str | None) -> _Member:
    listing = ", ".join(map(str, members.values())) or "no array"
    if key is not None:
        if key in refused:
            raise refused[key]
        if key not in members:
            raise InputError(path, f"there is no array {key!r} (--key); the file has: {listing}")
        return members[key]
    found = [member for member in members.values() if member.is_images]
    named = [member for member in found if member.key.lower() in IMAGE_KEYS]
    if len(found) == 1:
        return found[0]
    if len(named) == 1:
        return named[0]
    if not found and refused:
        raise next(iter(refused.values()))
    if not found:
        raise InputError(path, f"no array of images (uint8 or uint16 with 3 or 4 axes); the file has: {listing}")
    raise InputError(path, f"several arrays may be the images: choose one with --key; the file has: {listing}")


def _choose_labels(
    path: Path, members: dict[str, _Member], refused: dict[str, InputError], images: _Member, n_items: int, key: str | None
) -> _Member | None:
    listing = ", ".join(map(str, members.values()))
    if key is not None:
        if key in refused:
            raise refused[key]
        if key not in members:
            raise InputError(path, f"there is no array {key!r} (--label-key); the file has: {listing}")
        if not members[key].is_labels(n_items):
            raise InputError(path, f"array {members[key]} cannot be the labels: {n_items} integers or strings are expected")
        return members[key]
    # x_train -> y_train, train_images -> train_labels
    partner = re.sub(r"^x(?=_|$)", "y", images.key.lower().replace("image", "label"))
    unreadable = [error for name, error in refused.items() if name.lower() in (partner, *LABEL_KEYS)]
    if unreadable:
        raise unreadable[0]
    by_name = {member.key.lower(): member for member in members.values() if member.key != images.key}
    if partner != images.key.lower() and partner in by_name:
        named = [by_name[partner]]
    else:
        named = [by_name[name] for name in LABEL_KEYS if name in by_name]
    fitting = [member for member in named if member.is_labels(n_items)]
    if len(fitting) == 1:
        return fitting[0]
    if not named:
        return None
    if fitting:
        raise InputError(path, f"several arrays may be the labels: choose one with --label-key; the file has: {listing}")
    raise InputError(
        path,
        f"array {named[0]} does not fit as labels: {n_items} integers or strings are expected (--label-key chooses another)",
    )


def _label_array(labels: Sequence[str | None]) -> np.ndarray[Any, np.dtype[Any]]:
    """int64 if every label is a decimal integer as Python would print it, else strings."""
    limit = 1 << 63
    if all(label is not None and re.fullmatch(r"0|-?[1-9][0-9]{0,18}", label) for label in labels):
        values = [int(label or 0) for label in labels]
        if all(-limit <= value < limit for value in values):
            return np.array(values, dtype="<i8")
    return np.array([label or "" for label in labels])


def _array_parts(array: np.ndarray[Any, np.dtype[Any]]) -> tuple[bytes, bytes]:
    """Header and data of a small array."""
    array = array.astype(array.dtype.newbyteorder("<"))
    return array_header(array.shape, array.dtype), array.tobytes()


def _store_promised(path: Path, archive: zipfile.ZipFile, stacks: Iterator[Stack], n_items: int) -> None:
    """The array of so many images, straight into the zip."""
    first = next(stacks)
    image = ImageSpec.of(first.pixels[0])
    header = header_of(image, n_items)
    info = _member_info("images", len(header) + n_items * image.n_bytes)
    with archive.open(info, "w") as member:
        buffered = io.BufferedWriter(cast(io.RawIOBase, member), BUFFER)
        try:
            buffered.write(header)
            stream = PixelStream(path, buffered, NpzFormat.format_id)
            for stack in itertools.chain([first], stacks):
                stream.append(stack)
        finally:
            buffered.detach()
    if stream.n_items != n_items:
        raise InputError(path, f"{stream.n_items} images came where {n_items} were promised")


def _store_counted(path: Path, archive: zipfile.ZipFile, stacks: Iterator[Stack]) -> None:
    """The array of as many images as come: they wait beside the target."""
    with waiting_file(path) as waiting:
        stream = PixelStream(path, waiting, NpzFormat.format_id)
        for stack in stacks:
            stream.append(stack)
        header = pixel_header(path, stream)
        info = _member_info("images", len(header) + waiting.tell())
        waiting.seek(0)
        with archive.open(info, "w") as member:
            member.write(header)
            while chunk := waiting.read(BUFFER):
                member.write(chunk)


def _store(archive: zipfile.ZipFile, key: str, header: bytes, data: bytes) -> None:
    archive.writestr(_member_info(key, len(header) + len(data)), header + data)


def _member_info(key: str, n_bytes: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(f"{key}.npy", _EPOCH)
    info.create_system = 3  # the same bytes on every system
    info.external_attr = 0o644 << 16
    info.file_size = n_bytes  # beyond 2 GiB, a zip has other fields
    return info
