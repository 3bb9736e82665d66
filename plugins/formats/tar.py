"""The `tar` format: image files in a tar, plain or compressed with gzip, xz, bzip2 or zstd; WebDataset shards among them.

Items are the members with an image suffix, in the tar's order. Beside `dir/key.png` there may be `dir/key.cls`, whose text
is the label, and `dir/key.json`, whose object is the attributes (`label` in it is the label if there is no `.cls`). The key
is the name up to the first dot of its last component, as in WebDataset; a sidecar of the whole stem (`key.left.cls` for
`key.left.png`) goes first. In a tar without any `.cls`, an image without a label takes the label that its folders imply, as
in the `folder` format.

A plain tar is read at random; a compressed one only forwards, so in order. Links and devices with an image suffix, and
unsafe names, are items that raise. Hidden files are passed over; other files are counted in `ignored`. A tar that is damaged
or cut is refused.

Writing makes `name.png` (see `encode.py`), then `.cls` for a label and `.json` for attributes, with no times and owners.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from array import array
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import IO, BinaryIO, ClassVar, cast

from batchcodec.dataset import Format, FormatOptions
from batchcodec.errors import InputError, ItemError, UnsafeNameError
from batchcodec.names import check_name, is_utf8, printable, unsafe_reason
from batchcodec.types import JSON, Item

from .arrays import STREAM_ERRORS, ForwardReader
from .compressed import compression_of, compressor, opener
from .encode import check_image_format, encoded
from .imagefiles import ImageFiles
from .names import candidates, common_depth, folder_label, has_image_suffix, is_hidden, split_suffix
from .npy import is_file_with_suffix
from .output import new_file

_COMPRESSION = {
    ".tar": None,
    ".tar.gz": "gz",
    ".tgz": "gz",
    ".tar.xz": "xz",
    ".txz": "xz",
    ".tar.bz2": "bz2",
    ".tbz2": "bz2",
    ".tar.zst": "zst",
    ".tzst": "zst",
}
_MAX_SIDECAR_BYTES = 16 << 20
_MAX_IMAGE_BYTES = 2 << 30  # a compressed tar of a few megabytes may claim anything
_MAX_JSON_DEPTH = 90  # an archive holds 100 levels, a few of which are its own
_MAX_HEADER_BYTES = 1 << 20  # of an extended header: its size is a claim too
_HEAD_BYTES = 1 << 16  # that tell the size of an image, unless its metadata is larger
_DIGITS = re.compile(rb"[0-9]{512}")
_EXIF_KEYS = ("exif", "icc")  # written into the image file itself


class TarFormat(Format):
    """A tar of image files."""

    format_id: ClassVar[str] = "tar"
    suffixes: ClassVar[tuple[str, ...]] = tuple(_COMPRESSION)
    summary: ClassVar[str] = (
        "a tar of image files, also .gz .xz .bz2 .zst; WebDataset's .cls and .json are labels and attributes"
    )
    image_files: ClassVar[bool] = True

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether it is a file called `*.tar`, `*.tar.gz`, ..."""
        return is_file_with_suffix(path, cls.suffixes)

    def read(self, path: Path) -> TarItems:
        """The images of the tar. Raises `InputError` if it is damaged or cut."""
        return TarItems(Path(path), self.options)

    def write(self, path: Path, items: Iterable[Item]) -> None:
        """Write image files and their sidecars; a `.tar.gz` and the like is compressed.

        Raises:
            UnsafeNameError: an item's name must not become a file name.
            OptionError: `image_format` is not known.
            OutputError: the path cannot be written.
        """
        path = Path(path)
        check_image_format(self.options.image_format)
        kind = next((kind for suffix, kind in _COMPRESSION.items() if path.name.lower().endswith(suffix)), None)
        with new_file(path) as file:
            if kind is None:
                self._write_tar(path, file, items)
            else:
                with compressor(file, kind) as packed:
                    self._write_tar(path, packed, items)

    def _write_tar(self, path: Path, stream: IO[bytes], items: Iterable[Item]) -> None:
        with tarfile.open(fileobj=stream, mode="w:", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
            writer = _TarWriter(path, tar)
            with closing(encoded(items, self.options.image_format, self.workers)) as files:
                for item, suffix, data in files:
                    writer.write(item, suffix, data)


class TarItems(ImageFiles):
    """The images of a tar, which is indexed once: name, offset and size of each."""

    def __init__(self, path: Path, options: FormatOptions) -> None:
        names: list[str] = []
        self._offsets = array("q")
        self._sizes = array("q")
        self._faults: dict[int, str] = {}  # why a member cannot be read
        self._sidecars: dict[str, tuple[int, int]] = {}  # name -> offset, size
        n_others = 0
        try:
            kind = compression_of(path)
            self._reader = None if kind is None else ForwardReader(opener(path, kind))
            self.parallel_reads = kind is None
            self._file_bytes = path.stat().st_size if kind is None else None
            for member in self._walk(path):
                name = member.name.removeprefix("./")
                if member.isdir() or is_hidden(name):
                    continue
                if has_image_suffix(name):
                    if not member.isreg() or member.issparse():
                        self._faults[len(names)] = (
                            "a sparse member" if member.issparse() else "a link or device, which is not followed"
                        )
                    names.append(name)
                    self._offsets.append(member.offset_data)
                    self._sizes.append(member.size)
                elif name.endswith((".cls", ".json")) and member.isreg():
                    self._sidecars[name] = (member.offset_data, member.size)
                else:
                    n_others += 1
        except (tarfile.TarError, IndexError, OverflowError) as exc:  # tarfile checks few of the numbers that it computes with
            raise InputError(path, f"not a tar, or a damaged one: {exc}") from exc
        except STREAM_ERRORS as exc:
            raise InputError(path, f"cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
        self._has_cls = any(name.endswith(".cls") for name in self._sidecars)
        self._depth = common_depth(name for name in names if unsafe_reason(name) is None)
        super().__init__(path, names, options)
        self.ignored = n_others

    def _walk(self, path: Path) -> Iterable[tarfile.TarInfo]:
        """All members in order. A header that is damaged, or data that end early, raise `tarfile.ReadError`."""
        with path.open("rb") as file:
            source = _HeaderSource(file if self._reader is None else self._reader)
            with tarfile.open(fileobj=cast("BinaryIO", source), mode="r:", encoding="utf-8", errors="surrogateescape") as tar:
                end = 0
                while (member := tar.next()) is not None:
                    if member.size < 0 or tar.offset <= end:  # tarfile would go round in circles
                        raise tarfile.ReadError(f"damaged header at byte {end}")
                    end = tar.offset
                    tar.members.clear()  # type: ignore[attr-defined]  # it would keep every member
                    yield member
                    plain = member.isreg() and not member.issparse()  # the size of a sparse one is that of the laid out file
                    if self._file_bytes is not None and plain and member.offset_data + member.size > self._file_bytes:
                        raise tarfile.ReadError("unexpected end of data")
                # tarfile takes a damaged header for the end; the end is a block of zeros, or nothing.
                source.seek(tar.offset)
                block = source.read(tarfile.BLOCKSIZE)
                if block.strip(b"\0"):
                    raise tarfile.ReadError(f"damaged header at byte {tar.offset}")

    def _bytes(self, offset: int, size: int) -> bytes:
        if self._reader is not None:
            data = self._reader.read_at(offset, size)
        else:
            with self._path.open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        if len(data) < size:
            raise OSError("unexpected end of data")
        return data

    def _open_file(self, index: int) -> BinaryIO:
        name = self._names[index]
        if not is_utf8(name):
            raise ItemError(self._path, printable(name), "the member's name is not valid UTF-8")
        reason = unsafe_reason(name)
        if reason is not None:
            raise UnsafeNameError(self._path, name, reason)
        if index in self._faults:
            raise ItemError(self._path, name, self._faults[index])
        if self._sizes[index] > _MAX_IMAGE_BYTES:
            raise ItemError(self._path, name, f"a file of {self._sizes[index]} bytes is too large for an image")
        try:
            return io.BytesIO(self._bytes(self._offsets[index], self._sizes[index]))
        except STREAM_ERRORS as exc:
            raise ItemError(self._path, name, str(exc)) from exc

    def _open_head(self, index: int) -> BinaryIO:
        if index in self._faults or not is_utf8(self._names[index]) or unsafe_reason(self._names[index]) is not None:
            raise ItemError(self._path, printable(self._names[index]), "it cannot be read")
        return io.BytesIO(self._bytes(self._offsets[index], min(self._sizes[index], _HEAD_BYTES)))

    def _length(self, index: int) -> int:
        return self._sizes[index]

    def _sidecar(self, index: int, suffix: str) -> str | None:
        """The text of the `.cls` or `.json` that belongs to an image."""
        name = self._names[index]
        folder, slash, last = name.rpartition("/")
        for stem in (split_suffix(name)[0], folder + slash + last.partition(".")[0]):
            place = self._sidecars.get(stem + suffix)
            if place is not None:
                if place[1] > _MAX_SIDECAR_BYTES:
                    raise ItemError(self._path, name, f"{stem}{suffix} of {place[1]} bytes is too large")
                try:
                    return self._bytes(*place).decode("utf-8")
                except STREAM_ERRORS as exc:
                    raise ItemError(self._path, name, f"{stem}{suffix} cannot be read: {exc}") from exc
        return None

    def _attributes(self, index: int) -> dict[str, JSON]:
        text = self._sidecar(index, ".json")
        if text is None:
            return {}
        try:
            value: JSON = json.loads(text, parse_constant=lambda _: None)  # NaN and Infinity are not JSON
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # 1e999 and halves of surrogate pairs are neither
        except (ValueError, RecursionError) as exc:
            raise ItemError(self._path, self._names[index], f"its .json is damaged: {exc}") from exc
        if _is_deep(value):
            raise ItemError(self._path, self._names[index], f"its .json has more than {_MAX_JSON_DEPTH} levels")
        return value if isinstance(value, dict) else {"json": value}

    def _label(self, index: int) -> str | None:
        text = self._sidecar(index, ".cls")
        if text is not None:
            return text.removesuffix("\n").removesuffix("\r") or None
        label = self._attributes(index).get("label")
        if isinstance(label, str | int) and not isinstance(label, bool):
            return str(label)
        return None if self._has_cls else folder_label(self._names[index], self._depth)


def _is_deep(value: JSON) -> bool:
    level = [value]
    for _ in range(_MAX_JSON_DEPTH):
        inside = (node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list))
        level = [child for children in inside for child in children]
    return bool(level)


class _HeaderSource:
    """What `tarfile` reads headers from. It reads extended headers whole, of whatever size they claim.

    Its search for a charset in them takes quadratic time in rows of digits (CVE-2024-6232, Python before 3.11.10 and 3.12.6).
    """

    def __init__(self, source: BinaryIO | ForwardReader) -> None:
        self.seek, self.tell = source.seek, source.tell
        self._source = source

    def read(self, n_bytes: int = -1) -> bytes:
        if not 0 <= n_bytes <= _MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"an extended header of {n_bytes} bytes")
        data = self._source.read(n_bytes)
        if _DIGITS.search(data):
            raise tarfile.ReadError("an extended header of digits")
        return data


class _TarWriter:
    """Adds image files and their sidecars, each under a name that is not taken."""

    def __init__(self, path: Path, tar: tarfile.TarFile) -> None:
        self._path = path
        self._tar = tar
        self._taken: set[str] = set()
        self._sidecars: dict[str, int] = {}  # stem -> hash of what its sidecars say

    def write(self, item: Item, suffix: str, data: bytes) -> None:
        check_name(self._path, item.name)
        attributes: Mapping[str, JSON] = {key: value for key, value in item.attributes.items() if key not in _EXIF_KEYS}
        text = json.dumps(attributes, sort_keys=True, ensure_ascii=False, separators=(",", ":")) if attributes else ""
        says = hash((item.label, text))
        stem, old_suffix = split_suffix(item.name)
        if old_suffix.lower() == suffix.lower():
            suffix = old_suffix
        for name in candidates(stem, old_suffix, suffix):
            new_stem = split_suffix(name)[0]
            if name not in self._taken and self._sidecars.get(new_stem, says) == says:
                break
        check_name(self._path, name)
        self._taken.add(name)
        self._add(name, data)
        if new_stem in self._sidecars:
            return
        self._sidecars[new_stem] = says
        if item.label is not None:
            self._add(new_stem + ".cls", item.label.encode("utf-8", "replace"))
        if text:
            self._add(new_stem + ".json", text.encode("utf-8", "replace"))

    def _add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        member.mode = 0o644
        self._tar.addfile(member, io.BytesIO(data))
