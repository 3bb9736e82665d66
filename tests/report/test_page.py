"""The page shell and its charts: escaping, hashes of scripts, tables; charts that are well-formed whatever the numbers."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchcodec.report import page as pages
from batchcodec.report.page import Html, Number, data_block, data_table, escaped, facts, figure, number, page, section
from batchcodec.report.svg import Curve, breakdown, histogram, rate_distortion

HOSTILE = "</script><script>x</script>\"'><img src=x onerror=x>&\u202e\u2066\x00\x1b[2J\ud800"


def _parsed(html: str) -> ElementTree.Element:
    """As XML, which is stricter than a browser; an HTML file is none, but a fragment of ours with closed elements is."""
    text = re.sub(r"<(img|meta|link)([^>]*)>", r"<\1\2/>", html)
    text = re.sub(r"<(table|div|button)([^>]*) (data-sortable|hidden)(?=[ >])", r'<\1\2 \3=""', text)
    return ElementTree.fromstring(f"<body>{text}</body>")


@given(st.text())
def test_escaped_text_is_text(text: str) -> None:
    shown = escaped(text)
    element = _parsed(f'<p title="{shown}">{shown}</p>')[0]
    assert len(element) == 0
    assert element.text in (element.get("title"), None)
    assert not re.search("[<>\"']", shown)
    assert all(c.isprintable() for c in shown)


def test_every_helper_escapes_text_and_keeps_html() -> None:
    for made in (
        section(HOSTILE, HOSTILE, id=HOSTILE),
        figure(HOSTILE, HOSTILE),
        facts([(HOSTILE, HOSTILE)]),
        data_table([HOSTILE], [[HOSTILE], [HOSTILE]], caption=HOSTILE),
        breakdown([(HOSTILE, 1.0), (HOSTILE, 2.0)]),
        histogram([1, 2], [0, 1, 2], x_label=HOSTILE, marks=[(HOSTILE, 1)], unit=HOSTILE),
        rate_distortion([Curve(HOSTILE, [(1, 30), (2, 35)], [HOSTILE, HOSTILE])], x_label=HOSTILE, y_label=HOSTILE),
    ):
        root = _parsed(made)
        assert not root.findall(".//script")
        assert not root.findall(".//img")
        assert "\u202e" not in made
    assert section("a", Html("<b>x</b>")).count("<b>x</b>") == 1


def test_scripts_are_those_that_the_policy_names() -> None:
    text = page(HOSTILE, "", script="const closing = '</script>';", subtitle=HOSTILE)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1]
    assert "unsafe-inline" not in policy[1].partition("script-src")[2]
    assert not re.search(r"\son\w+=", re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL).replace("onerror=x", ""))


def test_nothing_in_a_page_points_outside() -> None:
    text = page("x", section("y", "z"))
    assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
    assert not re.findall(r"url\(|@import|https?://", text)


def test_data_blocks_hold_any_text() -> None:
    value = {"a": [HOSTILE.replace("\ud800", ""), "<!--", 1.5, None]}
    block = data_block("d", value)
    inner = block.partition(">")[2].rpartition("</script>")[0]
    assert json.loads(inner) == value
    assert "<" not in inner
    with pytest.raises(ValueError, match="not JSON compliant"):
        data_block("d", math.inf)


def test_cells() -> None:
    assert number(1234.567) == Number("1,234.57", 1234.567)
    assert (number(None).value, number(math.nan).value, number(None).shown) == (None, None, "-")
    assert number(math.inf).shown == "∞"
    table = _parsed(data_table(("a", "b"), [("x", 12_345), ("y", 7)], caption="c"))
    cells = table.findall(".//td")
    assert [cell.text for cell in cells] == ["x", "12,345", "y", "7"]
    assert [cell.get("data-value") for cell in cells] == [None, "12345", None, "7"]
    assert len(table.findall(".//th/button")) == 2
    assert not _parsed(data_table(("a",), [("x",), ("y",)], caption="c", sortable=False)).findall(".//button")


def test_themes_have_the_same_colours() -> None:
    assert pages.LIGHT.keys() == pages.DARK.keys()
    assert [name for name in pages.LIGHT if name.startswith("series-")] == [f"series-{i + 1}" for i in range(pages.N_SERIES)]


def _coordinates(svg: str) -> list[float]:
    return [float(v) for v in re.findall(r'(?:x|y|x1|x2|y1|y2|cx|cy|width|height)="(-?[\d.einf]+)"', svg)]


@example([[(1.0, 0.0), (1.0, 9.4e-191)]])
@example([[(1.0, 30.0), (1.0, 30.0 + 1e-14)]])
@given(
    st.lists(
        st.lists(st.tuples(st.floats(-10, 1e16), st.one_of(st.floats(-50, 120), st.just(math.inf), st.just(math.nan)))),
        max_size=9,
    )
)
def test_rate_distortion_of_any_numbers(curves: list[list[tuple[float, float]]]) -> None:
    svg = rate_distortion([Curve(f"codec {i}", points) for i, points in enumerate(curves)])
    drawn = [p for points in curves for p in points if 1e-6 <= p[0] <= 1e15 and not math.isnan(p[1])]
    if not drawn:
        assert svg == ""
        return
    root = _parsed(svg)
    assert "nan" not in svg.replace("nan_", "")
    assert all(math.isfinite(v) and -20 <= v <= 1000 for v in _coordinates(svg))
    assert len(root.findall(".//g/g/title")) == len(drawn)


def test_rate_distortion_puts_points_where_they_belong() -> None:
    svg = rate_distortion([Curve("a", [(100, 30), (1000, 40), (10, 35)])])
    places = [(float(x), float(y)) for x, y in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="4"/><title>', svg)]
    (x10, y35), (x100, y30), (x1000, y40) = places  # in the order of rates
    assert x1000 - x100 == pytest.approx(x100 - x10, abs=0.2)  # logarithmic
    assert y30 - y35 == pytest.approx(y35 - y40, abs=0.2)
    assert y40 < y30


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50), st.floats(-1e3, 1e3), st.floats(1e-6, 1e6))
def test_histogram_of_any_numbers(counts: list[int], low: float, span: float) -> None:
    edges = [low + span * i / len(counts) for i in range(len(counts) + 1)]
    svg = histogram(counts, edges, x_label="x", marks=[("median", low + span / 2)])
    root = _parsed(svg)
    bars = root.findall(".//rect")
    assert len(bars) == sum(count > 0 for count in counts)
    assert all(math.isfinite(v) and -20 <= v <= 1000 for v in _coordinates(svg))
    heights = [float(bar.get("height", "")) for bar in bars]
    by_count = sorted(zip([c for c in counts if c], heights, strict=True))
    assert [h for _, h in by_count] == sorted(heights)


@given(st.lists(st.floats(0, 1e12), max_size=12))
def test_breakdown_fills_its_bar(values: list[float]) -> None:
    svg = breakdown([(f"part {i}", v) for i, v in enumerate(values)])
    if not sum(values):
        assert svg == ""
        return
    widths = [float(bar.get("width", "")) for bar in _parsed(svg).findall(".//rect")]
    assert sum(widths) == pytest.approx(1000, abs=0.1)
    assert len(widths) == sum(v > 0 for v in values)
