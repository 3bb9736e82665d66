"""What `compare` measured, as tables for a terminal, and as CSV."""

from __future__ import annotations

import csv
import io

from batchcodec.comparing.curves import Point, with_weights
from batchcodec.comparing.run import CompareReport, Curve
from batchcodec.report.text import counts, printable, size, table

CSV_HEAD = (
    "codec",
    "setting",
    "images",
    "bytes_per_image",
    "weight_bytes",
    "bytes_per_image_with_weights",
    "bits_per_pixel",
    "mean_psnr",
    "pooled_psnr",
    "mean_ssim",
    "mean_ms_ssim",
    "encode_seconds",
    "decode_seconds",
)


def compare_text(report: CompareReport) -> str:
    """A row for each archive, then one for each codec."""
    heavy = any(point.weight_bytes for curve in report.curves for point in curve.points)
    head = [
        "codec",
        "setting",
        "B/image",
        *(["+ weights"] if heavy else []),
        "bpp",
        "dB",
        "pooled",
        "SSIM",
        "MS-SSIM",
        "enc ms",
        "dec ms",
    ]
    rows = [_cells(point, report.n_dataset, heavy) for curve in report.curves for point in curve.points]
    lines = [
        f"{report.n_images:,} of {report.n_dataset:,} images of {printable(report.source)}, seed {report.seed}: "
        f"{counts(report.shapes, 4)}",
        table(rows, head),
    ]
    if heavy:
        lines.append(f"+ weights: with the weights, spread over the dataset's {report.n_dataset:,} images")
    weights = {curve.codec: {p.weight_bytes for p in curve.points if p.weight_bytes} for curve in report.curves}
    lines += [f"{printable(codec)}: weights of {size(max(found))}" for codec, found in weights.items() if found]
    rated = [_summary(curve) for curve in report.curves if curve.bd_rate is not None]
    if rated:
        against = f"BD-rate against {printable(report.anchor)}: bytes at equal PSNR, less is better"
        lines += ["", against, table(rated, ("codec", "mean PSNR", "pooled PSNR", "with weights"))]
    if report.n_kept:
        lines.append(f"{report.n_kept:,} of {len(rows):,} points are of an earlier run")
    if report.n_left_out:
        lines.append(f"{report.n_left_out:,} more images were drawn, and left out: the sample is held in memory")
    if report.unreadable:
        lines.append(f"{len(report.unreadable):,} images of the sample cannot be read: {printable(report.unreadable[0])} ...")
    lines += [f"{printable(curve.codec)} FAILED: {printable(curve.error)}" for curve in report.curves if curve.error]
    return "\n".join([*lines, *map(printable, report.notes)])


def compare_csv(report: CompareReport) -> str:
    """A row for each archive."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for point in (point for curve in report.curves for point in curve.points):
        together = with_weights(point, report.n_dataset).bytes_per_item
        row = [point.codec, point.setting, point.n_items, point.bytes_per_item, point.weight_bytes, together]
        row += [point.bits_per_pixel, point.mean_psnr, point.pooled_psnr, point.mean_ssim, point.mean_ms_ssim]
        writer.writerow([*row, point.encode_seconds, point.decode_seconds])
    return out.getvalue()


def _cells(point: Point, n_dataset: int, heavy: bool) -> list[str]:
    together = with_weights(point, n_dataset).bytes_per_item
    return [
        printable(point.codec),
        printable(point.setting),
        f"{point.bytes_per_item:,.1f}",
        *([f"{together:,.1f}"] if heavy else []),
        f"{point.bits_per_pixel:.4f}",
        *decibels(point),
        *("" if value is None else f"{value:.4f}" for value in (point.mean_ssim, point.mean_ms_ssim)),
        f"{1000 * point.encode_seconds / point.n_items:,.2f}",
        f"{1000 * point.decode_seconds / point.n_items:,.2f}",
    ]


def decibels(point: Point) -> list[str]:
    """Mean and pooled PSNR of a point."""
    if point.pooled_psnr >= 100:
        return ["exact", "exact"]
    return [f"{point.mean_psnr:.2f}", f"{point.pooled_psnr:.2f}"]


def _summary(curve: Curve) -> list[str]:
    rates = (curve.bd_rate, curve.bd_rate_pooled, curve.bd_rate_with_weights)
    return [printable(curve.codec), *("-" if rate is None else f"{rate:+.1f} %" for rate in rates)]
