"""Names of image files: which there are, which are free, and the labels that folders imply."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from batchcodec.names import MAX_COMPONENT_BYTES

# fmt: off
IMAGE_SUFFIXES = frozenset((
    ".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".heic", ".heif", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpe",
    ".jpeg", ".jpf", ".jpg", ".jpx", ".jxl", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".qoi", ".tga",
    ".tif", ".tiff", ".webp",
))
# fmt: on
"""Suffixes of files that count as images: what they hold is told by their content, and one that cannot be read is an error."""


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
