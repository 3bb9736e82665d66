"""What archives say of their own making, checked: it is a stranger's. And where each of several stands by rate and quality."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batchcodec.report.quality import Report
from batchcodec.report.svg import Curve
from batchcodec.types import JSON

MAX_CODEC = 100
"""Characters of the name of a codec, or of several."""


@dataclass(frozen=True)
class RatePoint:
    """An archive as one point.

    Attributes:
        name: of its file.
        codec: its codecs with their options, as recorded.
        curve: the same without numbers such as the quality: points of one curve share it.
        rate: bytes of the whole file for each image.
        psnr: mean, dB; inf if lossless, None if not known.
        recorded: PSNR is that of packing, and not measured now.
    """

    name: str
    codec: str
    curve: str
    rate: float
    psnr: float | None
    recorded: bool


def rate_point(found: Report) -> RatePoint:
    """Where an archive stands."""
    info, quality = found.info, found.quality
    psnr: float | None = None
    if quality is not None:
        psnr = math.inf if quality.n_equal == quality.n_items else quality.mean_psnr
    elif info.meta.get("lossless") is True:
        psnr = math.inf
    else:
        psnr = recorded_number(info.meta.get("mean_psnr"))
    texts = info.meta.get("codecs")
    ids = [codec.codec_id for codec in info.codecs if codec.n_items]
    names = list(texts) if isinstance(texts, dict) and texts else ids
    codec, curve = _cut(", ".join(names)), _cut(" + ".join(dict.fromkeys(map(_without_numbers, names))))
    return RatePoint(Path(info.path).name, codec, curve, info.n_bytes / max(1, info.n_items), psnr, quality is None)


def _without_numbers(codec: str) -> str:
    """`avif mosaic=true` of `avif:quality=40,mosaic=true`."""
    name, _, options = codec.partition(":")
    kept = [option for option in options.split(",") if not re.fullmatch(r"[a-z_]+=-?[0-9.]+", option)]
    return f"{name} {','.join(kept)}".strip()


def _cut(text: str) -> str:
    return text if len(text) <= MAX_CODEC else text[:MAX_CODEC] + "..."


def rate_curves(points: Sequence[RatePoint]) -> list[Curve]:
    """The points that have a quality, those of one codec as one curve."""
    curves: dict[str, list[RatePoint]] = {}
    for point in points:
        if point.psnr is not None:
            curves.setdefault(point.curve, []).append(point)
    return [
        Curve(name, [(p.rate, p.psnr) for p in found if p.psnr is not None], [p.name for p in found])
        for name, found in curves.items()
    ]


def recorded_number(value: JSON) -> float | None:
    """A finite number, else None."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e6:
        return float(value)
    return None


def recorded_skipped(meta: dict[str, JSON]) -> tuple[int, list[list[str]]]:
    """How many items were left out, and [name, reason] of those that are listed."""
    listed = meta.get("skipped")
    rows = [
        [str(entry.get("item", "")), str(entry.get("reason", ""))]
        for entry in (listed if isinstance(listed, list) else [])
        if isinstance(entry, dict)
    ]
    n = meta.get("n_skipped")
    return max(len(rows), n if type(n) is int and n < 1 << 63 else 0), rows


def recorded_notes(meta: dict[str, JSON]) -> dict[str, int]:
    """What reading and preprocessing changed, with the number of items."""
    notes = meta.get("notes")
    if not isinstance(notes, dict):
        return {}
    return {what: n for what, n in notes.items() if type(n) is int and 0 <= n < 1 << 63}
