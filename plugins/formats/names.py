"""Names of items: which may become files, how they are shown, and the labels that folders imply."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from batchcodec.errors import UnsafeNameError

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpe",
    ".jpeg", ".jpf", ".jpg", ".jpx", ".jxl", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga",
    ".tif", ".tiff", ".webp",
))
# fmt: on
"""Suffixes of files that count as images: what they hold is told by their content, and one that cannot be read is an error."""

MAX_COMPONENT_BYTES = 255
"""Longest file name, in bytes of UTF-8, that the usual file systems take."""

# A newline, a tab or a carriage return is legal in a file name and round-trips; the rest only confuses terminals.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_DRIVE = re.compile(r"[A-Za-z]:")


def has_image_suffix(name: str) -> bool:
    """Whether the last suffix of the name is that of an image file."""
    return split_suffix(name)[1].lower() in IMAGE_SUFFIXES


def split_suffix(name: str) -> tuple[str, str]:
    """`dir/a.b.png` -> (`dir/a.b`, `.png`); a leading dot of the last component starts no suffix."""
    head, slash, last = name.rpartition("/")
    stem, dot, suffix = last.rpartition(".")
    if not dot or not stem.strip("."):
        return name, ""
    return head + slash + stem, dot + suffix


def is_hidden(name: str) -> bool:
    """Whether a component starts with a dot, as in `.cache/a.png` or macOS's `._a.png`."""
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def printable(name: str) -> str:
    r"""The name for a message: bytes that are not UTF-8 appear as `\xff`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def is_utf8(name: str) -> bool:
    """Whether the name, as the operating system gave it, is valid UTF-8."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def unsafe_reason(name: str) -> str | None:
    """Why the name must not become a file name, or None if it may.

    Allowed are relative names with `/` whose components are not empty, `.` or `..` and have at most 255 bytes of UTF-8.
    Refused are backslashes, drive letters and control characters other than newline, tab and carriage return.
    """
    if not name:
        return "the name is empty"
    if not is_utf8(name):
        return "the name is not valid Unicode"
    if name.startswith("/") or _DRIVE.match(name):
        return "the name is absolute"
    if "\\" in name:
        return "the name has a backslash"
    if _CONTROL.search(name):
        return "the name has a control character"
    for part in name.split("/"):
        if not part:
            return "the name has an empty component"
        if part in (".", ".."):
            return f"the name has the component {part!r}"
        if len(part.encode()) > MAX_COMPONENT_BYTES:
            return f"the name has a component of more than {MAX_COMPONENT_BYTES} bytes"
    return None


def check_name(path: Path, name: str) -> None:
    """Raise `UnsafeNameError` if an item's name must not become a file name."""
    reason = unsafe_reason(name)
    if reason is not None:
        raise UnsafeNameError(path, printable(name) if not is_utf8(name) else name, reason)


def label_folder(label: str) -> str:
    """The label as a folder name: separators, control characters and a leading dot become `_`, at most 255 bytes."""
    safe = re.sub(r"[\x00-\x1f\x7f/\\:]", "_", label.encode("utf-8", "replace").decode())
    safe = re.sub(r"^\.", "_", safe) or "_"
    return safe.encode()[:MAX_COMPONENT_BYTES].decode("utf-8", "ignore")


def candidates(stem: str, old_suffix: str, suffix: str) -> Iterator[str]:
    """Output names for an item in the order of preference: `a.png`, then `a.jpg.png`, then `a.jpg.2.png` and so on."""
    yield stem + suffix
    yield stem + old_suffix + suffix if old_suffix else f"{stem}.1{suffix}"
    number = 2
    while True:
        yield f"{stem}{old_suffix}.{number}{suffix}"
        number += 1


def common_depth(names: Iterable[str]) -> int:
    """How many leading folders all names share."""
    shared: list[str] | None = None
    for name in names:
        folders = name.split("/")[:-1]
        if shared is None:
            shared = folders
            continue
        same = 0
        for left, right in zip(shared, folders, strict=False):
            if left != right:
                break
            same += 1
        del shared[same:]
    return len(shared or ())


def folder_label(name: str, depth: int) -> str | None:
    """The first folder below the `depth` folders that all images share; None for an image that lies in the last of these."""
    parts = name.split("/")
    return parts[depth] if len(parts) > depth + 1 else None
