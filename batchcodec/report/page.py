"""One HTML document that holds all that it shows: no network, no file beside it. What every page of batchcodec is made with.

    body = section("Sizes", data_table(("label", "images"), [("cat", 3), ("dog", 4)], caption="Labels"))
    Path("page.html").write_text(page("My report", body), encoding="utf-8")

Text that goes into a page is `str`, and is escaped; what is HTML already is `Html`. Names in archives are a stranger's: they go
through `escaped`, or into a table as `str`. A Content-Security-Policy lets run the scripts that are here by their hash, and
nothing else, so a name that slipped through would still do nothing.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files

from batchcodec.report.text import printable

LIGHT = {
    "page": "#ffffff",
    "raised": "#f5f6f8",
    "ink": "#1a1d21",
    "muted": "#59616b",
    "line": "#d9dde2",
    "accent": "#0b5cad",
    "warn": "#a34400",
    "series-1": "#0b6bb8",
    "series-2": "#c2500a",
    "series-3": "#187a55",
    "series-4": "#9a3f94",
    "series-5": "#8a6d00",
    "series-6": "#5b6470",
}
"""CSS custom properties of the light theme; printed pages have it too."""
DARK = {
    "page": "#14171a",
    "raised": "#1e2226",
    "ink": "#e7eaed",
    "muted": "#a3abb5",
    "line": "#353b42",
    "accent": "#74b4f2",
    "warn": "#ffa869",
    "series-1": "#63aef0",
    "series-2": "#f59a57",
    "series-3": "#55c795",
    "series-4": "#dc8fd8",
    "series-5": "#d9bd45",
    "series-6": "#aab2bc",
}
N_SERIES = 6
"""Colours for series: `var(--series-1)` to `var(--series-6)`."""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


@dataclass(frozen=True)
class Number:
    """A cell of a table: what is shown, and the number that its column is sorted by (None comes last)."""

    shown: str
    value: float | None


Cell = str | int | Html | Number


def escaped(text: object) -> Html:
    """Text as HTML, also within quotes; control characters, direction marks among them, are shown as escapes."""
    return Html(html.escape(printable(str(text))))


def markup(value: str) -> Html:
    """`Html` as it is, other text escaped."""
    return value if isinstance(value, Html) else escaped(value)


def number(value: float | None, digits: int = 2) -> Number:
    """A cell with so many decimals; `-` where there is no value, or none that is finite."""
    if value is None or math.isnan(value):
        return Number("-", None)
    if math.isinf(value):
        return Number("∞" if value > 0 else "-∞", math.copysign(1e300, value))
    return Number(f"{value:,.{digits}f}", value)


def joined(parts: Iterable[str]) -> Html:
    """Parts one after the other."""
    return Html("".join(markup(part) for part in parts))


def section(title: str, body: str, *, id: str | None = None) -> Html:
    """A section with a heading; with `id` it can be linked to as `#id`."""
    anchor = f' id="{escaped(id)}"' if id else ""
    return Html(f"<section{anchor}><h2>{markup(title)}</h2>\n{markup(body)}</section>\n")


def figure(content: str, caption: str = "") -> Html:
    """A picture or chart with a line below it."""
    below = f"<figcaption>{markup(caption)}</figcaption>" if caption else ""
    return Html(f"<figure>{markup(content)}{below}</figure>\n")


def grid(parts: Iterable[str]) -> Html:
    """Parts side by side where there is room."""
    return Html(f'<div class="grid">{joined(parts)}</div>\n')


def facts(pairs: Iterable[tuple[str, str]]) -> Html:
    """Names and values below each other."""
    return Html("<dl>" + "".join(f"<div><dt>{markup(k)}</dt><dd>{markup(v)}</dd></div>" for k, v in pairs) + "</dl>\n")


def data_table(header: Sequence[str], rows: Iterable[Sequence[Cell]], *, caption: str, sortable: bool = True) -> Html:
    """A table with a caption that scrolls by itself where it is too wide.

    Args:
        header: names of the columns.
        rows: of cells; `str` is escaped, `int` and `Number` stand at the right.
        caption: what it shows.
        sortable: a click on a column's name sorts by it.
    """
    body = [list(row) for row in rows]
    numeric = [bool(body) and all(isinstance(row[i], int | Number) for row in body) for i in range(len(header))]
    heads = []
    for name, is_number in zip(header, numeric, strict=True):
        kind = ' class="number"' if is_number else ""
        inner = f'<button type="button">{markup(name)}</button>' if sortable and len(body) > 1 else markup(name)
        heads.append(f'<th scope="col"{kind}>{inner}</th>')
    lines = "\n".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in body)
    return Html(
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escaped(_plain(caption))}">'
        f"<table{' data-sortable' if sortable else ''}><caption>{markup(caption)}</caption>"
        f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>\n"
    )


def _plain(text: str) -> str:
    return html.unescape(text) if isinstance(text, Html) else text


def _cell(cell: Cell) -> str:
    if isinstance(cell, int):
        cell = Number(f"{cell:,}", cell)
    if isinstance(cell, Number):
        value = "" if cell.value is None else f' data-value="{cell.value:.17g}"'
        return f'<td class="number"{value}>{escaped(cell.shown)}</td>'
    kind = ' class="long"' if len(cell) > 20 and not isinstance(cell, Html) else ""
    return f"<td{kind}>{markup(cell)}</td>"


def data_block(id: str, value: object) -> Html:
    """JSON for a script to read: `JSON.parse(document.getElementById(id).textContent)`. Nothing in it can end the element."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{escaped(id)}">{text}</script>\n')


def page(title: str, body: str, *, script: str = "", style: str = "", subtitle: str = "") -> str:
    """A whole document.

    Args:
        title: of the document, and its heading.
        body: HTML.
        script: JavaScript of this page. It runs when the document has been read; there are no inline event handlers.
        style: CSS of this page, after the shared one.
        subtitle: a line below the heading.
    """
    scripts = [_asset("page.js"), *([script] if script else [])]
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(_inline(s).encode()).digest()).decode()}'" for s in scripts)
    policy = (
        f"default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src {hashes}; "
        "base-uri 'none'; form-action 'none'"
    )
    ending = "".join(f"<script>{_inline(s)}</script>\n" for s in scripts)
    below = f"<p>{markup(subtitle)}</p>" if subtitle else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escaped(title)}</title>
<link rel="icon" href="data:,">
<style>
{shared_style()}{style}</style>
</head>
<body>
<header><div><h1>{escaped(title)}</h1>{below}</div>
<button type="button" id="theme" hidden>Dark</button></header>
<main>
{markup(Html(body))}</main>
{ending}</body>
</html>
"""


def shared_style() -> str:
    """The CSS that all pages have: colours of both themes as custom properties, and the rules."""
    light, dark = (" ".join(f"--{name}: {value};" for name, value in theme.items()) for theme in (LIGHT, DARK))
    return (
        f":root {{ color-scheme: light; {light} }}\n"
        f"@media screen {{ :root[data-theme=dark] {{ color-scheme: dark; {dark} }} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ "
        f":root:not([data-theme=light]) {{ color-scheme: dark; {dark} }} }}\n" + _asset("page.css")
    )


def _asset(name: str) -> str:
    return files("batchcodec.report").joinpath(name).read_text(encoding="utf-8")


def _inline(script: str) -> str:
    """A script as the body of an element that it cannot end."""
    return "\n" + script.replace("</", "<\\/")
