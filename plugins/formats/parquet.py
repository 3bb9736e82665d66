"""The `parquet` format: a table of images as Hugging Face `datasets` writes it, one file of it.

An item is a row. Images are a column of structs `{bytes, path}` with an image file in `bytes`, or a column of such bytes. Of
several the one called `image`, `img`, `pixel_values` or `file` is taken, or what `--key` says. Names are the paths, where each
row has one and no two are equal; else rows are numbered. An image that is only named, without bytes, is an item that raises:
other files are not read.

The label is the column `label`, `labels`, `target` or `class`, or what `--label-key` says: text, or integers, which are class
names where the file has them (`ClassLabel`; -1 is no label). The column `attributes`, text, holds JSON objects. Every other
column of numbers, booleans or text gives an attribute of its name; other columns are counted in `ignored`.

Rows are read a few at a time, forwards: in the order of the file memory is a window, and going back within a row group reads
that row group again.

Written are `image` (with the item's name as path, and an image file as `encode.py` makes it), `label` (a `ClassLabel` whose
classes are in the order in which they come) and `attributes`, in row groups of at most 1,000 rows and 64 MiB.
"""

from __future__ import annotations

import io
import json
import math
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import numpy.typing as npt

from batchcodec.dataset import Format, FormatOptions
from batchcodec.errors import InputError, ItemError, MissingDependencyError, OutputError
from batchcodec.names import check_name, printable
from batchcodec.types import JSON, Item

from .encode import check_image_format, encoded
from .imagefiles import ImageFiles
from .lazy import name_digits, numbered_name
from .npy import is_file_with_suffix
from .output import new_file

IMAGE_KEYS = ("image", "img", "pixel_values", "file")
LABEL_KEYS = ("label", "labels", "target", "class")
ATTRIBUTES_KEY = "attributes"
_GROUP_ROWS, _GROUP_BYTES = 1000, 64 << 20
_WINDOW_ROWS = 32


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as exc:
        raise MissingDependencyError("the format parquet", "pyarrow", "parquet") from exc
    return pyarrow, pyarrow.parquet


class ParquetFormat(Format):
    """A `.parquet` file."""

    format_id: ClassVar[str] = "parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet",)
    summary: ClassVar[str] = "a table with images and maybe labels, as Hugging Face datasets has them (--key, --label-key)"

    @classmethod
    def matches(cls, path: Path) -> bool:
        """Whether it is a file called `*.parquet`."""
        return is_file_with_suffix(path, cls.suffixes)

    def read(self, path: Path) -> ParquetItems:
        """The images of the table. Raises `InputError` if it is damaged or does not say which column holds them."""
        return ParquetItems(Path(path), self.options)

    def write(self, path: Path, items: Iterable[Item]) -> None:
        """Write images, labels and attributes.

        Raises:
            UnsafeNameError: an item's name must not become a file name.
            OptionError: `image_format` is not known.
            OutputError: the path cannot be written.
        """
        path = Path(path)
        check_image_format(self.options.image_format)
        pyarrow, parquet = _import_pyarrow()
        with new_file(path) as file:
            try:
                files = encoded(items, self.options.image_format, self.workers)
                with closing(files), _Writer(pyarrow, parquet, file) as writer:
                    for item, _, data in files:
                        check_name(path, item.name)
                        writer.add(item, data)
            except pyarrow.ArrowException as exc:
                raise OutputError(path, str(exc)) from exc


class _Writer:
    """Collects rows and writes row groups; the classes are written at the end, when all are known."""

    def __init__(self, pyarrow: Any, parquet: Any, file: BinaryIO) -> None:
        self._pa = pyarrow
        self._image = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
        fields = [("image", self._image), ("label", pyarrow.int64()), (ATTRIBUTES_KEY, pyarrow.string())]
        self._schema = pyarrow.schema(fields)
        self._classes: dict[str, int] = {}
        self._rows: list[tuple[dict[str, Any], int | None, str | None]] = []
        self._n_bytes = 0
        self._writer = parquet.ParquetWriter(
            file,
            self._schema,
            compression={"image.bytes": "NONE", "image.path": "ZSTD", "label": "ZSTD", ATTRIBUTES_KEY: "ZSTD"},
            use_dictionary=["label", ATTRIBUTES_KEY],
            write_statistics=["label"],
            store_schema=False,  # else readers take the keys below from that schema, which was written first
        )

    def add(self, item: Item, data: bytes) -> None:
        number = None if item.label is None else self._classes.setdefault(item.label, len(self._classes))
        own = {
            key: value for key, value in item.attributes.items() if key not in ("exif", "icc")
        }  # those are in the image file
        text = json.dumps(own, sort_keys=True, ensure_ascii=True, separators=(",", ":")) if own else None
        self._rows.append(({"bytes": data, "path": item.name}, number, text))
        self._n_bytes += len(data)
        if len(self._rows) >= _GROUP_ROWS or self._n_bytes >= _GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            columns = zip(*self._rows, strict=True)
            arrays = [self._pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
            self._writer.write_batch(self._pa.record_batch(arrays, schema=self._schema))
        self._rows, self._n_bytes = [], 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self._flush()
            features: dict[str, Any] = {"image": {"_type": "Image"}, ATTRIBUTES_KEY: {"dtype": "string", "_type": "Value"}}
            features["label"] = {"names": list(self._classes), "_type": "ClassLabel"}
            if not self._classes:
                features["label"] = {"dtype": "int64", "_type": "Value"}
            self._writer.add_key_value_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        self._writer.close()


class ParquetItems(ImageFiles):
    """The rows of a table of images."""

    def __init__(self, path: Path, options: FormatOptions) -> None:
        self._pa, self._parquet = _import_pyarrow()
        try:
            with path.open("rb") as source, self._parquet.ParquetFile(source) as file:
                schema, metadata = file.schema_arrow, file.metadata
                sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
                self._key = _image_column(path, self._pa, schema, options.key)
                self._label_key = _label_column(path, self._pa, schema, options.label_key)
                self._classes = _classes(schema.metadata or {}, self._label_key)
                names = _names(self._pa, file, self._key, sum(sizes))
        except InputError:
            raise
        except Exception as exc:  # on damaged files pyarrow raises nearly everything
            reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else " ".join(str(exc).split())
            raise InputError(path, f"not a Parquet file, or a damaged one: {reason}") from exc
        own = (self._key, self._label_key)
        self._scalars = [field.name for field in schema if field.name not in own and _is_scalar(self._pa, field.type)]
        self._columns = [self._key, *([self._label_key] if self._label_key else []), *self._scalars]
        self._ends = np.cumsum(np.array(sizes, np.int64))
        self._rows = _Rows(path, self._parquet, self._columns, self._ends)
        super().__init__(path, names, options)
        self.ignored = len(schema) - len(self._columns)

    def _row(self, index: int) -> dict[str, Any]:
        try:
            return self._rows[index]
        except Exception as exc:  # as above
            raise ItemError(self._path, printable(self._names[index]), f"its row cannot be read: {exc}") from exc

    def _open_file(self, index: int) -> BinaryIO:
        value = self._row(index)[self._key]
        data = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(data, bytes):
            return io.BytesIO(data)
        there = isinstance(value, dict) and value.get("path")
        reason = "it is a path to another file, which is not read" if there else "there is no image in its row"
        raise ItemError(self._path, self._names[index], reason)

    def _label(self, index: int) -> str | None:
        value = self._row(index)[self._label_key] if self._label_key else None
        if isinstance(value, bool) or not isinstance(value, int | str):
            return None if value is None else str(value)
        if isinstance(value, str) or not self._classes:
            return str(value)
        if value == -1:  # how `datasets` writes that there is none
            return None
        if not 0 <= value < len(self._classes):
            raise ItemError(self._path, self._names[index], f"its label is class {value} of {len(self._classes)}")
        return self._classes[value]

    def _attributes(self, index: int) -> Mapping[str, JSON]:
        row = self._row(index)
        found: dict[str, JSON] = {}
        for key in self._scalars:
            value = row[key]
            if key == ATTRIBUTES_KEY and isinstance(value, str):
                found |= self._parsed(index, value)
            elif value is not None and not (isinstance(value, float) and not math.isfinite(value)):
                found[key] = value
        return found

    def _parsed(self, index: int, text: str) -> dict[str, JSON]:
        try:
            value = json.loads(text, parse_constant=lambda _: None)
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()  # 1e999 and halves of surrogate pairs are no JSON
        except (ValueError, RecursionError) as exc:
            raise ItemError(self._path, self._names[index], f"its attributes are damaged: {exc}") from exc
        return value if isinstance(value, dict) else {ATTRIBUTES_KEY: value}


class _Rows:
    """The rows of some columns, read forwards and a few at a time, each row group from its start. Used by threads in turn."""

    def __init__(self, path: Path, parquet: Any, columns: list[str], ends: npt.NDArray[np.int64]) -> None:
        self._path, self._parquet, self._columns, self._ends = path, parquet, columns, ends
        self._lock = threading.Lock()
        self._batches: Iterator[Any] = iter(())
        self._group, self._first = -1, 0
        self._window: list[dict[str, Any]] = []

    def __getitem__(self, index: int) -> dict[str, Any]:
        with self._lock:
            group = int(np.searchsorted(self._ends, index, "right"))
            if group != self._group or index < self._first:
                self._batches = self._read(group)
                self._group, self._window = group, []
                self._first = int(self._ends[group - 1]) if group else 0
            while index >= self._first + len(self._window):
                self._first += len(self._window)
                try:
                    self._window = next(self._batches).to_pylist()
                except BaseException:
                    self._group = -1  # an iterator that failed gives nothing more
                    raise
            return self._window[index - self._first]

    def _read(self, group: int) -> Iterator[Any]:
        # Not buffered ahead: a row group of somebody else's file may be gigabytes.
        with self._path.open("rb") as source, self._parquet.ParquetFile(source, buffer_size=1 << 20) as file:
            yield from file.iter_batches(_WINDOW_ROWS, row_groups=[group], columns=self._columns, use_threads=False)
        raise ValueError("it ends too early")


def _is_bytes(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _is_image(pyarrow: Any, kind: Any) -> bool:
    """Whether values of a column may be image files."""
    if not pyarrow.types.is_struct(kind):
        return _is_bytes(pyarrow, kind)
    return any(field.name == "bytes" and _is_bytes(pyarrow, field.type) for field in kind)


def _is_text(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    if types.is_dictionary(kind):
        return _is_text(pyarrow, kind.value_type)
    return bool(types.is_string(kind) or types.is_large_string(kind))


def _is_scalar(pyarrow: Any, kind: Any) -> bool:
    types = pyarrow.types
    return bool(types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)) or _is_text(pyarrow, kind)


def _listing(schema: Any) -> str:
    return ", ".join(f"{printable(field.name)} {field.type}" for field in schema) or "no column"


def _image_column(path: Path, pyarrow: Any, schema: Any, key: str | None) -> str:
    """The column that holds the images."""
    found = [field.name for field in schema if _is_image(pyarrow, field.type)]
    if key is not None:
        if key not in found:
            raise InputError(path, f"there is no column {key!r} of image files (--key); the file has: {_listing(schema)}")
        return key
    named = [name for name in IMAGE_KEYS if name in found]
    if len(found) > 1 and not named:
        raise InputError(path, f"several columns may be the images: choose one with --key; the file has: {_listing(schema)}")
    if not found:
        raise InputError(path, f"no column of image files; the file has: {_listing(schema)}")
    return str((named or found)[0])


def _label_column(path: Path, pyarrow: Any, schema: Any, key: str | None) -> str | None:
    """The column that holds the labels, if there is one."""
    found = [f.name for f in schema if pyarrow.types.is_integer(f.type) or _is_text(pyarrow, f.type)]
    if key is not None:
        if key not in found:
            raise InputError(path, f"there is no column {key!r} of labels (--label-key); the file has: {_listing(schema)}")
        return key
    return next((name for name in LABEL_KEYS if name in found), None)


def _classes(metadata: Mapping[bytes, bytes], key: str | None) -> list[str]:
    """The names of the classes that integers of the label column stand for; none where the file does not say."""
    try:
        names = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"][key]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return []
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []


def _names(pyarrow: Any, file: Any, key: str, n_rows: int) -> list[str]:
    """The paths of all images, or numbers where these are no names."""
    kind = file.schema_arrow.field(key).type
    if pyarrow.types.is_struct(kind) and any(field.name == "path" and _is_text(pyarrow, field.type) for field in kind):
        names: list[Any] = []
        for batch in file.iter_batches(1 << 16, columns=[f"{key}.path"], use_threads=False):
            names += [value["path"] if value else None for value in batch.column(0).to_pylist()]
        if all(names) and len(set(names)) == len(names) == n_rows:
            return names
    return [numbered_name(index, name_digits(n_rows)) for index in range(n_rows)]
