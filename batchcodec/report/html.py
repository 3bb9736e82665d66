"""A report as one HTML page; of several archives, with their rates and qualities side by side."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from batchcodec import metrics
from batchcodec.report.measured import ItemTable, LabelQuality, Quality, ShapeQuality
from batchcodec.report.model_card import codec_cards
from batchcodec.report.page import Cell, Html, data_table, escaped, facts, figure, grid, joined, number, page, section
from batchcodec.report.quality import Report
from batchcodec.report.recorded import RatePoint, rate_curves, rate_point, recorded_notes, recorded_skipped
from batchcodec.report.sample_cards import sample_cards
from batchcodec.report.samples import Sample, within
from batchcodec.report.svg import breakdown, histogram, rate_distortion
from batchcodec.report.text import compared, printable, size

IMAGE_BYTES = 3_000_000
"""Of all pictures of a page, as text."""
MAX_ROWS = 500
"""Of a table of labels or shapes: those of most images."""
MAX_LISTED = 100
N_BINS = 40


def report_html(reports: Sequence[Report], samples: Sequence[Sequence[Sample]], against: Path | None) -> str:
    """The page.

    Args:
        reports: at least one.
        samples: of each archive what to look at.
        against: the dataset that they were compared with, to be named.
    """
    room = IMAGE_BYTES // len(reports)
    points = [rate_point(found) for found in reports]
    parts = [_comparison(reports, points)] if len(reports) > 1 else []
    for k, (found, point, shown) in enumerate(zip(reports, points, samples, strict=True)):
        chapters = _chapters(found, within(shown, room))
        if len(reports) == 1:
            parts += [section(title, body) for title, body in chapters]
        else:
            inner = joined(Html(f"<h3>{escaped(title)}</h3>\n{body}") for title, body in chapters)
            parts.append(section(point.name, inner, id=f"archive-{k}"))
    n_items = reports[0].info.n_items
    title = Path(reports[0].info.path).name if len(reports) == 1 else f"{len(reports)} archives"
    compared_with = f", compared with {against}" if against else ""
    subtitle = f"{n_items:,} images{compared_with}" if len(reports) == 1 else f"{compared_with[2:] or 'without originals'}"
    assets = [files("batchcodec.report").joinpath(name).read_text(encoding="utf-8") for name in ("report.js", "report.css")]
    return page(title, joined(parts), script=assets[0], style=assets[1], subtitle=printable(subtitle))


def _comparison(reports: Sequence[Report], points: Sequence[RatePoint]) -> Html:
    links = "".join(f'<li><a href="#archive-{k}">{escaped(point.name)}</a></li>' for k, point in enumerate(points))
    rows: list[list[Cell]] = []
    for found, point in zip(reports, points, strict=True):
        info, quality = found.info, found.quality
        rows.append(
            [
                point.name,
                point.codec,
                info.n_items,
                number(info.n_bytes / max(1, info.n_items), 1),
                info.bytes.model,
                number(info.bits_per_pixel, 4),
                number(point.psnr),
                number(quality.pooled_psnr if quality else None),
                number(quality.mean_ssim if quality else None, 4),
                number(quality.mean_ms_ssim if quality else None, 4),
            ]
        )
    header = ("archive", "codec", "images", "B/image", "weights", "bpp", "mean dB", "pooled dB", "SSIM", "MS-SSIM")
    recorded = any(point.recorded for point in points)
    caption = "Mean PSNR over the bytes of the whole file for each image, weights and index among them." + (
        " Without originals PSNR is what was recorded when packing." if recorded else ""
    )
    chart = rate_distortion(rate_curves(points), y_label="mean PSNR, dB")
    return section(
        "Side by side",
        joined(
            [
                figure(chart, caption) if chart else Html(""),
                data_table(header, rows, caption="Archives"),
                Html(f'<nav aria-label="Archives"><ul>{links}</ul></nav>'),
            ]
        ),
    )


def _chapters(found: Report, samples: Sequence[Sample]) -> list[tuple[str, Html]]:
    chapters = [("Bytes", _bytes(found)), ("Contents", _contents(found))]
    if found.quality is not None and isinstance(found.items, ItemTable):
        chapters.append(("Quality", _quality(found.quality, found.items)))
    else:
        chapters.append(("Quality", _recorded_quality(found)))
    cards = sample_cards(samples)
    if cards:
        chapters.append(("Samples" if found.quality else "Samples, as they are decoded", cards))
    chapters += [("Codecs and models", codec_cards(found.info)), ("Left out and changed", _troubles(found))]
    return chapters


def _bytes(found: Report) -> Html:
    info, count = found.info, found.info.bytes
    parts = [
        ("payload", count.payload),
        ("weights", count.model),
        ("directory", count.directory),
        ("index", count.index),
        ("framing", count.framing),
        ("parity", count.parity),
    ]
    each = max(1, info.n_items)
    rows: list[list[Cell]] = [
        [name, value, number(100 * value / info.n_bytes, 1), number(value / each)]
        for name, value in parts
        if value or name != "parity"
    ]
    rows.append(["total", info.n_bytes, number(100.0, 1), number(info.n_bytes / each)])
    if info.source_bytes is not None:
        rows.append(
            [
                "source files",
                info.source_bytes,
                number(100 * info.source_bytes / info.n_bytes, 1),
                number(info.source_bytes / each),
            ]
        )
    rows.append(["raw pixels", info.raw_bytes, number(100 * info.raw_bytes / info.n_bytes, 1), number(info.raw_bytes / each)])
    against_source = "" if info.source_bytes is None else compared(info.n_bytes, info.source_bytes, "the source")
    said = [
        ("size", size(info.n_bytes)),
        *([("against the source", against_source)] if against_source else []),
        ("against raw pixels", compared(info.n_bytes, info.raw_bytes, "raw pixels")),
        ("bytes per image", f"{info.n_bytes / each:,.1f}"),
        ("bits per pixel", f"{info.bits_per_pixel:.4f}"),
    ]
    return joined(
        [
            facts(said),
            figure(breakdown(parts, show=size)),
            data_table(
                ("bytes of", "bytes", "% of the archive", "per image"), rows, caption="Where the bytes are", sortable=False
            ),
        ]
    )


def _contents(found: Report) -> Html:
    info = found.info
    said = [
        ("images", f"{info.n_items:,}"),
        ("groups", f"{info.n_groups:,}"),
        ("labels", f"{len(info.labels):,}" if info.labels else "none"),
        ("shapes", f"{len(info.shapes):,}"),
        ("format", info.version),
        ("made by", str(info.meta.get("created_by", "not recorded"))),
    ]
    parts = [facts(said)]
    if found.quality is None:  # with qualities these tables are in the next chapter
        for title, counts in (("Shapes", info.shapes), ("Labels", info.labels)):
            if counts:
                ordered = sorted(counts.items(), key=lambda pair: -pair[1])
                rows: list[list[Cell]] = [[name, n, number(100 * n / info.n_items, 1)] for name, n in ordered[:MAX_ROWS]]
                parts.append(data_table((title.lower()[:-1], "images", "%"), rows, caption=title + _more(len(ordered))))
    return joined(parts)


def _more(n: int) -> str:
    return f": the {MAX_ROWS:,} of most images, of {n:,}" if n > MAX_ROWS else ""


def _quality(quality: Quality, items: ItemTable) -> Html:
    percentiles = quality.psnr_percentiles
    said = [
        ("PSNR, mean", f"{quality.mean_psnr:.2f} dB"),
        ("PSNR, pooled", f"{quality.pooled_psnr:.2f} dB"),
        ("PSNR, median", f"{quality.median_psnr:.2f} dB"),
        ("PSNR, lowest", f"{quality.min_psnr:.2f} dB"),
        ("SSIM, mean", f"{quality.mean_ssim:.4f}"),
        ("SSIM, lowest", f"{quality.min_ssim:.4f}"),
        ("MS-SSIM, mean", f"{quality.mean_ms_ssim:.4f}"),
        ("MS-SSIM, lowest", f"{quality.min_ms_ssim:.4f}"),
        ("largest error", f"{quality.max_error:,} steps"),
        ("without any error", f"{quality.n_equal:,} of {quality.n_items:,}"),
    ]
    by_label = data_table(
        ("label", "images", "mean dB", "min dB", "SSIM", "MS-SSIM"),
        [[_label(row), *_figures(row)] for row in _most(quality.labels)],
        caption="By label" + _more(len(quality.labels)),
    )
    by_shape = data_table(
        ("shape", "images", "mean dB", "min dB", "SSIM", "MS-SSIM", "scales"),
        [[row.shape, *_figures(row), row.n_scales] for row in _most(quality.shapes)],
        caption="By shape" + _more(len(quality.shapes)),
    )
    return joined(
        [
            facts(said),
            grid([_psnr_histogram(items, quality), _histogram(items.ssim, "SSIM"), _histogram(items.ms_ssim, "MS-SSIM")]),
            by_label if len(quality.labels) > 1 else Html(""),
            by_shape,
            data_table(
                [f"{p} %" for p in percentiles],
                [[number(value) for value in percentiles.values()]],
                caption="Percentiles of PSNR, dB",
                sortable=False,
            ),
            Html(
                '<p class="note">An image without error counts '
                f"{metrics.LOSSLESS_PSNR:.0f} dB in means. MS-SSIM has as many scales as an image has room for, five from 161 "
                "pixels a side: compare it among images of one shape.</p>"
            ),
        ]
    )


def _most(rows: Sequence[Any]) -> list[Any]:
    """At most `MAX_ROWS` of the rows, those of most images, in their order."""
    if len(rows) <= MAX_ROWS:
        return list(rows)
    kept = set(sorted(range(len(rows)), key=lambda k: -rows[k].n_items)[:MAX_ROWS])
    return [row for k, row in enumerate(rows) if k in kept]


def _label(row: LabelQuality) -> Cell:
    return Html('<span class="muted">no label</span>') if row.label is None else row.label


def _figures(row: LabelQuality | ShapeQuality) -> list[Cell]:
    return [
        row.n_items,
        number(row.mean_psnr),
        number(row.min_psnr),
        number(row.mean_ssim, 4),
        number(row.mean_ms_ssim, 4),
    ]


def _psnr_histogram(items: ItemTable, quality: Quality) -> Html:
    finite = items.psnr[np.isfinite(items.psnr)]
    note = f"{quality.n_equal:,} images without any error are not in it." if quality.n_equal else ""
    if not len(finite):
        return Html('<p class="note">PSNR: every image comes back without any error.</p>')
    return _histogram(finite, "PSNR, dB", note)


def _histogram(values: np.ndarray[Any, np.dtype[np.float64]], label: str, note: str = "") -> Html:
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-9:  # one value: a bar of some width
        low, high = low - 0.5e-3, high + 0.5e-3
    counts, edges = np.histogram(values, N_BINS, (low, high))
    median = float(np.median(values))
    return figure(histogram(counts.tolist(), edges.tolist(), x_label=label, marks=[("median", median)]), note)


def _recorded_quality(found: Report) -> Html:
    meta = found.info.meta
    if meta.get("lossless") is True:
        said = "Recorded when packed: lossless, every image comes back as it was."
    elif isinstance(meta.get("mean_psnr"), int | float):
        said = f"Recorded when packed: PSNR {meta['mean_psnr']} dB mean, {meta.get('pooled_psnr')} dB pooled."
    else:
        said = "No quality was recorded when packing."
    return Html(f"<p>{escaped(said)} <code>--against SOURCE</code> measures every image.</p>")


def _troubles(found: Report) -> Html:
    n_skipped, skipped = recorded_skipped(found.info.meta)
    notes = recorded_notes(found.info.meta)
    parts: list[Html] = []
    if skipped or n_skipped:
        caption = f"Left out when packing: {n_skipped:,}" + (f", the first {MAX_LISTED}" if n_skipped > MAX_LISTED else "")
        parts.append(data_table(("item", "why"), skipped[:MAX_LISTED], caption=caption))
    if notes:
        rows: list[list[Cell]] = [[what, n] for what, n in list(notes.items())[:MAX_LISTED]]
        parts.append(data_table(("changed on the way", "images"), rows, caption="Changed when reading"))
    if found.quality is not None and found.quality.missing:
        missing = found.quality.missing
        caption = f"Not in the dataset, not readable, or of another shape there: {len(missing):,}"
        caption += f", the first {MAX_LISTED}" if len(missing) > MAX_LISTED else ""
        parts.append(data_table(("item",), [[name] for name in missing[:MAX_LISTED]], caption=caption))
    if found.n_rounded:
        parts.append(
            Html(f'<p class="warn">{found.n_rounded:,} groups decode to pixels that differ by rounding from those packed.</p>')
        )
    if not parts:
        parts.append(Html("<p>Nothing was left out, and nothing was changed on the way.</p>"))
    return joined(parts)
