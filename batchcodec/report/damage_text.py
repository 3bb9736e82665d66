"""What `verify` and `repair` found, as plain text for a terminal."""

from __future__ import annotations

from batchcodec.checking.comparison import Comparison
from batchcodec.checking.findings import Finding, Severity
from batchcodec.checking.repair import Lost, RepairReport
from batchcodec.checking.verify import VerifyReport
from batchcodec.report.text import printable, size, table

MAX_LINES = 20
"""Findings that are shown; `--json` has more."""
MAX_NAMES = 3

_VERDICTS = {
    "whole": "whole",
    Severity.DAMAGE: "DAMAGED",
    Severity.DRIFT: "whole, but it DECODES TO OTHER PIXELS here than those that were packed",
    Severity.UNDECODABLE: "whole as far as can be told here, but not all of it CAN BE DECODED",
    Severity.DIFFERENCE: "whole, but the SOURCE DIFFERS",
}


def verify_text(report: VerifyReport) -> str:
    """The verdict, then the findings."""
    lines = [
        f"{printable(report.path)}: {_VERDICTS[report.verdict]}",
        f"{report.n_items:,} images in {report.n_groups:,} groups, {report.n_blocks:,} blocks, {size(report.n_bytes)}; "
        + (
            f"{report.n_decoded:,} groups decoded to the pixels that were packed"
            + (f" ({report.n_rounded:,} of them within rounding)" if report.n_rounded else "")
            if report.deep
            else "all checksums compared, nothing decoded (--deep decodes)"
        ),
    ]
    if report.n_bad_groups:
        lines.append(f"{report.n_bad_groups:,} groups with {report.n_bad_items:,} images cannot be had as they were packed")
    lines += [_finding(finding) for finding in report.findings[:MAX_LINES]]
    rest = sum(report.counts.values()) - len(report.findings[:MAX_LINES])
    if rest:
        lines.append(f"  and {rest:,} more findings (--json lists {len(report.findings):,})")
    if report.comparison is not None:
        lines += _comparison(report.comparison)
    if report.verdict == Severity.DAMAGE:
        lines.append(
            "`batchcodec repair` gives the archive back as it was: its parity makes up for all of the damage"
            if report.healable
            else "`batchcodec repair` writes a new archive of all that is whole"
        )
    return "\n".join(lines)


def _finding(finding: Finding) -> str:
    subject = f"group {finding.group}: " if finding.group is not None else f"{finding.block}: " if finding.block else ""
    n_items = f" [{_names(finding.items, finding.n_items)}]" if finding.n_items else ""
    return f"  {finding.severity}{_place(finding.start, finding.end)}: {printable(subject + finding.message)}{n_items}"


def _place(start: int | None, end: int | None) -> str:
    return "" if start is None or end is None else f" at bytes {start:,} to {end:,}"


def _names(names: list[str], n_items: int) -> str:
    """`3 images: a, b, c`."""
    shown = [printable(name) for name in names[:MAX_NAMES]]
    more = f", and {n_items - len(shown):,} more" if shown and n_items > len(shown) else ""
    return f"{n_items:,} images{': ' if shown else ''}{', '.join(shown)}{more}"


def _comparison(found: Comparison) -> list[str]:
    quality = "" if found.mean_psnr is None else f"; PSNR {found.mean_psnr:.2f} dB mean, largest error {found.max_error} steps"
    lines = [
        f"against {printable(found.source)}: {found.n_items:,} images compared, {found.n_equal:,} equal{quality}; "
        f"{found.n_missing:,} missing there, {found.n_extra:,} there besides, {found.n_unreadable:,} unreadable there"
    ]
    if found.n_equal < found.n_items:
        rows = [(printable(x.name), str(x.max_error), f"{x.mse:.3f}", f"{x.psnr:.2f}") for x in found.worst if x.max_error]
        lines += ["", table(rows, ("worst items", "max error", "MSE", "dB"))]
    return lines


def repair_text(report: RepairReport) -> str:
    """What was kept and what was lost."""
    lines = [f"{printable(report.target)}: {report.n_items:,} images in {report.n_groups:,} groups, {size(report.n_bytes)}"]
    if report.restored:
        n_bytes = sum(end - start for start, end in report.restored)
        lines.append(f"restored from parity: {size(n_bytes)} in {len(report.restored):,} places")
    if report.rebuilt:
        lines.append(f"made anew: {', '.join(report.rebuilt)}")
    if report.identical:
        lines.append("nothing was lost: the archive is, byte for byte, what it was")
        return "\n".join(lines)
    if report.n_lost_groups:
        lines.append(f"LOST {report.n_lost_items:,} images in {report.n_lost_groups:,} groups")
    lines += [_lost(lost) for lost in report.lost[:MAX_LINES]]
    if len(report.lost) > MAX_LINES:
        lines.append(f"  and {len(report.lost) - MAX_LINES:,} more losses (--json lists all)")
    if not report.lost:
        lines.append("the end of the file is missing, and what stood there is not known")
    if report.unnamed:
        first = report.unnamed[0]
        lines.append(
            f"{report.n_unnamed_items:,} images are kept under new names, such as {first.first_name}: {printable(first.reason)}"
        )
    if report.names_without_item:
        lines.append(f"names without an image of theirs: {_names(report.names_without_item, len(report.names_without_item))}")
    return "\n".join(lines)


def _lost(lost: Lost) -> str:
    number = "" if lost.group is None else f" {lost.group}"
    n_items = f" [{_names(lost.items, lost.n_items)}]" if lost.n_items else ""
    return f"  bytes {lost.start:,} to {lost.end:,}: {lost.block}{number}: {printable(lost.reason)}{n_items}"
