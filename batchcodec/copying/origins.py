"""META of an archive whose groups come from others: what stays true of the whole, and where its parts are from.

What is true of all parts is said of the whole: equal ways of reading and preprocessing, sums of counts and bytes, means of
PSNR. What is not the same in all parts, or has a meaning that is not known here, is said of each part in `merged_from`. What
is not known of every part and can only be said of the whole is left out: a missing figure is better than a wrong one.

META comes from strangers: every value has its type checked, and one that does not fit counts as missing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from batchcodec.archive.directory import Row
from batchcodec.archive.reader import NOTES
from batchcodec.archive.wire import MAX_JSON, Malformed, pack_json
from batchcodec.metrics import LOSSLESS_PSNR
from batchcodec.pack import MAX_LISTED
from batchcodec.types import JSON
from batchcodec.version import __version__

_HOW = ("source_format", "format_options", "preprocess")
"""How the dataset was read: true of the whole if it is the same in all parts."""
_OF_THE_WHOLE = ("codecs", "source_bytes", "mean_psnr", "pooled_psnr", "lossless", "notes", "n_skipped", "skipped")
"""What is counted or measured over all items: says nothing of a part's parts."""
_OWN = ("created_by", "merged_from", "selected_from")
MAX_ORIGINS_BYTES = 1 << 22
"""Of `merged_from` as JSON; above that its entries keep their counts only."""


@dataclass(frozen=True)
class Part:
    """What is known of an archive that becomes part of another.

    Attributes:
        name: of the file.
        n_items: images that are taken.
        n_samples: of these images together.
        meta: of the archive.
        notes: what reading the source changed, with the number of the taken items.
    """

    name: str
    n_items: int
    n_samples: int
    meta: Mapping[str, JSON] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict)


def merged_meta(parts: Sequence[Part]) -> dict[str, JSON]:
    """META of an archive of all items of several."""
    parts = [_storable(part) for part in parts]
    meta: dict[str, JSON] = {"created_by": f"batchcodec {__version__}"}
    for key in _HOW:
        values = [part.meta.get(key) for part in parts]
        if values[0] is not None and all(value == values[0] for value in values):
            meta[key] = values[0]
    meta["notes"] = dict(sorted(sum((Counter(part.notes) for part in parts), Counter[str]()).items()))
    codecs = _all(parts, "codecs", _is_count)
    if codecs is not None:
        meta["codecs"] = dict(sorted(sum(map(Counter, codecs), Counter[str]()).items()))
    for key in ("source_bytes", "n_skipped"):
        numbers = _all(parts, key, _is_number)
        if numbers is not None:
            meta[key] = sum(numbers)
    if (lists := _all(parts, "skipped", lambda value: isinstance(value, list))) is not None:
        meta["skipped"] = [item for items in lists for item in items][:MAX_LISTED]
    meta |= _quality(parts)
    meta["merged_from"] = _origins(parts, meta.keys())
    for key in ("skipped", "merged_from"):  # the longest ones, where there is too much to tell
        if len(pack_json(meta)) > MAX_JSON:
            del meta[key]
    return meta


def selected_meta(part: Part, n_total: int, codecs: Mapping[str, int] | None) -> dict[str, JSON]:
    """META of an archive of some items of another.

    Args:
        part: the archive, and what is taken of it.
        n_total: its items.
        codecs: codecs of the taken items by their text, with their number, where that is known.
    """
    known = _storable(part).meta
    meta: dict[str, JSON] = {"created_by": f"batchcodec {__version__}"}
    meta |= {key: known[key] for key in _HOW if key in known}
    meta["notes"] = dict(sorted(part.notes.items()))
    if codecs is not None:
        meta["codecs"] = dict(sorted(codecs.items()))
    if known.get("lossless") is True:  # then all of its parts are
        meta |= {"lossless": True, "mean_psnr": LOSSLESS_PSNR, "pooled_psnr": LOSSLESS_PSNR}
    rest = {key: value for key, value in known.items() if key not in (*_HOW, *_OF_THE_WHOLE, *_OWN)}
    origin: dict[str, JSON] = {"archive": part.name, "items": n_total, **({"meta": rest} if rest else {})}
    meta["selected_from"] = origin
    if len(pack_json(meta)) > MAX_JSON:
        origin.pop("meta")
    return meta


def single_codec(meta: Mapping[str, JSON]) -> str | None:
    """The codec that all images were coded with, as it was asked for, if META says so."""
    codecs = meta.get("codecs")
    return next(iter(codecs)) if _is_count(codecs) and isinstance(codecs, dict) and len(codecs) == 1 else None


def notes_of(rows: Iterable[Row]) -> Iterator[str]:
    """What reading the source changed about items, a word for each change."""
    for row in rows:
        notes = row.attributes.get(NOTES)
        if isinstance(notes, list):
            yield from (note for note in notes if isinstance(note, str))


def _quality(parts: Sequence[Part]) -> dict[str, JSON]:
    """PSNR of the whole from those of its parts: a mean over items, and one of the mean squared error over samples."""
    found: dict[str, JSON] = {}
    lossless = [part.meta.get("lossless") for part in parts]
    if False in lossless:
        found["lossless"] = False
    elif all(value is True for value in lossless):
        found["lossless"] = True
    means = _all(parts, "mean_psnr", _is_psnr)
    if means is not None:
        total = sum(mean * part.n_items for mean, part in zip(means, parts, strict=True))
        found["mean_psnr"] = round(total / sum(part.n_items for part in parts), 4)
    pooled = _all(parts, "pooled_psnr", _is_psnr)
    if pooled is not None:
        error = sum(10 ** (-psnr / 10) * part.n_samples for psnr, part in zip(pooled, parts, strict=True))
        found["pooled_psnr"] = round(min(LOSSLESS_PSNR, -10 * math.log10(error / sum(part.n_samples for part in parts))), 4)
    return found


def _origins(parts: Sequence[Part], said: Any) -> list[JSON]:
    """An entry for each part. A part that was merged itself gives its own entries, so that merging often does not nest."""
    origins: list[dict[str, JSON]] = []
    for part in parts:
        rest = {k: v for k, v in part.meta.items() if k not in said and k not in (*_OF_THE_WHOLE, *_OWN)}
        before = part.meta.get("merged_from")
        if isinstance(before, list) and before and all(_is_origin(entry) for entry in before):
            entries = [dict(entry) for entry in before if isinstance(entry, dict)]
        else:
            entries = [{"archive": part.name, "items": part.n_items, "created_by": str(part.meta.get("created_by"))[:100]}]
        for entry in entries:
            own = entry.get("meta")
            if rest or own:
                entry["meta"] = {**rest, **(own if isinstance(own, dict) else {})}
        origins += entries
    origins = origins[:MAX_LISTED]
    if len(pack_json({"origins": list(origins)})) > MAX_ORIGINS_BYTES:
        origins = [{key: entry[key] for key in ("archive", "items")} for entry in origins]
    return list(origins)


def _storable(part: Part) -> Part:
    """The part without META that is nested so deep that it cannot stand some levels deeper."""
    good: dict[str, JSON] = {}
    for key, value in part.meta.items():
        deep: JSON = value
        for _ in range(6):  # as in `merged_from`, entry, `meta`, twice
            deep = [deep]
        try:
            pack_json({key: deep})
        except Malformed:
            continue
        good[key] = value
    return Part(part.name, part.n_items, part.n_samples, good, part.notes)


def _all(parts: Sequence[Part], key: str, fits: Callable[[Any], bool]) -> list[Any] | None:
    """The values of a key, if all parts have one that fits."""
    values = [part.meta.get(key) for part in parts]
    return values if all(map(fits, values)) else None


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _is_count(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_psnr(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= LOSSLESS_PSNR


def _is_origin(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("archive"), str) and _is_number(value.get("items"))
