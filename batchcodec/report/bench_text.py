"""What `bench` measured, as a table for a terminal."""

from __future__ import annotations

from batchcodec.bench.run import BenchReport, BenchRow
from batchcodec.report.text import printable, table

HEAD = (
    "codec",
    "B/image",
    "dB",
    "pack/s",
    "unpack/s",
    "read/s",
    "batch/s",
    "epoch/s",
    "one, ms",
    "95 %",
    "open",
    "pack MB",
    "MB",
)


def bench_text(report: BenchReport) -> str:
    """A row for each codec, and what the columns are."""
    of = "generated pictures" if report.source is None else printable(report.source)
    most = max(row.images or 0 for row in report.rows)
    lines = [
        f"{most:,} images of {of}; threads: {report.workers}, cores: {report.cores}",
        table([_cells(row) for row in report.rows if row.images], HEAD),
        f"/s: images per second; batch: {report.batch} drawn at random; epoch: shuffled by groups, as training reads it",
        "one: a random image, median and 95th percentile; open: ms; MB: peak memory of packing, of reading",
    ]
    lines += [
        f"{printable(row.codec)}: {row.weight_bytes:,} bytes of weights beside that, once in an archive"
        for row in report.rows
        if row.weight_bytes
    ]
    lines += [f"{printable(row.codec)}: {row.skipped:,} images skipped" for row in report.rows if row.skipped]
    if any(row.images and row.single_ms is None and "single" not in row.errors for row in report.rows):
        lines.append("-: not measured, as all images are in one group: take more --images or a smaller --group")
    for row in report.rows:
        lines += [f"{printable(row.codec)}: {kind} FAILED: {printable(why)}" for kind, why in row.errors.items()]
    return "\n".join(lines)


def _cells(row: BenchRow) -> list[str]:
    rates = (row.pack_per_s, row.unpack_per_s, row.read_per_s, row.batch_per_s, row.epoch_per_s)
    return [
        printable(row.codec),
        _number(row.bytes_per_image, 1),
        "exact" if row.mean_psnr is None else f"{row.mean_psnr:.2f}",
        *(_number(rate, 0) for rate in rates),
        _number(row.single_ms, 2),
        _number(row.single_p95_ms, 2),
        _number(row.open_ms, 1),
        _number(row.pack_mb, 0),
        _number(row.read_mb, 0),
    ]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
