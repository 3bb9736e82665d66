"""Points that are measured, kept in a file as they come: a comparison that was killed goes on where it was."""

from __future__ import annotations

import os
from dataclasses import asdict, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from batchcodec import disk, journal
from batchcodec.comparing.curves import Point
from batchcodec.errors import OptionError, OutputError


class Kept:
    """A journal of points. Its first line says what they were measured on; points of anything else are refused.

    Args:
        path: the file, new or old; None keeps nothing.
        about: what the points were measured on, by name, JSON values.
        anew: drop what an old file holds.

    Raises:
        OptionError: the file is of another sample or other options, or is no such journal.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path | None, about: dict[str, Any], *, anew: bool = False) -> None:
        self._path, self._about = path, about
        self._points: dict[str, Point] = {}
        self._file: int | None = None
        if path is None:
            return
        try:
            data = b"" if anew or not path.exists() else path.read_bytes()
            records = journal.parsed(data)
            if data:
                self._check(path, records)
            good = b"".join(map(journal.packed, records))  # without the line that a crash tore
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | (0 if data else os.O_TRUNC), 0o666)
            os.ftruncate(self._file, len(good))
            self._end = len(good)
        except OSError as exc:
            raise OutputError(path, exc.strerror or str(exc)) from exc
        for record in records[1:]:
            if set(record) == {"text", "point"} and set(record["point"]) <= {field.name for field in fields(Point)}:
                self._points[record["text"]] = Point(**record["point"])
        if not records:
            self._append({"compare": about})

    def _check(self, path: Path, records: list[dict[str, Any]]) -> None:
        earlier = records[0].get("compare") if records else None
        if not isinstance(earlier, dict):
            raise OptionError("journal", str(path), "a journal of `compare`, or a new file; this file is neither")
        different = [name for name in sorted({*earlier, *self._about}) if earlier.get(name) != self._about.get(name)]
        if different:
            raise OptionError(
                "journal",
                str(path),
                f"a journal of the same {', '.join(different)}: it was measured with another. "
                "Take another file, or --force to begin anew",
            )

    def __len__(self) -> int:
        return len(self._points)

    def get(self, text: str) -> Point | None:
        """The point of a codec text, if it was measured."""
        return self._points.get(text)

    def add(self, text: str, point: Point) -> None:
        """Keep a point; it is on the disk when this returns. One that is kept already stays."""
        if text in self._points:
            return
        self._points[text] = point
        self._append({"text": text, "point": asdict(point)})

    def _append(self, record: dict[str, Any]) -> None:
        if self._file is None or self._path is None:
            return
        line = journal.packed(record)
        try:
            disk.write_all(self._file, line, self._end)
            disk.sync(self._file)
        except OSError as exc:
            raise OutputError(self._path, exc.strerror or str(exc)) from exc
        self._end += len(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the file; if there was an error, it says that the points are kept."""
        if self._file is not None:
            os.close(self._file)
            if error is not None and self._points:
                error.add_note(f"{len(self._points)} points are kept in {self._path}; the same command goes on")
