"""An item for a terminal: its facts, and a picture of half blocks. What comes from the archive is shown, never sent."""

from __future__ import annotations

import json

import numpy as np

from batchcodec import display
from batchcodec.preprocess import to_channels
from batchcodec.report.item import ItemInfo
from batchcodec.report.text import printable, size
from batchcodec.types import Pixels

_MAX_TEXT = 200
"""Characters of an attribute that are shown: EXIF and ICC profiles are long."""


def item_text(info: ItemInfo) -> str:
    """Facts of an item, one a line."""
    rows = [
        ("name", info.name),
        ("number", f"#{info.index:,}"),
        ("label", "-" if info.label is None else info.label),
        ("image", info.image),
        ("bytes", f"{info.n_bytes:,.1f}, its share of the group; {size(info.raw_bytes)} of pixels"),
        ("group", f"{info.group:,}: {info.group_items:,} image{'s' * (info.group_items != 1)} in {size(info.group_bytes)}"),
        ("codec", f"{info.codec_text}{'' if info.exact else ' (exact: false)'}"),
    ]
    rows += [("note", note) for note in info.notes]
    for key, value in info.attributes.items():
        text = value if isinstance(value, str) else json.dumps(value)
        more = f"... ({len(text):,} characters)" if len(text) > _MAX_TEXT else ""
        rows.append((printable(key), text[:_MAX_TEXT] + more))
    width = max(len(key) for key, _ in rows)
    return "\n".join(f"{key:<{width}}  {printable(value)}" for key, value in rows)


def half_blocks(pixels: Pixels, columns: int, lines: int, *, truecolor: bool = True) -> str:
    """An image for a colour terminal: each character is two pixels, one above the other.

    Args:
        pixels: uint8 or uint16 [H, W, C]; alpha is put over white.
        columns: characters of a line that there are; small images are magnified by a whole factor.
        lines: that there are.
        truecolor: 24 bits a colour, or the 6x6x6 colours that any colour terminal has.
    """
    rgb = to_channels(display.shown(pixels), 3)
    rgb = display.fitted(rgb, columns, 2 * lines)
    factor = min(columns // rgb.shape[1], 2 * lines // rgb.shape[0], 64 // max(rgb.shape[:2]))
    if factor > 1:
        rgb = rgb.repeat(factor, axis=0).repeat(factor, axis=1)
    odd = rgb.shape[0] % 2
    rows = []
    for upper in range(0, rgb.shape[0], 2):
        above = [_colour(pixel, truecolor) for pixel in rgb[upper].tolist()]
        if odd and upper == rgb.shape[0] - 1:
            rows.append("".join(f"\x1b[38;{colour}m\u2580" for colour in above) + "\x1b[0m")
            continue
        below = [_colour(pixel, truecolor) for pixel in rgb[upper + 1].tolist()]
        cells = (f"\x1b[38;{a};48;{b}m\u2580" for a, b in zip(above, below, strict=True))
        rows.append("".join(cells) + "\x1b[0m")
    return "\n".join(rows)


def _colour(rgb: list[int], truecolor: bool) -> str:
    """What follows 38 or 48 in a Select Graphic Rendition sequence (ECMA-48 8.3.117, ITU-T T.416)."""
    if truecolor:
        return "2;{};{};{}".format(*rgb)
    red, green, blue = (int(np.clip(round((value - 55) / 40), 1, 5)) if value > 47 else 0 for value in rgb)
    return f"5;{16 + 36 * red + 6 * green + blue}"
