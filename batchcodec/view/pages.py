"""What the page is answered, by path and query, without a word of HTTP: files of the page, JSON, and pictures.

    ""              the page; its other files by their names
    archive         what the archive is
    labels          the labels, with the number of items of each
    items           names and labels of some items of those that are looked for: name, label, unlabelled, from, count
    thumbnails      small pictures: items=1,2,3 and side. u32 length of a JSON array, that array, the PNG files after each other
    item            what is known of one item: index
    quality         of that item beside its original
    picture         of that item: kind (decoded, original, difference) and gain

Items go by their places in the dataset, from 0. All text in JSON is as strangers wrote it: the page sets it as text only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import struct
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path

from batchcodec import display
from batchcodec.archive.reader import Archive
from batchcodec.errors import BatchcodecError, ItemNotFoundError, OptionError
from batchcodec.report.item import item_info
from batchcodec.report.originals import Originals
from batchcodec.report.page import theme_style
from batchcodec.view.catalogue import MAX_QUERY, Catalogue, Query
from batchcodec.view.pair import MAX_SIDE, Pairs, full_png
from batchcodec.view.thumbnails import Thumbnails

FILES = {
    "page.html": "text/html; charset=utf-8",
    "view.css": "text/css; charset=utf-8",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(("view.js", "grid.js", "detail.js", "server.js"), "text/javascript; charset=utf-8"),
}
"""The files of the page, and their types."""
MAX_ITEMS = 512
"""Items of one answer."""
MAX_LABELS = 5000
MAX_ATTRIBUTES, MAX_TEXT = 200, 2000
"""Attributes of an item that are sent, and characters of each."""

Parameters = Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What is sent: a status of HTTP, the type of the body, and the body."""

    status: int
    kind: str
    body: bytes


def json_answer(value: object, status: int = 200) -> Answer:
    """JSON in ASCII."""
    return Answer(status, "application/json", json.dumps(value).encode())


def error_answer(status: int, message: str) -> Answer:
    """An error for the page to show."""
    return json_answer({"error": message}, status)


class Pages:
    """Answers for an open archive. `answer` may be called from several threads.

    Args:
        archive: it stays open while this is used.
        originals: the dataset that was packed, to compare with.
    """

    def __init__(self, archive: Archive, originals: Originals | None = None) -> None:
        self._archive, self._originals = archive, originals
        self.catalogue = Catalogue(archive)
        self._thumbnails = Thumbnails(archive)
        self._pairs = Pairs(archive, originals)
        folder = resources.files("batchcodec.view") / "assets"
        self._files = {name: Answer(200, kind, (folder / name).read_bytes()) for name, kind in FILES.items()}
        self._files["theme.css"] = Answer(200, FILES["view.css"], theme_style().encode())
        self._files[""] = self._files["page.html"]
        self._routes: dict[str, Callable[[Parameters], Answer]] = {
            "archive": self._about,
            "labels": self._labels,
            "items": self._items,
            "thumbnails": self._small,
            "item": self._item,
            "quality": self._quality,
            "picture": self._picture,
        }

    def close(self) -> None:
        """Stop drawing."""
        self._thumbnails.close()

    def answer(self, path: str, parameters: Parameters) -> Answer:
        """The answer to a request; errors are answers too."""
        if path in self._files:
            return self._files[path]
        if path not in self._routes:
            return error_answer(404, "there is no such page")
        try:
            return self._routes[path](parameters)
        except OptionError as exc:
            return error_answer(400, str(exc))
        except ItemNotFoundError as exc:
            return error_answer(404, str(exc))
        except BatchcodecError as exc:
            return error_answer(500, str(exc))

    # ---- routes

    def _about(self, parameters: Parameters) -> Answer:
        archive = self._archive
        about = {"name": archive.path.name, "n_items": len(archive), "n_groups": archive.n_groups, "n_bytes": archive.n_bytes}
        against = None if self._originals is None else str(self._originals.source)
        return json_answer({**about, "against": against})

    def _labels(self, parameters: Parameters) -> Answer:
        labels = self.catalogue.labels()
        if len(labels) > MAX_LABELS:  # those of most items
            labels = sorted(sorted(labels, key=lambda label: -label[1])[:MAX_LABELS])
        n_labels = len(self._archive.classes)
        return json_answer({"labels": labels, "n_labels": n_labels, "n_unlabelled": self.catalogue.n_unlabelled()})

    def _items(self, parameters: Parameters) -> Answer:
        name = parameters.get("name", "")
        if len(name) > MAX_QUERY:
            raise OptionError("name", f"{name[:20]}...", f"at most {MAX_QUERY} characters")
        found = self.catalogue.find(Query(name, parameters.get("label"), parameters.get("unlabelled") == "1"))
        total = len(self._archive) if found is None else len(found)
        start, count = _integer(parameters, "from", 0, total, 0), _integer(parameters, "count", 0, MAX_ITEMS, 64)
        places = range(start, min(total, start + count))
        indices = list(places) if found is None else found[places.start : places.stop].tolist()
        rows = ((index, self._archive.row(index)) for index in indices)
        items = [{"index": index, "name": row.name, "label": row.label} for index, row in rows]
        return json_answer({"total": total, "from": start, "items": items})

    def _small(self, parameters: Parameters) -> Answer:
        try:
            indices = [int(text) for text in parameters.get("items", "").split(",") if text]
        except ValueError:
            raise OptionError("items", parameters["items"][:40], "numbers such as 1,2,3") from None
        if len(indices) > MAX_ITEMS:
            raise OptionError("items", f"{len(indices)} numbers", f"at most {MAX_ITEMS}")
        for index in indices:
            self._check(index)
        side = _integer(parameters, "side", 8, 1024, 128)
        drawn = self._thumbnails.of(indices, side)
        head = json.dumps([{"bytes": len(small.png), "error": small.error} for small in drawn]).encode()
        body = b"".join([struct.pack("<I", len(head)), head, *(small.png for small in drawn)])
        return Answer(200, "application/octet-stream", body)

    def _item(self, parameters: Parameters) -> Answer:
        info = item_info(self._archive, self._index(parameters))
        fields = {field.name: getattr(info, field.name) for field in dataclasses.fields(info)}
        window = None
        if info.dtype != "uint8":
            with contextlib.suppress(BatchcodecError):  # asking for the picture tells what is wrong
                found = display.window_of(self._pairs.decoded(info.index))
                window = [found.low, found.high]
        texts = [
            (key[:MAX_TEXT], value if isinstance(value, str) else json.dumps(value)) for key, value in info.attributes.items()
        ]
        fields["attributes"] = [(key, text[:MAX_TEXT], len(text)) for key, text in texts[:MAX_ATTRIBUTES]]
        del fields["codec_options"]
        fields["codec"] = info.codec_text[:MAX_TEXT]
        return json_answer({**fields, "window": window, "reduced": max(info.width, info.height) > MAX_SIDE})

    def _quality(self, parameters: Parameters) -> Answer:
        pair = self._pairs[self._index(parameters)]
        quality = pair.quality()
        return json_answer({"quality": quality and dataclasses.asdict(quality), "reason": pair.reason})

    def _picture(self, parameters: Parameters) -> Answer:
        index, kind = self._index(parameters), parameters.get("kind", "decoded")
        gain = _integer(parameters, "gain", 1, 256, 8)
        if kind not in ("decoded", "original", "difference"):
            raise OptionError("kind", kind, "decoded, original or difference")
        if kind == "decoded":
            body: bytes | None = full_png(display.shown(self._pairs.decoded(index)))
        else:
            pair = self._pairs[index]
            body = pair.original_png() if kind == "original" else pair.difference_png(gain)
        return error_answer(404, "there is no original to compare with") if body is None else Answer(200, "image/png", body)

    # ---- parameters

    def _index(self, parameters: Parameters) -> int:
        return self._check(_integer(parameters, "index", -(1 << 62), 1 << 62, None))

    def _check(self, index: int) -> int:
        if not 0 <= index < len(self._archive):
            raise ItemNotFoundError(self._archive.path, f"there is no item #{index}, it has {len(self._archive):,} (from #0)")
        return index


def _integer(parameters: Parameters, name: str, least: int, most: int, default: int | None) -> int:
    """A parameter as a number.

    Raises:
        OptionError: it is none, or out of range, or missing without a default.
    """
    text = parameters.get(name)
    if text is None and default is not None:
        return default
    if text is None or not text.removeprefix("-").isdecimal() or not text.isascii() or len(text) > 20:
        raise OptionError(name, text and text[:40], "a number")
    value = int(text)
    if not least <= value <= most:
        raise OptionError(name, value, f"{least} to {most}")
    return value


def open_originals(archive: Archive, against: Path, format_id: str | None) -> Originals:
    """The dataset that the archive was packed from. Raises `InputError` if it is none."""
    from batchcodec.registry import registry

    return Originals(archive, against, format_id, registry())
