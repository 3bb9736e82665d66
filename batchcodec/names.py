"""Names of items: which may become file names. Others are refused when packing, so that whatever is packed can be unpacked."""

from __future__ import annotations

import os
import re
from pathlib import Path

from batchcodec.archive.directory import MAX_NAME_BYTES
from batchcodec.errors import UnsafeNameError

MAX_COMPONENT_BYTES = 255
"""Longest file name, in bytes of UTF-8, that the usual file systems take."""

# A newline, a tab or a carriage return is legal in a file name and round-trips; the rest only confuses terminals.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# What nearly all names are: allowed at a glance, if they are no longer than one component may be.
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*")
_DRIVE = re.compile(r"[A-Za-z]:")


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
    if len(name) <= MAX_COMPONENT_BYTES and _PLAIN.fullmatch(name):
        return None
    if not name:
        return "the name is empty"
    if not is_utf8(name):
        return "the name is not valid Unicode"
    if len(name.encode()) > MAX_NAME_BYTES:
        return f"the name has more than {MAX_NAME_BYTES} bytes"
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
