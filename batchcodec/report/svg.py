"""Charts as inline SVG for `page`: they take their colours from the page's custom properties, so they have its theme.

A chart is described in its `<title>`, each mark says its values in one of its own, and no series is told by colour alone:
markers differ too, and names stand beside them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchcodec.report.page import N_SERIES, Html, escaped, joined

_MARKERS: tuple[Callable[[float, float], str], ...] = (
    lambda x, y: f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
    lambda x, y: f'<rect x="{x - 3.5:.1f}" y="{y - 3.5:.1f}" width="7" height="7"/>',
    lambda x, y: f'<path d="M{x:.1f} {y - 5:.1f}l5 9h-10z"/>',
    lambda x, y: f'<path d="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5 -5z"/>',
    lambda x, y: f'<path d="M{x:.1f} {y + 5:.1f}l5 -9h-10z"/>',
    lambda x, y: f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="currentColor" stroke-width="2"/>',
)
_LEAST_RATE, _MOST_RATE = 1e-6, 1e15


@dataclass(frozen=True)
class Curve:
    """Points of one codec.

    Attributes:
        name: as it is shown; escaped.
        points: (rate, quality): rate in the unit of the axis, above 0; quality in dB, inf for no loss.
        labels: a word for each point, such as its setting; shown when it is pointed at.
    """

    name: str
    points: Sequence[tuple[float, float]]
    labels: Sequence[str] = ()


def rate_distortion(
    curves: Sequence[Curve],
    *,
    x_label: str = "bytes per image",
    y_label: str = "PSNR, dB",
    width: int = 480,
    height: int = 320,
) -> Html:
    """Quality over rate, with a logarithmic axis of rates: a line with markers for each curve, named at its right end.

    Points without loss (inf) stand in a band of their own at the top. Points without a quality (NaN), and rates
    beyond 1e-6 to 1e15, are left out; a chart without any point is empty text.
    """
    shown = [
        (k, [(x, y, i) for i, (x, y) in enumerate(curve.points) if _LEAST_RATE <= x <= _MOST_RATE and not math.isnan(y)])
        for k, curve in enumerate(curves)
    ]
    rates = [x for _, points in shown for x, _, _ in points]
    if not rates:
        return Html("")
    qualities = [y for _, points in shown for _, y, _ in points if math.isfinite(y)]
    lossless = len(qualities) < len(rates)
    left, right, top, bottom = 48, 14, 30 if lossless else 10, 42
    x_low, x_high = _widened_log(min(rates), max(rates))
    y_ticks = _ticks(min(qualities, default=30), max(qualities, default=40), 6)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def place(x: float, y: float) -> tuple[float, float]:
        across = math.log(x / x_low) / math.log(x_high / x_low)
        at = top - 16.0 if math.isinf(y) else top + (height - top - bottom) * (y_high - y) / (y_high - y_low)
        return left + across * (width - left - right), at

    parts = [_y_axis(y_ticks, lambda y: place(x_low, y)[1], left, width - right, y_label, top, height - bottom)]
    for x in _log_ticks(x_low, x_high):
        at = place(x, y_low)[0]
        parts.append(f'<line class="rule" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{height - bottom}"/>')
        parts.append(f'<text x="{at:.1f}" y="{height - bottom + 16}" text-anchor="middle">{_short(x)}</text>')
    parts.append(_x_label(x_label, left, width - right, height))
    if lossless:
        parts.append(f'<text x="{left - 6}" y="{top - 12}" text-anchor="end">exact</text>')
    names: list[tuple[float, float, int]] = []
    for k, points in shown:
        if not points:
            continue
        ordered = [(*place(x, y), x, y, i) for x, y, i in sorted(points)]
        line = " ".join(f"{px:.1f},{py:.1f}" for px, py, *_ in ordered)
        marks = "".join(
            f"<g>{_MARKERS[k % N_SERIES](px, py)}<title>{_point_title(curves[k], i, x, y, x_label, y_label)}</title></g>"
            for px, py, x, y, i in ordered
        )
        drawn = f'<polyline points="{line}" fill="none" stroke="currentColor" stroke-width="2"/>' if len(ordered) > 1 else ""
        parts.append(f'<g style="color:{colour(k)}" fill="currentColor">{drawn}{marks}</g>')
        names.append((ordered[-1][0], ordered[-1][1], k))
    parts += _direct_labels(names, curves, left, width - right, height - bottom)
    title = f"{y_label} over {x_label}: {', '.join(curve.name for curve in curves)}"
    chart = _svg(parts, width, height, title)
    return joined([chart, legend([(curve.name, k) for k, curve in enumerate(curves)])])


def histogram(
    counts: Sequence[int],
    edges: Sequence[float],
    *,
    x_label: str,
    marks: Sequence[tuple[str, float]] = (),
    unit: str = "images",
    width: int = 380,
    height: int = 220,
) -> Html:
    """Bars of equal width on a linear axis.

    Args:
        counts: of each bin: [n].
        edges: of the bins, ascending: [n + 1].
        x_label: what is counted by, with its unit.
        marks: (name, value) of vertical lines, such as the median.
        unit: what is counted.
        width: in units of the drawing, whose text is 12 of them high.
        height: the same.
    """
    left, right, top, bottom = 48, 10, 20 if marks else 10, 42
    low, high = float(edges[0]), float(edges[-1])
    span = (high - low) or 1.0
    y_ticks = _ticks(0, max(1, *counts), 4, whole=True)
    y_high = y_ticks[-1]

    def across(x: float) -> float:
        return left + (x - low) / span * (width - left - right)

    def up(y: float) -> float:
        return top + (height - top - bottom) * (1 - y / y_high)

    parts = [_y_axis(y_ticks, up, left, width - right, unit, top, height - bottom)]
    digits = max(0, 2 - math.floor(math.log10(span)))
    for count, begin, end in zip(counts, edges[:-1], edges[1:], strict=True):
        if count:
            x, bar_width = across(begin), max(0.5, across(end) - across(begin) - 0.5)
            said = f"{begin:.{digits}f} to {end:.{digits}f}: {count:,} {unit}"
            # A bin with few items is still seen: at least one unit high.
            bar_height = max(1.0, up(0) - up(count))
            parts.append(
                f'<rect x="{x:.1f}" y="{up(0) - bar_height:.1f}" width="{bar_width:.1f}" height="{bar_height:.1f}" '
                f'fill="var(--series-1)"><title>{escaped(said)}</title></rect>'
            )
    parts += [
        f'<text x="{across(tick):.1f}" y="{height - bottom + 16}" text-anchor="middle">{_short(tick)}</text>'
        for tick in _ticks(low, high, 5, inside=True)
    ]
    for name, value in marks:
        if low <= value <= high:
            x = across(value)
            anchor = "end" if x > left + 0.6 * (width - left) else "start"
            shift = -4 if anchor == "end" else 4
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top - 12}" y2="{height - bottom}" stroke="var(--series-2)" '
                f'stroke-width="1.5" stroke-dasharray="4 3"/>'
                f'<text x="{x + shift:.1f}" y="{top - 4}" text-anchor="{anchor}">{escaped(name)}</text>'
            )
    parts.append(_x_label(x_label, left, width - right, height))
    return _svg(parts, width, height, f"Histogram of {x_label}, {sum(counts):,} {unit}")


def breakdown(parts: Sequence[tuple[str, float]], *, show: Callable[[float], str] = lambda v: f"{v:,.0f}") -> Html:
    """One bar whose parts stand side by side, with their names, values and shares below.

    Args:
        parts: (name, value), values at least 0; those of 0 are left out.
        show: a value as text.
    """
    shown = [(name, value) for name, value in parts if value > 0]
    total = sum(value for _, value in shown)
    if not total:
        return Html("")
    bars, names, x = [], [], 0.0
    for k, (name, value) in enumerate(shown):
        share = value / total
        said = f"{name} {show(value)}, {100 * share:.1f} %"
        names.append((said, k))
        bars.append(
            f'<rect x="{x:.2f}" y="0" width="{1000 * share:.2f}" height="28" fill="{colour(k)}">'
            f"<title>{escaped(said)}</title></rect>"
        )
        x += 1000 * share
    title = escaped("; ".join(said for said, _ in names))
    box = f'<svg class="bar" viewBox="0 0 1000 28" preserveAspectRatio="none" role="img" aria-label="{title}">'
    return joined([Html(f"{box}{''.join(bars)}</svg>"), legend(names, marker=False)])


def legend(names: Sequence[tuple[str, int]], *, marker: bool = True) -> Html:
    """Names with the colours (and markers) of their series, by (name, number)."""
    rows = []
    for name, k in names:
        if marker:
            box = f'<svg viewBox="-7 -7 14 14" width="14" height="14" aria-hidden="true" style="color:{colour(k)}">'
            sign = f'{box}<g fill="currentColor">{_MARKERS[k % N_SERIES](0, 0)}</g></svg> '
        else:
            sign = f'<span class="swatch" style="background:{colour(k)}"></span>'
        rows.append(f"<li>{sign}{escaped(name)}</li>")
    return Html(f'<ul class="legend">{"".join(rows)}</ul>')


def colour(series: int) -> str:
    """The CSS colour of a series by its number from 0; they come again after `N_SERIES`."""
    return f"var(--series-{series % N_SERIES + 1})"


def _svg(parts: Sequence[str], width: int, height: int, title: str) -> Html:
    return Html(
        f'<svg class="chart" viewBox="0 0 {width} {height}" style="max-width:{1.3 * width:.0f}px" role="img">'
        f"<title>{escaped(title)}</title>{''.join(parts)}</svg>"
    )


def _y_axis(
    ticks: Sequence[float], up: Callable[[float], float], left: int, right: int, label: str, top: int, bottom: int
) -> str:
    lines = [
        f'<line class="{"axis" if k == 0 else "rule"}" x1="{left}" x2="{right}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>'
        f'<text x="{left - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{_short(tick)}</text>'
        for k, tick in enumerate(ticks)
    ]
    middle = (top + bottom) / 2
    lines.append(f'<text transform="translate(12 {middle:.0f}) rotate(-90)" text-anchor="middle">{escaped(label)}</text>')
    return "".join(lines)


def _x_label(label: str, left: int, right: int, height: int) -> str:
    return f'<text x="{(left + right) / 2:.0f}" y="{height - 6}" text-anchor="middle">{escaped(label)}</text>'


def _point_title(curve: Curve, i: int, x: float, y: float, x_label: str, y_label: str) -> Html:
    setting = f" {curve.labels[i]}" if i < len(curve.labels) else ""
    quality = "exact" if math.isinf(y) else f"{y:,.2f} ({y_label})"
    return escaped(f"{curve.name}{setting}: {x:,.4g} {x_label}, {quality}")


def _direct_labels(
    names: Sequence[tuple[float, float, int]], curves: Sequence[Curve], left: int, right: int, bottom: int
) -> list[str]:
    """Names beside the last point of each curve, moved apart where they would cover each other."""
    placed: list[tuple[float, float, float]] = []
    out = []
    for x, y, k in sorted(names, key=lambda name: name[1]):
        text = curves[k].name if len(curves[k].name) <= 28 else curves[k].name[:27] + "…"
        wide = 6.6 * len(text)
        fits = x + 9 + wide <= right
        begin = x + 9 if fits else max(left + 4, x - 5 - wide)
        at = min(y + 4 if fits else y - 8, bottom - 4)  # at the left it stands above the line, which comes from there
        while any(abs(at - other) < 13 and begin < end and first < begin + wide for first, end, other in placed):
            at += 1
        if at > bottom - 2:  # no room: the legend has it
            continue
        placed.append((begin, begin + wide, at))
        out.append(f'<text class="strong" x="{begin:.1f}" y="{at:.1f}">{escaped(text)}</text>')
    return out


def _ticks(low: float, high: float, n: int, *, whole: bool = False, inside: bool = False) -> list[float]:
    """About `n` round values from at most `low` to at least `high`, or (`inside`) between them."""
    span = high - low
    if span <= 1e-9 * max(1.0, abs(low), abs(high)):  # ticks would be equal
        span = max(1.0, abs(low) * 0.1)
    step = 10 ** math.floor(math.log10(span / n))
    step *= next(factor for factor in (1, 2, 5, 10) if factor * step * n >= span)
    if whole:
        step = max(1.0, step)
    first = math.ceil(low / step - 1e-9) if inside else math.floor(low / step + 1e-9)
    last = math.floor(high / step + 1e-9) if inside else math.ceil(high / step - 1e-9)
    if not inside and last == first:
        last += 1
    return [round(k * step, 12) for k in range(first, last + 1)]


def _widened_log(low: float, high: float) -> tuple[float, float]:
    """A range of rates with some room at both ends."""
    margin = max(1.15, (high / low) ** 0.06)
    return low / margin, high * margin


def _log_ticks(low: float, high: float) -> list[float]:
    """Round values between two rates: 1, 2, 5, or all digits where the range is small."""
    digits: Sequence[float] = (1, 2, 5) if high / low > 5 else (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
    if high / low > 1000:
        digits = (1,)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [digit * 10.0**e for e in exponents for digit in digits]
    inside = [x for x in found if low <= x <= high]
    return inside or [low, high]


def _short(value: float) -> str:
    """A number on an axis: 0.98, 30, 1,500, 20k, 3M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scale = {"G": 1e9, "M": 1e6, "k": 1e3}[unit]
            return f"{value / scale:.4g}{unit}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
