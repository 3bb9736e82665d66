"""A report as Markdown, for a README, an issue or a model card. Names are escaped: they make neither markup nor HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from batchcodec.report.measured import LabelQuality, ShapeQuality
from batchcodec.report.quality import Report
from batchcodec.report.recorded import rate_point, recorded_notes, recorded_skipped
from batchcodec.report.text import compared, printable, size

MAX_ROWS = 100
MAX_LISTED = 20


def plain(text: object) -> str:
    """Text that Markdown shows as it is: control characters as escapes, whatever could be markup with a backslash."""
    return re.sub(r"([\\`*_{}\[\]()<>#|~&$@])", r"\\\1", printable(str(text)))


def report_markdown(reports: Sequence[Report], against: Path | None) -> str:
    """One document for all archives."""
    lines = []
    if len(reports) > 1:
        rows = []
        for found in reports:
            info, quality, point = found.info, found.quality, rate_point(found)
            shown = [quality.mean_psnr, quality.pooled_psnr] if quality else [point.psnr, None]
            rows.append(
                [plain(point.name), plain(point.codec), f"{info.n_items:,}", f"{point.rate:,.1f}", f"{info.bytes.model:,}"]
                + [_number(value, 2) for value in shown]
                + [_number(value, 4) for value in ([quality.mean_ssim, quality.mean_ms_ssim] if quality else [None, None])]
            )
        header = ("archive", "codec", "images", "bytes/image", "weights", "mean dB", "pooled dB", "SSIM", "MS-SSIM")
        lines += ["# Archives side by side", "", *_table(header, rows, n_text=2), ""]
    for found in reports:
        lines += _archive(found, against)
    return "\n".join(lines).rstrip() + "\n"


def _archive(found: Report, against: Path | None) -> list[str]:
    info, quality, count = found.info, found.quality, found.info.bytes
    source = [] if info.source_bytes is None else [compared(info.n_bytes, info.source_bytes, "the source")]
    lines = [
        f"# {plain(Path(info.path).name)}",
        "",
        f"{info.n_items:,} images in {size(info.n_bytes)}: "
        + ", ".join([*source, compared(info.n_bytes, info.raw_bytes, "raw pixels")])
        + f". {info.n_bytes / max(1, info.n_items):,.1f} bytes per image, {info.bits_per_pixel:.4f} bits per pixel.",
        "",
    ]
    kinds = ("payload", "model", "directory", "index", "framing", "parity")
    parts = [("weights" if kind == "model" else kind, getattr(count, kind)) for kind in kinds]
    rows = [[name, f"{value:,}", f"{100 * value / info.n_bytes:.1f} %"] for name, value in parts if value]
    lines += [*_table(("bytes", "size", "share"), [*rows, ["total", f"{info.n_bytes:,}", "100.0 %"]]), ""]
    if quality is not None:
        lines += [
            f"Against {plain(against)}: PSNR {quality.mean_psnr:.2f} dB mean, {quality.pooled_psnr:.2f} pooled, "
            f"{quality.median_psnr:.2f} median, {quality.min_psnr:.2f} lowest; SSIM {quality.mean_ssim:.4f} mean; MS-SSIM "
            f"{quality.mean_ms_ssim:.4f} mean; {quality.n_equal:,} of {quality.n_items:,} images without any error.",
            "",
        ]
        header = ("images", "mean dB", "min dB", "SSIM", "MS-SSIM")
        if len(quality.labels) > 1:
            shown = [(x.label if x.label is not None else "no label", x) for x in quality.labels[:MAX_ROWS]]
            lines += [*_table(("label", *header), [[plain(name), *_figures(x)] for name, x in shown]), ""]
        lines += [*_table(("shape", *header), [[plain(x.shape), *_figures(x)] for x in quality.shapes[:MAX_ROWS]]), ""]
        if quality.n_equal < quality.n_items:
            worst = [[plain(x.name), _number(x.psnr, 2), f"{x.ssim:.4f}", f"{x.max_error:,}"] for x in quality.worst]
            lines += [*_table(("worst items", "dB", "SSIM", "largest error"), worst), ""]
    for codec in info.codecs:
        exact = "exact on every machine" if codec.exact else "exact up to rounding"
        model = f", model `{codec.model_sha256}`" if codec.model_sha256 and codec.model_sha256.isalnum() else ""
        lines += [f"Codec {plain(codec.codec_id)}: {codec.n_items:,} images, {size(codec.payload_bytes)}, {exact}{model}.", ""]
    n_skipped, skipped = recorded_skipped(info.meta)
    if n_skipped:
        lines += [f"Left out when packing: {n_skipped:,}.", ""]
        lines += [*(f"- {plain(name)}: {plain(why)}" for name, why in skipped[:MAX_LISTED]), ""]
    notes = recorded_notes(info.meta)
    if notes:
        lines += [
            "Changed when reading: " + ", ".join(f"{plain(k)} {n:,}" for k, n in list(notes.items())[:MAX_LISTED]) + ".",
            "",
        ]
    if quality is not None and quality.missing:
        names = ", ".join(map(plain, quality.missing[:MAX_LISTED]))
        lines += [f"Missing from the dataset, or of another shape there: {len(quality.missing):,} ({names}).", ""]
    return lines


def _figures(row: LabelQuality | ShapeQuality) -> list[str]:
    return [
        f"{row.n_items:,}",
        f"{row.mean_psnr:.2f}",
        f"{row.min_psnr:.2f}",
        f"{row.mean_ssim:.4f}",
        f"{row.mean_ms_ssim:.4f}",
    ]


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, n_text: int = 1) -> list[str]:
    """Lines of a table whose first `n_text` columns are text, and others numbers."""
    rules = ["---"] * n_text + ["---:"] * (len(header) - n_text)
    return [f"| {' | '.join(line)} |" for line in (header, rules, *rows)]
