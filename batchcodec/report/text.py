"""Reports as plain text for a terminal. Names come from strangers: control characters in them are shown, not sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from batchcodec.pack import PackReport, PackStatus
from batchcodec.report.info import ArchiveInfo
from batchcodec.report.quality import Quality, Report
from batchcodec.unpack import UnpackReport


def printable(text: str) -> str:
    """The text with control characters (newline, escape, direction marks) written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size(n_bytes: float) -> str:
    """Bytes with a decimal unit: 12,345 B or 1.23 MB."""
    if n_bytes < 100_000:
        return f"{n_bytes:,.0f} B"
    exponent = min(4, max(1, (len(str(int(n_bytes))) - 1) // 3))
    scaled = n_bytes / 1000**exponent
    return f"{scaled:,.2f} {'kMGT'[exponent - 1]}B" if scaled < 100 else f"{scaled:,.0f} {'kMGT'[exponent - 1]}B"


def compared(n_bytes: int, other: int, name: str) -> str:
    """`2.50 times smaller than the source`, or larger."""
    if n_bytes <= other:
        return f"{other / n_bytes:,.2f} times smaller than {name}"
    return f"{n_bytes / max(1, other):,.2f} times LARGER than {name}"


def table(rows: Iterable[Sequence[str]], header: Sequence[str] | None = None) -> str:
    """Columns aligned: the first to the left, others to the right."""
    lines = [list(header)] if header else []
    lines += [list(row) for row in rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))] if lines else []
    rendered = [
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    if header:
        rendered.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in rendered)


def counts(values: Mapping[str, int], limit: int = 8) -> str:
    """`cat 3, dog 2` with what is beyond the limit summed up."""
    shown = [f"{printable(key)} {count:,}" for key, count in list(values.items())[:limit]]
    rest = len(values) - limit
    return ", ".join(shown) + (f", and {rest:,} more kinds" if rest > 0 else "")


def pack_text(report: PackReport) -> str:
    """What `pack` did."""
    quality = "lossless" if report.lossless else f"PSNR {report.mean_psnr:.2f} dB mean, {report.pooled_psnr:.2f} dB pooled"
    lines = [
        f"{printable(report.target)}: {report.n_items:,} images in {size(report.n_bytes)}, "
        f"{compared(report.n_bytes, report.source_bytes, 'the source')} ({size(report.source_bytes)})",
        f"codec {', '.join(f'{text} ({n:,})' for text, n in report.codecs.items())}; {quality}",
        f"{report.n_bytes / report.n_items:,.1f} bytes per image; "
        f"payload {size(report.bytes.payload)}, weights {size(report.bytes.model)}, "
        f"directory, index and framing {size(report.bytes.overhead)} ({report.bytes.overhead / report.n_items:.2f} per image)"
        + (f", parity {size(report.bytes.parity)}" if report.bytes.parity else ""),
    ]
    lines += report.advice
    if report.notes:
        lines.append(f"changed on the way: {counts(report.notes)}")
    if report.ignored:
        lines.append(f"{report.ignored:,} other files ignored")
    if report.skipped:
        lines.append(f"SKIPPED {len(report.skipped):,} items that cannot be packed:")
        lines += [f"  {printable(s.item)}: {printable(s.reason)}" for s in report.skipped[:20]]
        if len(report.skipped) > 20:
            lines.append(f"  and {len(report.skipped) - 20:,} more; `batchcodec info --json` lists them")
    return "\n".join(lines)


def pack_progress(status: PackStatus, seconds: float) -> str:
    """What stands beside the bar: raw pixels packed in a second, and how much smaller the archive is than these so far."""
    if not status.raw_bytes:
        return size(status.n_bytes)
    ratio = status.raw_bytes / max(1, status.n_bytes)
    return f"{status.raw_bytes / max(seconds, 1e-9) / 1e6:,.1f} MB/s, ratio {ratio:,.2f}, {size(status.n_bytes)}"


def pack_seconds(report: PackReport) -> str:
    """Where the time went: seconds of each stage, and the images that it would get done in a second if it were alone."""
    seconds = report.seconds
    stages = [
        ("read", seconds.read),
        ("prepare", seconds.prepare),
        ("encode", seconds.encode),
        ("check", seconds.check),
        ("write", seconds.write),
        ("waited for images", seconds.wait_read),
        ("waited for groups", seconds.wait_code),
        ("by the clock", seconds.total),
    ]
    rows = [
        [name, f"{value:,.2f}", "" if "waited" in name or not value else f"{report.n_items / value:,.0f}"]
        for name, value in stages
    ]
    return table(rows, [f"{report.workers} worker{'s' if report.workers > 1 else ''}", "seconds", "images/s"])


def unpack_text(report: UnpackReport) -> str:
    """What `unpack` did."""
    lines = [f"{printable(report.target)}: {report.n_items:,} images as {report.format}"]
    if report.without:
        lines.append(f"no item has {printable(', '.join(report.without))}")
    if report.n_renamed:
        lines.append(
            f"{report.n_renamed:,} of them are .png now, to lose nothing; --image-format keep writes what their names say"
        )
    if report.n_rounded:
        lines.append(f"{report.n_rounded:,} groups decoded to pixels that differ by rounding from those packed (exact: false)")
    if report.lost:
        lines.append(f"LOST {report.n_lost:,} images in {len(report.lost):,} damaged groups:")
        lines += [f"  {printable(message)}" for message in report.lost]
    return "\n".join(lines)


def info_text(info: ArchiveInfo) -> str:
    """Sizes and contents."""
    count = info.bytes
    rows = [
        ("source files", "" if info.source_bytes is None else size(info.source_bytes), ""),
        ("raw pixels", size(info.raw_bytes), ""),
        ("payload", size(count.payload), _share(count.payload, info)),
        ("weights", size(count.model), _share(count.model, info)),
        ("directory + index", size(count.directory + count.index), _share(count.directory + count.index, info)),
        ("framing", size(count.framing), _share(count.framing, info)),
        *([("parity", size(count.parity), _share(count.parity, info))] if count.parity else []),
        ("total", size(count.total), "100.0 %"),
    ]
    source = "" if info.source_bytes is None else compared(info.n_bytes, info.source_bytes, "the source") + ", "
    lines = [
        f"{printable(info.path)}: {info.n_items:,} images in {info.n_groups:,} groups, format {info.version}",
        "",
        table(rows, ("bytes", "size", "share")),
        "",
        f"{info.bytes_per_item:,.1f} bytes per image without weights; {info.bits_per_pixel:.4f} bits per pixel with them",
        source + compared(info.n_bytes, info.raw_bytes, "raw pixels"),
        f"directory + index {info.directory_index_per_item:.2f} bytes per image, with framing {info.overhead_per_item:.2f}",
        "pixels are the same on every machine"
        if info.exact
        else "pixels on other machines may differ by 1 from those packed (exact: false)",
        f"images  {counts(info.shapes)}",
    ]
    if info.labels:
        lines.append(f"labels  {counts(info.labels, 12)}")
    for codec in info.codecs:
        shown = {key: value for key, value in codec.config.items() if codec.model_name is None or key != "model"}
        config = ", ".join(f"{key}={value}" for key, value in shown.items())
        weights = f", weights {size(codec.model_bytes)} ({str(codec.model_sha256)[:12]})" if codec.model_bytes else ""
        if codec.model_name is not None:
            weights = (
                f", weights NOT in the archive: model {printable(codec.model_name)} ({printable(str(codec.model_sha256))})"
            )
        lines.append(
            f"codec   {printable(codec.codec_id)}: {codec.n_items:,} images, {size(codec.payload_bytes)}{weights}"
            f"{f' [{printable(config)}]' if config else ''}"
        )
    skipped = info.meta.get("n_skipped")
    if skipped:
        lines.append(f"{printable(str(skipped))} items of the source were skipped when it was packed (--json lists them)")
    return "\n".join(lines)


def _share(n_bytes: int, info: ArchiveInfo) -> str:
    return f"{100 * n_bytes / info.n_bytes:.1f} %"


def quality_text(quality: Quality) -> str:
    """Statistics, labels and worst items."""
    lines = [
        f"PSNR  mean {quality.mean_psnr:.2f} dB, pooled {quality.pooled_psnr:.2f}, median {quality.median_psnr:.2f}, "
        f"5th percentile {quality.p5_psnr:.2f}, min {quality.min_psnr:.2f}",
        f"SSIM  mean {quality.mean_ssim:.4f}, min {quality.min_ssim:.4f}; "
        f"MS-SSIM mean {quality.mean_ms_ssim:.4f}, min {quality.min_ms_ssim:.4f}",
        f"error MSE {quality.mean_mse:.3f}, largest {quality.max_error} steps; {quality.n_equal:,} of {quality.n_items:,} "
        "images without any",
    ]
    if quality.missing:
        shown = ", ".join(printable(name) for name in quality.missing[:5])
        lines.append(f"MISSING from the dataset, or of another size there: {len(quality.missing):,} images ({shown} ...)")
    if len(quality.labels) > 1:
        rows = [
            (printable(str(x.label)), f"{x.n_items:,}", f"{x.mean_psnr:.2f}", f"{x.min_psnr:.2f}", f"{x.mean_ssim:.4f}")
            for x in quality.labels
        ]
        lines += ["", table(rows, ("label", "images", "mean dB", "min dB", "SSIM"))]
    if quality.n_equal < quality.n_items:
        worst = [(printable(x.name), f"{x.psnr:.2f}", f"{x.ssim:.4f}", str(x.max_error)) for x in quality.worst]
        lines += ["", table(worst, ("worst items", "dB", "SSIM", "max error"))]
    return "\n".join(lines)


def report_text(report: Report) -> str:
    """Sizes, and quality where it was measured (or as recorded when packed)."""
    lines = [info_text(report.info), ""]
    if report.quality is not None:
        lines.append(quality_text(report.quality))
    elif report.info.meta.get("lossless"):
        lines.append("quality as recorded when packed: lossless")
    elif "mean_psnr" in report.info.meta:
        meta = report.info.meta
        lines.append(
            "quality as recorded when packed: PSNR "
            + printable(f"mean {meta['mean_psnr']} dB, pooled {meta.get('pooled_psnr')}")
            + "; --against SOURCE measures more"
        )
    return "\n".join(lines)
