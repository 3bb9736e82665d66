"""What `compare` measured, as a page and as a picture."""

from __future__ import annotations

import io
import math
from importlib.util import find_spec
from pathlib import Path

from batchcodec.atomic import write_atomically
from batchcodec.comparing.curves import Point, with_weights
from batchcodec.comparing.run import CompareReport
from batchcodec.errors import MissingDependencyError, OutputError
from batchcodec.metrics import LOSSLESS_PSNR
from batchcodec.report import svg
from batchcodec.report.page import Cell, data_table, facts, figure, grid, joined, number, page, section
from batchcodec.report.text import counts, size

PICTURES = (".png", ".svg", ".pdf")


def compare_page(report: CompareReport) -> str:
    """A whole HTML document: curves, BD-rates, and all archives in a table."""
    pairs = [
        ("images", f"{report.n_images:,} of {report.n_dataset:,}, drawn with seed {report.seed}"),
        ("shapes", counts(report.shapes, 6)),
        ("pixels", f"{report.n_pixels:,}"),
    ]
    weights = [(c.codec, max((p.weight_bytes for p in c.points), default=0)) for c in report.curves]
    if any(n for _, n in weights):
        pairs.append(("weights", ", ".join(f"{codec} {size(n)}" for codec, n in weights if n)))
    pairs += [(f"{curve.codec} failed", curve.error) for curve in report.curves if curve.error]
    pairs += [("note", note) for note in report.notes]
    charts = [
        figure(
            svg.rate_distortion(_curves(report, weights=True)),
            f"All bytes, weights spread over the dataset's {report.n_dataset:,} images",
        ),
        figure(svg.rate_distortion(_curves(report, weights=False)), "Without weights"),
    ]
    if not any(n for _, n in weights):
        charts = [figure(svg.rate_distortion(_curves(report, weights=False)), "All bytes of the archive")]
    body = [section("Sample", facts(pairs)), section("Rate and distortion", grid(charts))]
    rated = [curve for curve in report.curves if curve.bd_rate is not None]
    if rated:
        head = ("codec", "mean PSNR, %", "pooled PSNR, %", "with weights, %")
        rows: list[list[Cell]] = [
            [c.codec, number(c.bd_rate, 1), number(c.bd_rate_pooled, 1), number(c.bd_rate_with_weights, 1)] for c in rated
        ]
        body.append(section("BD-rate", data_table(head, rows, caption=f"Bytes at equal PSNR, beside {report.anchor}")))
    body.append(section("Archives", _table(report)))
    return page("Codecs compared", joined(body), subtitle=report.source)


def _curves(report: CompareReport, *, weights: bool) -> list[svg.Curve]:
    def rate(point: Point) -> float:
        return with_weights(point, report.n_dataset).bytes_per_item if weights else point.bytes_per_item

    def quality(point: Point) -> float:
        return math.inf if point.mean_psnr >= LOSSLESS_PSNR else point.mean_psnr

    return [
        svg.Curve(c.codec, [(rate(p), quality(p)) for p in c.points], [p.setting for p in c.points])
        for c in report.curves
        if c.points
    ]


def _table(report: CompareReport) -> str:
    head = [
        "codec",
        "setting",
        "bytes per image",
        "with weights",
        "bpp",
        "mean dB",
        "pooled dB",
        "SSIM",
        "encode ms",
        "decode ms",
    ]
    points = [point for curve in report.curves for point in curve.points]
    rows: list[list[Cell]] = []
    for p in points:
        row: list[Cell] = [p.codec, p.setting, number(p.bytes_per_item, 1)]
        row += [number(with_weights(p, report.n_dataset).bytes_per_item, 1), number(p.bits_per_pixel, 4)]
        row += [number(math.inf if value >= LOSSLESS_PSNR else value, 2) for value in (p.mean_psnr, p.pooled_psnr)]
        row += [number(p.mean_ssim, 4), number(p.mean_ms_ssim, 4)]
        rows.append([*row, *(number(1000 * s / p.n_items, 2) for s in (p.encode_seconds, p.decode_seconds))])
    return data_table(head, rows, caption="Each archive, measured on the sample; milliseconds for one image")


def draw_curves(report: CompareReport, target: Path) -> None:
    """Write a picture of the curves, PNG, SVG or PDF by its suffix; weights are counted, spread over the dataset.

    Raises:
        OutputError: another suffix, or the file cannot be written.
        MissingDependencyError: matplotlib is not installed.
    """
    check_picture(target)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogFormatter

    drawing = Figure(figsize=(8, 5.5), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.add_subplot()
    for curve, marker in zip(_curves(report, weights=True), "os^Dv*XPh<>" * 8, strict=False):
        points = sorted((x, y) for x, y in curve.points if math.isfinite(y))
        if points:
            axes.plot(*zip(*points, strict=True), marker=marker, label=curve.name.replace("$", r"\$"))
    axes.set_xscale("log")
    axes.set_xlabel(f"bytes per image, weights spread over {report.n_dataset:,} images")
    axes.set_ylabel("mean PSNR, dB")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.5)))
    axes.grid(visible=True, which="both", alpha=0.25)
    if axes.lines:
        axes.legend()
    data = io.BytesIO()
    drawing.savefig(data, format=target.suffix.lower().removeprefix("."), dpi=150)
    write_atomically(target, data.getvalue())


def check_picture(target: Path) -> None:
    """Raise what `draw_curves` would, before anything was measured."""
    if target.suffix.lower() not in PICTURES:
        raise OutputError(target, f"a picture of curves has one of the suffixes {', '.join(PICTURES)}")
    if find_spec("matplotlib") is None:
        raise MissingDependencyError("a picture of curves", "matplotlib", "plots")
